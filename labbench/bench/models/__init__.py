"""The models that can be opened. Adding one: a file with a build function, a line here, a test of its parameters."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from labbench.bench.models import (
    alexnet,
    cp_resnet,
    densenet,
    lenet_5,
    lenet_300_100,
    preresnet,
    resnet,
    resnet_18_head,
    resnext,
    vgg,
    wrn,
)


class Model(NamedTuple):
    """A menu entry. The keyword-only arguments of `build` are its options, without those that a `partial` has bound."""

    build: Callable[..., nn.Module]
    """(shape C×H×W, classes, **options) → module that turns N×C×H×W into logits N×classes.

    Raises `BenchError` where the options do not go together or the images are too small.
    """
    side: int
    """Height and width that smaller images are resized to."""
    title: str = ""
    """The menu line of a family's member; else it is the first line of the docstring of `build`."""

    parameters: int = 0
    """With 10 classes, where counting them takes a second since torchvision is imported for it; 0: they are counted."""

    @property
    def doc(self) -> str:
        """Title, an empty line, the source in one line, more."""
        function = self.build.func if isinstance(self.build, partial) else self.build
        first, _, rest = (inspect.getdoc(function) or "").partition("\n")
        return f"{self.title or first}\n{rest}"


def _vgg(depth: vgg.Depth) -> Model:
    title = f"VGG-{depth}: {sum(vgg.CONVOLUTIONS[depth])} convolutions of 64 to 512 filters and one linear layer"
    return Model(partial(vgg.build, depth=depth), 32, title)


def _resnet(depth: int) -> Model:
    title = f"ResNet-{depth}: {depth - 1} convolutions of 16, 32 and 64 filters, residual"
    return Model(partial(resnet.build, depth=depth, block="basic"), 32, title)


def _preresnet(depth: int) -> Model:
    title = f"PreResNet-{depth}: ResNet-{depth} with batch norm and ReLU before each convolution"
    return Model(partial(preresnet.build, depth=depth, block="basic"), 32, title)


MODELS: dict[str, Model] = {
    "lenet-5": Model(lenet_5.build, 28),
    "lenet-300-100": Model(lenet_300_100.build, 28),
    "cp-resnet": Model(cp_resnet.build, 28),
    "alexnet": Model(alexnet.build, 32),
    **{f"vgg-{depth}": _vgg(depth) for depth in vgg.CONVOLUTIONS},
    **{f"resnet-{depth}": _resnet(depth) for depth in (20, 32, 44, 56, 110)},
    "resnet": Model(resnet.build, 32),
    "resnet-18": Model(resnet.resnet_18, 32),
    "resnet-18-head": Model(resnet_18_head.build, 32, parameters=11_228_822),
    **{f"preresnet-{depth}": _preresnet(depth) for depth in (20, 56, 110)},
    "preresnet": Model(preresnet.build, 32),
    "wrn": Model(wrn.build, 32),
    "resnext": Model(resnext.build, 32),
    "densenet": Model(densenet.build, 32),
}
