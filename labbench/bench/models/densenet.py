"""Densely connected networks: every layer sees the outputs of all before it in its block."""

from collections import OrderedDict
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from labbench.bench.models.parts import blocks_per_stage, check_size, he_normal

WIDENING = 4  # a bottleneck's 1×1 convolution has four times the growth
PLAIN_STEM = 16


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    depth: Annotated[int, Meta(ge=7, le=1000, description="layers: 6n + 4 with bottlenecks, 3n + 4 without")] = 100,
    growth: Annotated[int, Meta(ge=1, le=128, description="channels that each layer adds, k in the paper")] = 12,
    bottleneck: Annotated[bool, Meta(description="a 1×1 conv to 4k channels before each 3×3 conv (DenseNet-B)")] = True,
    compression: Annotated[
        float, Meta(gt=0, le=1, description="share of the channels behind a transition (DenseNet-C below 1)")
    ] = 0.5,
) -> nn.Module:
    """DenseNet-BC: 100 layers that each add 12 channels to what they see

    Huang et al., Densely connected convolutional networks, CVPR 2017, section 3.
    On 3×32×32 and 10 classes DenseNet-BC has 769,162 parameters with depth 100 and growth 12, 25,624,430 with depth
    190 and growth 40. Other depths than 6n + 4 (with bottlenecks) or 3n + 4 (without) are refused.
    """
    check_size("densenet", shape, 4, 4)
    kind = "with bottlenecks" if bottleneck else "without bottlenecks"
    n = blocks_per_stage(f"densenet {kind}", depth, 6 if bottleneck else 3, 4)
    width = 2 * growth if bottleneck and compression < 1 else PLAIN_STEM
    model = nn.Sequential(OrderedDict(conv1=nn.Conv2d(shape[0], width, 3, padding=1, bias=False)))
    for number in (1, 2, 3):
        block = nn.Sequential()
        for _ in range(n):
            block.append(DenseLayer(width, growth, bottleneck))
            width += growth
        model.add_module(f"block{number}", block)
        if number < 3:
            after = max(1, int(width * compression))
            model.add_module(f"transition{number}", _transition(width, after))
            width = after
    for name, module in {
        "bn": nn.BatchNorm2d(width),
        "relu": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(width, classes),
    }.items():
        model.add_module(name, module)
    he_normal(model)
    return model


class DenseLayer(nn.Module):
    """Adds channels to its input: batch norm, ReLU and a 3×3 convolution, or with a 1×1 bottleneck before it."""

    def __init__(self, before: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        inner = WIDENING * growth
        self.bn1 = nn.BatchNorm2d(before)
        if bottleneck:
            self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(inner)
            self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(before, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×(before + growth)×H×W."""
        out = self.conv1(F.relu(self.bn1(x)))
        if self.bottleneck:
            out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat((x, out), 1)


def _transition(before: int, after: int) -> nn.Sequential:
    """N×before×H×W to N×after×H/2×W/2."""
    return nn.Sequential(
        OrderedDict(
            bn=nn.BatchNorm2d(before),
            relu=nn.ReLU(),
            conv=nn.Conv2d(before, after, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )
