"""Small networks to walk over, built otherwise than those of the catalogue. Parts are named as a ResNet's."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labbench.bench.models.resnet import ResNet


class Plain(nn.Module):
    """A trunk of one image channel, a middle that differs, and a head."""

    def __init__(self, classes: int, middle: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = middle
        self.layer2 = after or nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12))
        self.fc = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())).relu()
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class Functional(nn.Module):
    """A convolution as a function of a parameter, beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 8, 3, 3) / 8)
        self.conv2 = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(x).relu() + F.conv2d(x, self.kernel, padding=1)


class Shared(nn.Module):
    """One convolution that is used twice, with a norm of its own each time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.first, self.second = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.conv2(self.first(self.conv2(x)).relu()))
        return out


class Counting(nn.Module):
    """A layer that moves a buffer of its own in training, and multiplies by it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        out: Tensor = self.conv2(x) * (1 + self.seen / 100)
        return out


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "A": lambda classes: ResNet(1, classes, widths=(8, 16), blocks=(1, 1), shortcut="A"),
    "B": lambda classes: ResNet(1, classes, widths=(8, 16), blocks=(1, 1), shortcut="B"),
    "slopes": lambda classes: Plain(classes, nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8))),
    "one slope": lambda classes: Plain(classes, nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.PReLU())),
    "groups": lambda classes: Plain(
        classes, nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.GroupNorm(4, 8))
    ),
    "each channel": lambda classes: Plain(classes, nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.ReLU())),
    "transposed": lambda classes: Plain(classes, nn.Sequential(nn.ConvTranspose2d(8, 8, 2, stride=2), nn.ReLU())),
    "functional": lambda classes: Plain(classes, Functional()),
    "shared": lambda classes: Plain(classes, Shared()),
    "counting": lambda classes: Plain(classes, Counting()),
}
