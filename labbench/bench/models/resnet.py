"""Residual networks of basic blocks for small images: the thin ones of He et al. section 4.2 and ResNet-18."""

from typing import Annotated, Literal

import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

Shortcut = Literal["A", "B"]


def resnet_20(
    shape: tuple[int, int, int],
    classes: int,
    *,
    shortcut: Annotated[Shortcut, Meta(description="where shapes change: A pads with zeros, B is a 1×1 conv")] = "A",
) -> nn.Module:
    """ResNet-20: 19 convolutions of 16, 32 and 64 filters, residual

    He et al. 2015, section 4.2. On 3×32×32 and 10 classes 269,722 parameters with option A, 272,474 with option B.
    """
    return ResNet(shape[0], classes, widths=(16, 32, 64), blocks=(3, 3, 3), shortcut=shortcut)


def resnet_18(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """ResNet-18 with a 3×3 stem, as it is used at 32×32

    He et al. 2015, table 1, with stride 1 and no pooling in the stem. 11,173,962 parameters on 3×32×32 and 10 classes.
    """
    return ResNet(shape[0], classes, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), shortcut="B")


class ResNet(nn.Module):
    """A 3×3 stem, stages of basic blocks that halve the image from the second on, average pooling, one linear layer."""

    def __init__(
        self, channels: int, classes: int, widths: tuple[int, ...], blocks: tuple[int, ...], shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        before = widths[0]
        for name, width, count in zip(self.stages, widths, blocks, strict=True):
            strides = [1 if name == "layer1" else 2] + [1] * (count - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(BasicBlock(before, width, stride, shortcut))
                before = width
            self.add_module(name, stage)
        self.fc = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images N×C×H×W to logits N×classes."""
        x = F.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    def __init__(self, before: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module
        if stride == 1 and before == width:
            self.shortcut = nn.Identity()
        elif shortcut == "A":
            self.shortcut = ZeroPad(stride, width - before)
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×width×H/stride×W/stride."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ZeroPad(nn.Module):
    """Shortcut A: every second pixel, new channels zero, half of them before and half after the old ones."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×(C + channels)×H/stride×W/stride."""
        before = self.channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.channels - before))
