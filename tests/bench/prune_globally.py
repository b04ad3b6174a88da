"""Global magnitude pruning against torch.nn.utils.prune.global_unstructured, on networks of 20 to 36 M weights.

    python tests/bench/prune_globally.py [--rounds 5] [--json FILE]

Of labbench two sides: the choice and the zeros alone, which is what torch's does, and the whole operation, which gives
a new state and keeps the old one: a copy of the model, masks, and the values that the zeros had. One thread each.
"""

import argparse
import copy
from collections.abc import Iterator

import torch
from bench_examples import noise, state_of
from side_by_side import Timed, arguments, show, side_by_side
from torch import nn
from torch.nn.utils import prune as torch_prune

from labbench.bench.apply import apply
from labbench.bench.methods import magnitude
from labbench.bench.models import MODELS
from labbench.bench.states.state import State
from labbench.bench.states.surgery import zero_weights
from labbench.bench.threads import one_thread
from labbench.bench.tools import Tools
from labbench.session.operations import Prune

SHAPE = (3, 32, 32)


def by_torch(model: nn.Module, names: list[str], amount: float) -> None:
    """As its documentation shows it; weights that were masked before are masked anew."""
    layers = [(model.get_submodule(name), "weight") for name in names]
    torch_prune.global_unstructured(layers, pruning_method=torch_prune.L1Unstructured, amount=amount)


def by_choice(model: nn.Module, names: list[str], amount: float) -> None:
    """Of labbench what chooses, and what zeroes."""
    weights = {name: model.get_parameter(f"{name}.weight").detach() for name in names}
    alive = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    count = round(amount * sum(weight.numel() for weight in weights.values()))
    removed = magnitude.select(weights, alive, count, torch.Generator())
    zero_weights(model, {name: ~gone for name, gone in removed.items()})


def compared(name: str, amount: float, options: argparse.Namespace) -> Timed:
    """One network, pruned from dense each time; all sides take the same weights, or it ends here."""
    torch.manual_seed(0)
    state = state_of(MODELS[name].build(SHAPE, 10), noise(SHAPE))
    names = [layer.name for layer in state.layers if layer.prunable]
    weights = sum(layer.weights for layer in state.layers if layer.prunable)
    _check(state, names, amount)
    fresh: list[nn.Module] = []

    def prepare(sides: int) -> None:
        fresh.extend(copy.deepcopy(state.model) for _ in range(sides))

    prepare(2 * (options.rounds + 1))
    operation, tools = Prune(amount=amount, scope="global"), Tools(lambda *_: state.data)
    return side_by_side(
        f"{name}, {weights / 1e6:.1f} M weights to {amount:.0%}",
        {
            "torch.nn.utils.prune": lambda: by_torch(fresh.pop(), names, amount),
            "labbench: choice and zeros": lambda: by_choice(fresh.pop(), names, amount),
            "labbench: the whole operation": lambda: apply(operation, state, tools),
        },
        options.rounds,
    )


def _check(state: State, names: list[str], amount: float) -> None:
    theirs, ours = copy.deepcopy(state.model), copy.deepcopy(state.model)
    by_torch(theirs, names, amount)
    by_choice(ours, names, amount)
    whole = apply(Prune(amount=amount, scope="global"), state, Tools(lambda *_: state.data)).state
    for name in names:
        zeros = [model.get_submodule(name).weight == 0 for model in (theirs, ours, whole.model)]
        assert torch.equal(zeros[1], zeros[2]), name
        assert int((zeros[0] != zeros[1]).sum()) <= 2, name  # of equal weights each takes others


def cases(options: argparse.Namespace) -> Iterator[Timed]:
    """Networks and amounts."""
    with one_thread():
        for name in options.models:
            for amount in (0.5, 0.9):
                yield compared(name, amount, options)


if __name__ == "__main__":
    parser = arguments(__doc__.splitlines()[0], rounds=5)
    parser.add_argument("--models", nargs="+", default=("vgg-19", "wrn"), choices=tuple(MODELS), metavar="MODEL")
    chosen = parser.parse_args()
    show(chosen, cases(chosen))
