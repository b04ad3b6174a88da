"""The models that can be opened. Adding one: a file with a build function, a line here, a test of its parameters."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from labbench.bench.models import lenet_5, lenet_300_100, resnet


class Model(NamedTuple):
    """A menu entry: the docstring of `build` names it, its keyword-only arguments are its options."""

    build: Callable[..., nn.Module]
    """(shape C×H×W, classes, **options) → module that turns N×C×H×W into logits N×classes."""
    side: int
    """Height and width that smaller images are resized to."""


MODELS: dict[str, Model] = {
    "lenet-5": Model(lenet_5.build, 28),
    "lenet-300-100": Model(lenet_300_100.build, 28),
    "resnet-20": Model(resnet.resnet_20, 32),
    "resnet-18": Model(resnet.resnet_18, 32),
}
