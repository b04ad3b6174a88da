"""Residual networks for small images: the thin ones of He et al. section 4.2 at any depth, and ResNet-18."""

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
    shortcut: ShortcutOption = "A",
) -> nn.Module:
    """ResNet of any depth for small images: stages of 16, 32 and 64 filters

    He et al., Deep residual learning, CVPR 2016, section 4.2.
    A 3×3 stem, three stages of n blocks that halve the image twice, average pooling, one linear layer. On 3×32×32 and
    10 classes depth 20 has 269,722 parameters with option A and 272,474 with option B, depth 110 has 1,730,714 with
    option B. Other depths than 6n + 2 (basic) or 9n + 2 (bottleneck) are refused.
    """
    kind = BasicBlock if block == "basic" else Bottleneck
    n = blocks_per_stage(f"resnet of {block} blocks", depth, 3 * kind.DEPTH, 2)
    return ResNet(shape[0], classes, widths=WIDTHS, blocks=(n, n, n), shortcut=shortcut, block=kind)


def resnet_18(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """ResNet-18 with a 3×3 stem, as it is used at 32×32

    He et al., Deep residual learning, CVPR 2016, table 1.
    With stride 1 and no pooling in the stem. 11,173,962 parameters on 3×32×32 and 10 classes.
    """
    return ResNet(shape[0], classes, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), shortcut="B")


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    DEPTH, EXPANSION = 2, 1

    def __init__(self, before: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(before, width, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×width×H/stride×W/stride."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1 around a shortcut; inside it is a quarter as wide."""

    DEPTH, EXPANSION = 3, 4

    def __init__(self, before: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        inner = width // self.EXPANSION
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(before, width, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×width×H/stride×W/stride."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3×3 stem, stages of blocks that halve the image from the second on, average pooling, one linear layer."""

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        shortcut: Shortcut,
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
    ) -> None:
        """`widths` are the filters of the 3×3 convolutions in each stage; the stem has as many as the first."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        outputs = [width * block.EXPANSION for width in widths]
        made = stages(widths[0], outputs, blocks, partial(block, shortcut=shortcut))
        self.stages = list(made)
        for name, stage in made.items():
            self.add_module(name, stage)
        self.fc = nn.Linear(outputs[-1], classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images N×C×H×W to logits N×classes."""
        x = F.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _shortcut(before: int, width: int, stride: int, option: Shortcut) -> nn.Module:
    if stride == 1 and before == width:
        return nn.Identity()
    if option == "A":
        return ZeroPad(stride, width - before)
    return nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
