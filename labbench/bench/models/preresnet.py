"""Residual networks of blocks that normalize and activate before each convolution."""

from collections import OrderedDict
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from labbench.bench.models.parts import (
    BlockOption,
    DepthOption,
    Shortcut,
    ShortcutOption,
    ZeroPad,
    blocks_per_stage,
    he_normal,
    stages,
)

WIDTHS = (16, 32, 64)


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    depth: DepthOption = 20,
    block: BlockOption = "basic",
    shortcut: ShortcutOption = "B",
) -> nn.Module:
    """PreResNet of any depth: batch norm and ReLU before each convolution

    He et al., Identity mappings in deep residual networks, ECCV 2016.
    Option B is a 1×1 convolution without batch norm, on what enters the block. On 3×32×32 and 10 classes depth 20 has
    272,282 parameters, depth 56 has 855,578, depth 110 has 1,730,522. Other depths than 6n + 2 (basic) or 9n + 2
    (bottleneck) are refused.
    """
    kind = BasicBlock if block == "basic" else Bottleneck
    n = blocks_per_stage(f"preresnet of {block} blocks", depth, 3 * kind.DEPTH, 2)
    outputs = [width * kind.EXPANSION for width in WIDTHS]
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(shape[0], WIDTHS[0], 3, padding=1, bias=False),
            **stages(WIDTHS[0], outputs, (n, n, n), partial(kind, shortcut=shortcut)),
            bn=nn.BatchNorm2d(outputs[-1]),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(outputs[-1], classes),
        )
    )
    he_normal(model)
    return model


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut, each behind its batch norm and ReLU."""

    DEPTH, EXPANSION = 2, 1

    def __init__(self, before: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = _shortcut(before, width, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×width×H/stride×W/stride."""
        out = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(out))) + self.shortcut(x)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions around a shortcut, each behind its batch norm and ReLU."""

    DEPTH, EXPANSION = 3, 4

    def __init__(self, before: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        inner = width // self.EXPANSION
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.shortcut = _shortcut(before, width, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×width×H/stride×W/stride."""
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return self.conv3(F.relu(self.bn3(out))) + self.shortcut(x)


def _shortcut(before: int, width: int, stride: int, option: Shortcut) -> nn.Module:
    if stride == 1 and before == width:
        return nn.Identity()
    if option == "A":
        return ZeroPad(stride, width - before)
    return nn.Conv2d(before, width, 1, stride, bias=False)
