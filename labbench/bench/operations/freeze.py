"""Keeps layers as they are through finetuning."""

import itertools
import math
from dataclasses import replace

from labbench.bench.errors import BenchError
from labbench.bench.states.chosen_layers import choose, shortened
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.check import listed
from labbench.session.operations import Freeze, percent

ROUNDING = 1e-9  # a share that is met exactly is met, whatever floats say


def apply(operation: Freeze, state: State, tools: Tools) -> Applied:
    """The state with more names frozen. Norms can be named themselves, too, or by a glob that matches only norms."""
    chosen = choose(state, operation.layers, norms=True)
    remarks: tuple[str, ...] = ()
    if operation.types != "all" or operation.first < 1:
        names = set(first_of(operation, state, chosen.layers))
        remarks = (f"that is {shortened([name for name in chosen.layers if name in names])}",)
    else:
        named = {name for name in chosen.layers if name in chosen.prunable or name in chosen.literal}
        names = named or set(chosen.layers)
    if operation.norms:
        names |= {layer.norm for layer in state.layers if layer.name in names and layer.norm}
    if names <= state.frozen:
        raise BenchError(f"already frozen: {shortened(sorted(names))}")
    return Applied(replace(state, frozen=state.frozen | names), operation, remarks)


def first_of(operation: Freeze, state: State, names: tuple[str, ...]) -> tuple[str, ...]:
    """Of these, the conv and linear layers that `types`, `first` and `of` leave, in forward order.

    The first x of L layers are round(x·L). The first x of the weights are the most layers from the first on that
    together hold no more than that share: never more is frozen than was asked. Raises `BenchError` where that is none.
    """
    wanted = ("conv", "linear") if operation.types == "all" else (operation.types,)
    layers = [layer for layer in state.layers if layer.name in names and layer.kind in wanted]
    if not layers:
        raise BenchError(f"no {' or '.join(wanted)} layer is named by {listed(operation.layers)}")
    if operation.of == "layers":
        count, least = round(operation.first * len(layers)), 0.5 / len(layers)
    else:
        whole = sum(layer.weights for layer in layers)
        shares = [total / whole for total in itertools.accumulate(layer.weights for layer in layers)]
        count, least = sum(share <= operation.first + ROUNDING for share in shares), shares[0]
    if not count:
        raise BenchError(
            f"the first {percent(operation.first)} of {len(layers)} layers' {operation.of} is no layer at all; "
            f"{layers[0].name} alone needs {percent(math.ceil(1000 * least + 1) / 1000)}"
        )
    return tuple(layer.name for layer in layers[:count])
