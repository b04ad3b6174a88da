"""Residual networks whose blocks do the same in many parallel groups."""

from collections import OrderedDict
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from labbench.bench.models.parts import blocks_per_stage, he_normal, stages

STEM = 64
OUTPUTS = (256, 512, 1024)


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    depth: Annotated[int, Meta(ge=11, le=1001, description="layers: 9n + 2")] = 29,
    cardinality: Annotated[int, Meta(ge=1, le=64, description="groups of the 3×3 convs")] = 8,
    width: Annotated[int, Meta(ge=1, le=256, description="filters of each group in the first stage; then 2×, 4×")] = 64,
) -> nn.Module:
    """ResNeXt-29, 8×64d: bottleneck blocks of grouped convolutions

    Xie et al., Aggregated residual transformations, CVPR 2017, section 5.3.
    Stages of 256, 512 and 1,024 outputs, blocks in the form of figure 3 (c). On 3×32×32 and 10 classes 8×64d has
    34,426,698 parameters, 16×64d has 68,155,210. Other depths than 9n + 2 are refused.
    """
    n = blocks_per_stage("resnext", depth, 9, 2)
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(shape[0], STEM, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(STEM),
            relu1=nn.ReLU(),
            **stages(STEM, OUTPUTS, (n, n, n), partial(GroupedBlock, cardinality=cardinality, width=width)),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(OUTPUTS[-1], classes),
        )
    )
    he_normal(model)
    return model


class GroupedBlock(nn.Module):
    """1×1, grouped 3×3 and 1×1 convolutions around a shortcut."""

    def __init__(self, before: int, outputs: int, stride: int, cardinality: int, width: int) -> None:
        super().__init__()
        inner = cardinality * width * outputs // OUTPUTS[0]
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if before != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(before, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×outputs×H/stride×W/stride."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))
