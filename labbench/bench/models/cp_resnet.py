"""CP-ResNet: a small residual network for spectrograms whose receptive field is an option."""

import math
from collections import OrderedDict
from typing import Annotated, Literal

import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.models.parts import check_size, he_normal, whole_numbers

NEVER = math.inf
FROM_RHO = (((0, NEVER), (2, 3)), ((4, 5), (6, 7)), ((8, 9), (10, 11)))
"""By stage and block: the rho from which on its two convolutions are 3×3; below it they are 1×1."""


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    rho: Annotated[int, Meta(ge=1, le=11, description="receptive field: 91×39 at 4; each step adds 32×8")] = 4,
    widths: Annotated[str, Meta(description='filters of the three stages, such as "24 48 72"')] = "32 64 128",
    blocks: Annotated[str, Meta(description='blocks of each stage, 1 or 2, such as "2 1 1"')] = "2 2 2",
    groups: Annotated[str, Meta(description='groups of the convs in each stage, such as "1 2 1"')] = "1 1 1",
    first_activation: Annotated[Literal["relu", "hardswish"], Meta(description="behind the 5×5 stem")] = "relu",
) -> nn.Module:
    """CP-ResNet: residual, for spectrograms, with a chosen receptive field

    Koutini et al., Receptive field regularization, 2021; CP-JKU at DCASE 2022, task 1.
    Input 1×frequency×time; the stem and four poolings leave 1/16 of the frequencies and 1/4 of the frames. rho sets how
    many convolutions are 3×3 and with it the receptive field (frequency × time): 43×23 at 2, 59×31 at 3, 91×39 at 4,
    219×71 at 8. 131,316 parameters with 10 classes, 59,804 with widths 24 48 72. Convolutions begin as He et al. 2015
    (fan in).
    """
    check_size("cp-resnet", shape, 17, 5)
    width = whole_numbers("widths", widths, 1, 4096, "24 48 72")
    count = whole_numbers("blocks", blocks, 1, 2, "2 1 1")
    group = whole_numbers("groups", groups, 1, 4096, "1 2 1")
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(shape[0], width[0], 5, stride=2, padding=1, bias=False),
            bn1=nn.BatchNorm2d(width[0]),
            activation=nn.Hardswish() if first_activation == "hardswish" else nn.ReLU(),
        )
    )
    before = width[0]
    for number, after in enumerate(width):
        if before % group[number] or after % group[number]:
            raise BenchError(
                f"groups: {group[number]} groups in stage {number + 1} must divide its {before} inputs and {after} "
                "filters"
            )
        stage = nn.Sequential()
        for place, thresholds in enumerate(FROM_RHO[number][: count[number]], 1):
            first, second = (3 if rho >= threshold else 1 for threshold in thresholds)
            stage.add_module(f"block{place}", Block(before, after, first, second, group[number]))
            before = after
        model.add_module(f"stage{number + 1}", _pooled(stage) if number == 0 else stage)
    head = OrderedDict(conv=nn.Conv2d(before, classes, 1, bias=False), bn=nn.BatchNorm2d(classes))
    model.add_module("head", nn.Sequential(head))
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    he_normal(model, "fan_in")  # CP-JKU then sets second convolutions to zero (Fixup): here they would count as pruned
    return model


class Block(nn.Module):
    """Two convolutions of any odd kernel around a shortcut, the size of the image kept."""

    def __init__(self, before: int, width: int, first: int, second: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, first, padding=first // 2, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, second, padding=second // 2, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, groups=groups, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """N×before×H×W to N×width×H×W."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


def _pooled(stage: nn.Sequential) -> nn.Sequential:
    """The first stage halves frequency and time before its first block, and frequency alone behind each block."""
    pooled = nn.Sequential(OrderedDict(pool=nn.MaxPool2d(2)))
    for number, (name, block) in enumerate(stage.named_children(), 1):
        pooled.add_module(name, block)
        pooled.add_module(f"pool{number}", nn.MaxPool2d((2, 1)))
    return pooled
