"""Pruning by a method of the catalogue: how much has to go, who chooses it, and what the state is afterwards."""

import copy
import math
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor, nn

from labbench.bench import surgery
from labbench.bench.centroids import compact
from labbench.bench.choice import Chosen, checked_options, shortened
from labbench.bench.errors import BenchError
from labbench.bench.methods import METHODS
from labbench.bench.state import Kept, State
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
    """One group and what is chosen among: its channels, or places in its blocks of channels."""

    group: surgery.Group
    loaded: int
    """Units of the loaded model."""
    scores: Tensor
    """Of each unit."""

    def lowest(self, count: int) -> list[int]:
        """The units with the lowest scores; of equals the first."""
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
            scores = scores.view(group.blocks, -1).mean(0)
        plans.append(Plan(group, loaded // group.blocks, scores))
    remarks += [f"left whole: {shortened(names)}, because {reason}" for reason, names in whole.items()]
    counts = _local_counts(operation, plans) if operation.scope == "layer" else _global_counts(operation, plans)
    if operation.scope == "global" and plans:
        remarks += _missed(plans, _channels(plans, counts), _global_target(operation, plans))
    if not any(counts):
        why = f": {'; '.join(remarks)}" if not plans and remarks else ""
        already = f"; every group is already at {percent(operation.amount)}, or one filter each" if plans else ""
        raise BenchError(f"nothing to cut in {listed(operation.layers)}{already}{why}")
    gone: surgery.Gone = {}
    for plan, count in zip(plans, counts, strict=True):
        if count:
            gone |= _merged(gone, plan.group.without(plan.lowest(count)))
            remarks += _coupled(plan.group, chosen)
    after = copy.deepcopy(before)
    surgery.remove_filters(after, gone)
    surgery.check_twin(before, after, gone, state.data.shape)
    return _smaller(operation, state, after, gone), tuple(remarks)


def _refuse_frozen(group: surgery.Group, state: State) -> None:
    for name, side in [(n, "filters") for n in group.outputs] + [(n, "inputs") for n in group.inputs]:
        if name in state.frozen:
            raise surgery.Uncuttable(
                group.root,
                f"that would remove {side} of {name}, which is frozen; unfreeze {name} first, or cut elsewhere",
            )


def _local_counts(operation: Prune, plans: list[Plan]) -> list[int]:
    """Units that go from each group."""
    kept = [max(1, math.floor(plan.loaded * (1 - operation.amount) + ROUNDING)) for plan in plans]
    return [max(0, plan.group.units - keep) for plan, keep in zip(plans, kept, strict=True)]


def _global_target(operation: Prune, plans: list[Plan]) -> int:
    """Channels that shall go from all groups together."""
    loaded = sum(plan.loaded * plan.group.blocks for plan in plans)
    return round(operation.amount * loaded) - (loaded - sum(plan.group.channels for plan in plans))


def _global_counts(operation: Prune, plans: list[Plan]) -> list[int]:
    """Units that go from each group: the lowest of all, as long as no more channels go than shall."""
    rest = _global_target(operation, plans)
    spare = [plan.scores.sort().values[:-1] for plan in plans]  # one unit of each group stays
    counts = [0] * len(plans)
    for _, number in sorted((float(score), number) for number, scores in enumerate(spare) for score in scores):
        rest -= plans[number].group.blocks
        if rest < 0:
            break
        counts[number] += 1
    return counts


def _missed(plans: list[Plan], went: int, asked: int) -> list[str]:
    together = ", and grouped channels go together" if any(plan.group.blocks > 1 for plan in plans) else ""
    return [f"{went} of {asked} channels went: one of each group stays{together}"] if went < asked else []


def _channels(plans: list[Plan], counts: list[int]) -> int:
    return sum(count * plan.group.blocks for plan, count in zip(plans, counts, strict=True))


def _merged(one: surgery.Gone, other: surgery.Gone) -> surgery.Gone:
    nothing: tuple[set[int], set[int]] = (set(), set())
    return {
        name: (one.get(name, nothing)[0] | gone[0], one.get(name, nothing)[1] | gone[1]) for name, gone in other.items()
    }


def _coupled(group: surgery.Group, chosen: Chosen) -> list[str]:
    others = [name for name in group.outputs if name in chosen.prunable and name != group.root]
    remarks = [f"{group.root} is coupled with {shortened(others)}: they lose the same filters"] if others else []
    if group.blocks > 1:
        remarks.append(f"the channels of {group.root} are read in {group.blocks} groups: each loses the same places")
    return remarks


def _smaller(operation: Prune, state: State, model: nn.Module, gone: surgery.Gone) -> State:
    kept = dict(state.kept)
    masks, clusters = dict(state.masks), dict(state.clusters)
    for name, sides in gone.items():
        module = state.module(name)
        (outputs, inputs), (outs, ins) = sides, surgery.widths(module)
        kept[name] = Kept(
            surgery.remaining(state.kept.get(name), outputs, outs, out=True),
            surgery.remaining(state.kept.get(name), inputs, ins, out=False),
        )
        rest = surgery.kept_after(module, *sides)
        if name in masks:
            masks[name] = surgery.sliced(masks[name], rest, surgery.groups_of(module))
        if name in clusters:
            clusters[name] = compact(surgery.sliced(clusters[name], rest, surgery.groups_of(module)))
    words = f"cut {percent(operation.amount)}"
    prunable = {layer.name for layer in state.layers if layer.prunable}
    touched = [name for name, (outputs, _) in gone.items() if outputs and name in prunable]
    return replace(
        state,
        model=model.to(state.device).eval().requires_grad_(True),
        kept=kept,
        masks=masks,
        clusters=clusters,
        last={**state.last, **dict.fromkeys(touched, words)},
        accuracy={},
    )
