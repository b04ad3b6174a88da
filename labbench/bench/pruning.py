"""Pruning by a method of the catalogue: how much has to go, who chooses it, and what the state is afterwards."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor, nn

from labbench.bench import surgery
from labbench.bench.choice import Chosen, checked_options, shortened
from labbench.bench.errors import BenchError
from labbench.bench.methods import METHODS
from labbench.bench.state import Kept, State, inputs_of
from labbench.session.check import listed, meant
from labbench.session.operations import Prune, percent

ROUNDING = 1e-9  # 10 × (1 − 0.9) is 0.999…: the channels that are kept are counted with this much grace


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
    options = checked_options(method.select, operation.options, operation.method)
    loaded = {layer.name: layer.weights for layer in state.layers}
    weights = {name: state.weight(name).cpu() for name in chosen.layers}  # the same choice on every device
    alive = {
        n: state.masks[n].cpu() if n in state.masks else torch.ones_like(w, dtype=torch.bool)
        for n, w in weights.items()
    }
    groups = [[name] for name in weights] if operation.scope == "layer" else [list(weights)]
    generator = torch.Generator().manual_seed(operation.seed)
    masks, remarks = dict(state.masks), list(chosen.remarks)
    idle = []
    for names in groups:
        gone = sum(loaded[name] - int(alive[name].sum()) for name in names)
        count = round(operation.amount * sum(loaded[name] for name in names)) - gone
        if count <= 0:
            idle += names
            continue
        removed = method.select(
            {n: weights[n] for n in names}, {n: alive[n] for n in names}, count, generator, **options
        )
        masks |= {name: (alive[name] & ~removed[name]).to(state.device) for name in names}
    touched = [name for name in weights if name not in idle]
    if not touched:
        raise BenchError(
            f"{shortened(idle)}: already at {percent(operation.amount)} or more; ask for more, or unprune first"
        )
    if idle:
        remarks.append(f"left as they are, already at {percent(operation.amount)} or more: {shortened(idle)}")
    model = state.copy_model()
    surgery.zero_weights(model, {name: masks[name] for name in touched})
    untied = [name for name in touched if name in state.clusters]
    if untied:
        remarks.append(f"no longer clustered, because single weights went: {shortened(untied)}")
    words = f"{operation.method} {percent(operation.amount)}"
    return replace(
        state,
        model=model,
        masks=masks,
        clusters={name: labels for name, labels in state.clusters.items() if name not in untied},
        last={**state.last, **dict.fromkeys(touched, words)},
        accuracy={},
    ), tuple(remarks)


@dataclass(frozen=True)
class Plan:
    """One group and how many of its channels shall go."""

    group: surgery.Group
    loaded: int
    scores: Tensor

    def lowest(self, count: int) -> list[int]:
        """The channels with the lowest scores; of equals the first."""
        return sorted(self.scores.argsort(stable=True)[:count].tolist())


def cut(operation: Prune, state: State, chosen: Chosen) -> tuple[State, tuple[str, ...]]:
    """The state with filters removed, really smaller, and remarks.

    Scope layer keeps int(c·(1−amount)) of c loaded channels in each group, never less than one; scope global ranks the
    channels of all groups together. A group that would change a frozen layer is not cut.
    """
    method = METHODS[operation.method]
    options = checked_options(method.score, operation.options, operation.method)
    cpu = torch.device("cpu")
    before = state.copy_model().to(cpu)
    graph = surgery.Graph(copy.deepcopy(before), state.data.shape)
    remarks = list(chosen.remarks)
    plans: list[Plan] = []
    whole: dict[str, list[str]] = {}
    for name in chosen.layers:
        if any(name in plan.group.outputs for plan in plans):
            continue
        try:
            group = graph.group(name)
            _refuse_frozen(group, state)
            surgery.refuse_shared(group, state.model)
        except surgery.Uncuttable as error:
            if name in chosen.literal:
                raise
            whole.setdefault(error.reason, []).append(name)
            continue
        loaded = next(layer.channels for layer in state.layers if layer.name == name)
        scores = torch.zeros(1)  # the only channel of a group stays: nothing to compare it with
        if group.channels > 1:
            scores = group.scores(lambda found: method.score(found, **options)).nan_to_num(0.0)
        plans.append(Plan(group, loaded, scores))
    remarks += [f"left whole: {shortened(names)}, because {reason}" for reason, names in whole.items()]
    counts = _local_counts(operation, plans) if operation.scope == "layer" else _global_counts(operation, plans)
    if operation.scope == "global" and plans and sum(counts) < (asked := _global_target(operation, plans)):
        remarks.append(f"{sum(counts)} of {asked} channels went: one of each group stays")
    if not any(counts):
        why = f": {'; '.join(remarks)}" if not plans and remarks else ""
        already = f"; every group is already at {percent(operation.amount)}, or one filter each" if plans else ""
        raise BenchError(f"nothing to cut in {listed(operation.layers)}{already}{why}")
    gone: dict[str, tuple[set[int], set[int]]] = {}
    for plan, count in zip(plans, counts, strict=True):
        if count:
            gone |= _merged(gone, graph.cut(plan.group, plan.lowest(count)))
            remarks += _coupled(plan.group, chosen)
    surgery.check_twin(before, graph.model, gone, state.data.shape)
    return _smaller(operation, state, graph.model, gone), tuple(remarks)


def _refuse_frozen(group: surgery.Group, state: State) -> None:
    for name, side in [(n, "filters") for n in group.outputs] + [(n, "inputs") for n in group.inputs]:
        if name in state.frozen:
            raise surgery.Uncuttable(
                group.root,
                f"that would remove {side} of {name}, which is frozen; unfreeze {name} first, or cut elsewhere",
            )


def _local_counts(operation: Prune, plans: list[Plan]) -> list[int]:
    kept = [max(1, math.floor(plan.loaded * (1 - operation.amount) + ROUNDING)) for plan in plans]
    return [max(0, plan.group.channels - keep) for plan, keep in zip(plans, kept, strict=True)]


def _global_target(operation: Prune, plans: list[Plan]) -> int:
    loaded, now = sum(plan.loaded for plan in plans), sum(plan.group.channels for plan in plans)
    return round(operation.amount * loaded) - (loaded - now)


def _global_counts(operation: Prune, plans: list[Plan]) -> list[int]:
    count = _global_target(operation, plans)
    spare = [plan.scores.sort().values[:-1] for plan in plans]  # one channel of each group stays
    ranked = sorted((float(score), number) for number, scores in enumerate(spare) for score in scores)
    first = [number for _, number in ranked[: max(0, count)]]
    return [first.count(number) for number in range(len(plans))]


def _merged(
    one: Mapping[str, tuple[set[int], set[int]]], other: Mapping[str, tuple[set[int], set[int]]]
) -> dict[str, tuple[set[int], set[int]]]:
    nothing: tuple[set[int], set[int]] = (set(), set())
    return {
        name: (one.get(name, nothing)[0] | gone[0], one.get(name, nothing)[1] | gone[1]) for name, gone in other.items()
    }


def _coupled(group: surgery.Group, chosen: Chosen) -> list[str]:
    others = [name for name in group.outputs if name in chosen.prunable and name != group.root]
    return [f"{group.root} is coupled with {shortened(others)}: they lose the same filters"] if others else []


def _smaller(operation: Prune, state: State, model: nn.Module, gone: Mapping[str, tuple[set[int], set[int]]]) -> State:
    layers = {layer.name: layer for layer in state.layers}
    kept = dict(state.kept)
    masks, clusters = dict(state.masks), dict(state.clusters)
    for name, (outputs, inputs) in gone.items():
        old = state.module(name)
        now_out, now_in = len(state.weight(name)), inputs_of(old)
        kept[name] = Kept(
            surgery.remaining(state.kept.get(name), outputs, layers[name].channels, out=True),
            surgery.remaining(state.kept.get(name), inputs, layers[name].inputs, out=False),
        )
        rest = Kept(
            tuple(c for c in range(now_out) if c not in outputs), tuple(c for c in range(now_in) if c not in inputs)
        )
        if name in masks:
            masks[name] = surgery.sliced(masks[name], rest)
        if name in clusters:
            clusters[name] = surgery.sliced(clusters[name], rest).unique(return_inverse=True)[1]
    words = f"cut {percent(operation.amount)}"
    touched = [name for name, (outputs, _) in gone.items() if outputs and layers[name].prunable]
    return replace(
        state,
        model=model.to(state.device).eval().requires_grad_(True),
        kept=kept,
        masks=masks,
        clusters=clusters,
        last={**state.last, **dict.fromkeys(touched, words)},
        accuracy={},
    )
