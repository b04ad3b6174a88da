"""Wide residual networks: few blocks, many filters, dropout between the convolutions."""

from collections import OrderedDict
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from labbench.bench.models.parts import blocks_per_stage, he_normal, stages

STEM = 16


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    depth: Annotated[int, Meta(ge=10, le=1204, description="layers: 6n + 4")] = 28,
    widen: Annotated[int, Meta(ge=1, le=32, description="times 16, 32 and 64 filters")] = 10,
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="share of values dropped between the convs of a block in training")
    ] = 0.3,
) -> nn.Module:
    """Wide ResNet: 28 layers, ten times as wide as a ResNet for CIFAR

    Zagoruyko and Komodakis, Wide residual networks, BMVC 2016, table 1.
    Batch norm and ReLU before each convolution. WRN-28-10 has 36,479,194 parameters on 3×32×32 and 10 classes. Other
    depths than 6n + 4 are refused.
    """
    n = blocks_per_stage("wrn", depth, 6, 4)
    widths = [STEM * widen, 2 * STEM * widen, 4 * STEM * widen]
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(shape[0], STEM, 3, padding=1, bias=False),
            **stages(STEM, widths, (n, n, n), partial(WideBlock, dropout=dropout)),
            bn=nn.BatchNorm2d(widths[-1]),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(widths[-1], classes),
        )
    )
    he_normal(model)
    return model


class WideBlock(nn.Module):
    """Two 3×3 convolutions, each behind its batch norm and ReLU, with dropout between them."""

    def __init__(self, before: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.reshapes = stride != 1 or before != width
        self.shortcut = nn.Conv2d(before, width, 1, stride, bias=False) if self.reshapes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×width×H/stride×W/stride. A shortcut that convolves sees the normalized input."""
        active = F.relu(self.bn1(x))
        out = self.dropout(F.relu(self.bn2(self.conv1(active))))
        return self.conv2(out) + self.shortcut(active if self.reshapes else x)
