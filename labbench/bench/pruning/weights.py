"""Unstructured pruning: how many weights have to go, who chooses them, and what the state is afterwards."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from labbench.bench.errors import BenchError, NothingLeft
from labbench.bench.methods import METHODS, function_of, has_own_target
from labbench.bench.states import surgery
from labbench.bench.states.chosen_layers import Chosen, amounts_of, checked_options, refuse_endless, shortened
from labbench.bench.states.state import State, weight_of
from labbench.session.check import listed, meant
from labbench.session.operations import Prune, percent

Tensors: TypeAlias = dict[str, Tensor]
"""By layer name."""


def method_of(operation: Prune) -> ModuleType:
    """The module of the method, by its name. Raises `BenchError` for one that is not there."""
    if operation.method not in METHODS:
        raise BenchError(
            f"no such method: {operation.method}; the methods are {listed(METHODS)}{meant(operation.method, METHODS)}"
        )
    return METHODS[operation.method]


def zero(operation: Prune, state: State, chosen: Chosen) -> tuple[State, tuple[str, ...]]:
    """The state with the chosen weights held at zero, and remarks.

    The target counts what is gone against the loaded layer, cut away or zero. A layer at or beyond it stays as it is.
    """
    method = METHODS[operation.method]
    options = checked_options(function_of(method), operation.options, operation.method)
    if operation.round_to > 1:
        raise BenchError(f"round_to counts channels: {operation.method} takes single weights, so leave it out")
    weights = {name: state.weight(name).cpu() for name in chosen.layers}  # the same choice on every device
    refuse_endless({f"{name}.weight": weight for name, weight in weights.items()}, "nothing ranks them")
    alive = {
        n: state.masks[n].cpu() if n in state.masks else torch.ones_like(w, dtype=torch.bool)
        for n, w in weights.items()
    }
    if has_own_target(method):
        removed, remarks, words = _by_rule(operation, weights, alive, options)
    else:
        removed, remarks, words = _by_amount(operation, state, chosen, weights, alive, options)
    masks = {**state.masks, **{name: (alive[name] & ~removed[name]).to(state.device) for name in removed}}
    model = state.copy_model()
    surgery.zero_weights(model, {name: masks[name] for name in removed})
    untied = [name for name in removed if name in state.clusters]
    if untied:
        remarks.append(f"no longer clustered, because single weights went: {shortened(untied)}")
    return replace(
        state,
        model=model,
        masks=masks,
        values={
            **state.values,
            **{name: _last_values(state, name, weight_of(model, name).detach()) for name in removed},
        },
        clusters={name: labels for name, labels in state.clusters.items() if name not in untied},
        last={**state.last, **words},
        accuracy={},
    ), (*chosen.remarks, *remarks)


def _last_values(state: State, name: str, left: Tensor) -> Tensor:
    """What the weights that are held at zero now were before: just now, or when they were pruned."""
    gone = state.weight(name) - left  # 0 for all that stay, and for all that was held at zero before
    return gone + state.values[name] if name in state.values else gone


def _by_rule(
    operation: Prune, weights: Tensors, alive: Tensors, options: dict[str, object]
) -> tuple[Tensors, list[str], dict[str, str]]:
    """What goes by a rule of the method's own, remarks, and words for each layer."""
    if operation.amounts or operation.maximum < 1:
        field = "amounts" if operation.amounts else "maximum"
        raise BenchError(f"{operation.method} goes by a rule of its own: leave out {field}")
    found, notes = METHODS[operation.method].below(weights, alive, **options)
    removed = {name: gone for name, gone in found.items() if gone.any()}
    said = [f"{heading}: {listed(entries)}" for heading, entries in notes.items()]
    idle = [name for name in weights if name not in removed]
    if not removed:
        raise BenchError(
            f"{shortened(idle)}: nothing there that {operation.method} takes; {'; '.join(said)}".strip("; ")
        )
    if idle:
        said.append(f"left as they are, nothing there that {operation.method} takes: {shortened(idle)}")
    words = f"{operation.method} {':'.join(str(value) for value in options.values())}"
    return removed, said, dict.fromkeys(removed, words)


def _by_amount(
    operation: Prune, state: State, chosen: Chosen, weights: Tensors, alive: Tensors, options: dict[str, object]
) -> tuple[Tensors, list[str], dict[str, str]]:
    """What goes so that the amount is reached, remarks, and words for each layer."""
    amounts = amounts_of(operation, state, chosen)
    loaded = {layer.name: layer.weights for layer in state.layers}
    spare = {n: max(0, _trues(mask) - _least(operation, loaded[n])) for n, mask in alive.items()}
    generator = torch.Generator().manual_seed(operation.seed)

    def select(names: list[str], count: int) -> Tensors:
        found: Tensors = METHODS[operation.method].select(
            {n: weights[n] for n in names}, {n: alive[n] for n in names}, count, generator, **options
        )
        return found

    removed: Tensors = {}
    remarks: list[str] = []
    idle: dict[float, list[str]] = {}
    capped: list[str] = []
    for names in [[name] for name in weights] if operation.scope == "layer" else [list(weights)]:
        gone = sum(loaded[name] - _trues(alive[name]) for name in names)
        count = round(sum(amounts[name] * loaded[name] for name in names)) - gone
        if count <= 0:
            idle.setdefault(amounts[names[0]], []).extend(names)
            continue
        found, over = _clamped(select, names, count, spare)
        capped += over
        removed |= found
    said = [f"already at {percent(amount)} or more: {shortened(names)}" for amount, names in idle.items()]
    if not any(bool(gone.any()) for gone in removed.values()):
        if capped:
            raise NothingLeft(f"{shortened(capped)}: already at the maximum of {percent(operation.maximum)}")
        names = [name for some in idle.values() for name in some]
        reached = ", ".join(percent(amount) for amount in idle)
        raise NothingLeft(f"{shortened(names)}: already at {reached} or more; ask for more, or unprune first")
    if capped:
        remarks.append(f"no more than {percent(operation.maximum)} of a layer may go: {shortened(capped)}")
    if said:
        remarks += [f"left as they are, {words}" for words in said]
    return removed, remarks, {name: f"{operation.method} {percent(amounts[name])}" for name in removed}


def _trues(mask: Tensor) -> int:
    """How many, of a mask on the CPU: numpy counts them twenty times as fast as `sum`."""
    return int(np.count_nonzero(mask.numpy()))


def _least(operation: Prune, loaded: int) -> int:
    """Weights of a layer that must stay."""
    return loaded - math.floor(operation.maximum * loaded + 1e-9)


def _clamped(
    select: Callable[[list[str], int], Tensors], names: list[str], count: int, spare: dict[str, int]
) -> tuple[Tensors, list[str]]:
    """A choice of so many weights of these layers together, as far as the layers can spare them, and those that cannot.

    A layer that would lose too many loses all it can spare, and the others are chosen from again.
    """
    removed: Tensors = {}
    capped: list[str] = []
    rest = list(names)
    while rest and count:
        found = select(rest, min(count, sum(spare[name] for name in rest)) or 1)
        over = [name for name in rest if _trues(found[name]) > spare[name]]
        if not over:
            short = count > sum(spare[name] for name in rest)
            return removed | found, capped + (rest if short else [])
        for name in over:
            if spare[name]:
                removed |= select([name], spare[name])
            rest.remove(name)
            count -= spare[name]
        capped += over
    return removed, capped
