"""Small networks, one for each construct that cuts have to do with: `chain` builds most of them."""

from collections.abc import Callable

import torch
from bench_examples import noise, state_of
from torch import Tensor, nn

from labbench.bench.states.state import State

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """Its parts by name, and what it does with them and the images."""

    def __init__(self, forward: Callable[["Net", Tensor], Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self.does = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


def opened(forward: Callable[[Net, Tensor], Tensor], **parts: nn.Module | Tensor) -> State:
    """The state of a network of `a`, 3 → 8 channels, `b`, 8 → 12, and `l`, 12 → 10, unless others are given."""
    standard = {"a": conv(3, 8), "b": conv(8, 12), "l": nn.Linear(12, 10)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return state_of(Net(forward, **{**standard, **parts}), noise(SHAPE, images=8))


def conv(inputs: int, outputs: int, **options: int) -> nn.Conv2d:
    """3 × 3, padded, always of the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(inputs * 100 + outputs)
        return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def answers(net: Net, x: Tensor) -> Tensor:
    """The end of most networks: `b`, its mean over the image, `l`."""
    return net.l(net.b(x).relu().mean((2, 3)))


def widths(state: State) -> dict[str, int]:
    return {layer.name: len(state.weight(layer.name)) for layer in state.layers if layer.prunable}
