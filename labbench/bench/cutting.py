"""Structured pruning: how many channels go from each group of coupled ones, which, and what the state is afterwards."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from msgspec.structs import replace as with_fields
from torch import Tensor, nn

from labbench.bench import surgery
from labbench.bench.centroids import compact
from labbench.bench.choice import Chosen, amounts_of, checked_options, refuse_endless, shortened
from labbench.bench.errors import BenchError, NothingLeft, Stopped
from labbench.bench.loss_gradients import Gradients
from labbench.bench.methods import METHODS, function_of
from labbench.bench.recorded import check_layers, numbers_of, units_of
from labbench.bench.state import Kept, State, trainable, weight_of
from labbench.session.check import listed
from labbench.session.events import Progress
from labbench.session.operations import Prune, percent

ROUNDING = 1e-9  # 10 × (1 − 0.9) is 0.999…: the channels that are kept are counted with this much grace


@dataclass(frozen=True)
class Plan:
    """One group and what is chosen among: its channels, or places in its blocks of channels, called units."""

    group: surgery.Group
    loaded: int
    """Units of the loaded model."""
    amount: float
    """Asked for."""
    scores: Tensor
    """Of each unit; of no meaning where the method names those that stay, or the operation those that go."""
    going: Callable[[int], list[int]]
    """The units that go, given how many."""


@dataclass(frozen=True)
class Count:
    """How many units go from a group, and why not as many as were asked for."""

    going: int
    reason: str = ""


def cut(
    operation: Prune,
    state: State,
    chosen: Chosen,
    gradients: Gradients | None,
    report: Callable[[Progress], None],
    stopped: Callable[[], bool],
) -> tuple[State, Prune, tuple[str, ...]]:
    """The state with filters removed, really smaller, the operation with their numbers, and remarks.

    Scope layer keeps int(c·(1−amount)) of c loaded channels in each group, never less than one; scope global ranks the
    channels of all groups together. A group that would change a frozen layer is not cut. An operation that names
    filters cuts exactly these. Raises `Stopped` between two layers, while they are looked at and while it is chosen
    what goes.
    """

    def tell(fraction: float, name: str) -> None:
        if stopped():
            raise Stopped
        report(Progress(phase="cut", fraction=fraction, note=name))

    method = METHODS[operation.method]
    options = checked_options(function_of(method), operation.options, operation.method)
    amounts = amounts_of(operation, state, chosen)
    if hasattr(method, "keep") and operation.scope == "global":
        raise BenchError(f"{operation.method} counts in each layer: its scope must be layer, not global")
    before = state.copy_model().to(torch.device("cpu"))
    refuse_endless({f"{n}.weight": weight_of(before, n) for n in chosen.layers}, "nothing ranks them")
    refuse_endless(dict(before.named_parameters()), "no answer can be compared with that of the cut network")
    graph = surgery.Graph(copy.deepcopy(before), state.data.shape)
    if gradients is not None:
        _replace_by_salience(graph.model, method, gradients)
    remarks = list(chosen.remarks)
    generator = torch.Generator().manual_seed(operation.seed)
    plans: list[Plan] = []
    whole: dict[str, list[str]] = {}
    recorded = operation.filters
    for number, name in enumerate(chosen.layers):
        if any(name in plan.group.outputs for plan in plans):
            continue
        tell(number / (2 * len(chosen.layers)), name)
        try:
            group = graph.group(name)
            _refuse_frozen(group, state)
            surgery.refuse_shared(group, state.model)
            amount = _one_amount(group, amounts)
            if recorded:
                plans.append(_recorded(recorded.get(name, ()), state, group, amount))
            else:
                plans.append(_plan(operation, state, before, group, amount, method, options, generator))
        except surgery.Uncuttable as error:
            if name in chosen.literal:
                raise
            whole.setdefault(error.reason, []).append(name)
    remarks += [f"left whole: {shortened(names)}, because {reason}" for reason, names in whole.items()]
    if recorded:
        check_layers(recorded, [plan.group for plan in plans], {n: why for why, names in whole.items() for n in names})
        counts = _recorded_counts(operation, plans)
    else:
        counts = _local_counts(operation, plans) if operation.scope == "layer" else _global_counts(operation, plans)
    if not any(count.going for count in counts):
        refusal = NothingLeft if plans else BenchError
        raise refusal(_nothing(operation, plans, counts, remarks))
    remarks += _missed(operation, plans, counts)
    gone: surgery.Gone = {}
    filters: dict[str, tuple[int, ...]] = {}
    for number, (plan, count) in enumerate(zip(plans, counts, strict=True)):
        if count.going:
            tell(0.5 + number / (2 * len(plans)), plan.group.root)
            units = plan.going(count.going)
            filters[plan.group.root] = numbers_of(units, plan.group, state)
            gone |= _merged(gone, plan.group.without(units))
    cut_plans = [plan for plan, count in zip(plans, counts, strict=True) if count.going]
    remarks += _coupled([plan.group for plan in cut_plans], state)
    if not (recorded or hasattr(method, "keep")) and (
        equal := [p.group.root for p in cut_plans if _all_equal(p.scores)]
    ):
        remarks.append(f"all scores are equal, so the first filters go: {shortened(equal)}")
    after = copy.deepcopy(before)
    surgery.remove_filters(after, gone)
    surgery.check_twin(before, after, gone, state.data.shape)
    remarks.append(_size(state, plans, counts, before, after))
    words = {name: f"cut {percent(plan.amount)}" for plan in cut_plans for name in plan.group.outputs}
    return _smaller(state, after, gone, words), with_fields(operation, filters=filters), tuple(remarks)


def _replace_by_salience(model: nn.Module, method: ModuleType, gradients: Gradients) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(method.salience(parameter, gradients.mean[name], gradients.squares[name]))


def _refuse_frozen(group: surgery.Group, state: State) -> None:
    for name, side in [(n, "filters") for n in group.outputs] + [(n, "inputs") for n in group.inputs]:
        if name in state.frozen:
            raise surgery.Uncuttable(
                group.root,
                f"that would remove {side} of {name}, which is frozen; unfreeze {name} first, or cut elsewhere",
            )


def _one_amount(group: surgery.Group, amounts: Mapping[str, float]) -> float:
    for name in group.outputs:
        if name in amounts and amounts[name] != amounts[group.root]:
            raise BenchError(
                f"{group.root} ({percent(amounts[group.root])}) and {name} ({percent(amounts[name])}) lose the same "
                "filters, because they are coupled: give them the same amount"
            )
    return amounts[group.root]


def _plan(
    operation: Prune,
    state: State,
    model: nn.Module,
    group: surgery.Group,
    amount: float,
    method: ModuleType,
    options: dict[str, Any],
    generator: torch.Generator,
) -> Plan:
    channels = next(layer.channels for layer in state.layers if layer.name == group.root)
    scores = torch.zeros(group.units)  # the only channel of a group stays: nothing to compare it with
    if hasattr(method, "keep"):
        filters = weight_of(model, group.root).detach().unflatten(0, (group.blocks, group.units)).transpose(0, 1)
        rest = set(range(group.units))

        def going(count: int) -> list[int]:
            kept = method.keep(filters, group.units - count, operation.seed, **options)
            return sorted(rest - set(kept))

        return Plan(group, channels // group.blocks, amount, scores, going)
    if group.channels > 1:
        found = group.scores(lambda coupled: method.score(coupled, generator, **options))
        if found is None:
            raise surgery.Uncuttable(group.root, f"{operation.method} finds nothing there to score it by")
        scores = found.nan_to_num(0.0).view(group.blocks, -1).mean(0)  # 0 / 0 where all weights are zero
    return Plan(group, channels // group.blocks, amount, scores, lambda count: sorted(_lowest(scores)[:count]))


def _recorded(filters: Sequence[int], state: State, group: surgery.Group, amount: float) -> Plan:
    channels = next(layer.channels for layer in state.layers if layer.name == group.root)
    units = units_of(filters, group, state)
    return Plan(group, channels // group.blocks, amount, torch.zeros(group.units), lambda _: units)


def _lowest(scores: Tensor) -> list[int]:
    """Of equals the first."""
    lowest: list[int] = scores.argsort(stable=True).tolist()
    return lowest


def _all_equal(scores: Tensor) -> bool:
    return len(scores) > 1 and bool((scores == scores[0]).all())


# how many go


def _recorded_counts(operation: Prune, plans: Iterable[Plan]) -> list[Count]:
    """As many as are named; where that is not what the amount means, it is said."""
    found = []
    for plan in plans:
        going, asked = len(plan.going(0)), _local_count(operation, plan)
        found.append(asked if going == asked.going else Count(going, "as recorded" if going else ""))
    return found


def _local_counts(operation: Prune, plans: Iterable[Plan]) -> list[Count]:
    return [_local_count(operation, plan) for plan in plans]


def _local_count(operation: Prune, plan: Plan) -> Count:
    exact = plan.loaded * (1 - plan.amount)
    keep, reason = math.floor(exact + ROUNDING), ""
    if exact - keep > ROUNDING:
        grouped = f"the same places go from each of {plan.group.blocks} groups" if plan.group.blocks > 1 else ""
        reason = grouped or "only whole channels go"
    return _within(operation, plan, keep, reason)


def _within(operation: Prune, plan: Plan, keep: int, reason: str) -> Count:
    """The count that keeps about so many units, inside the limits."""
    least = _least(operation, plan)
    if keep < least:
        keep, reason = least, f"at most {percent(operation.maximum)} may go"
        if least == 1:
            reason = "one of each stays"
    if operation.round_to > 1 and keep < plan.group.units:
        rounded = _rounded(operation.round_to, plan, keep, least)
        if rounded != keep:
            keep, reason = rounded, f"kept channels are multiples of {operation.round_to}"
    if keep > plan.group.units:
        return Count(0, "already cut further")
    return Count(plan.group.units - keep, reason)


def _least(operation: Prune, plan: Plan) -> int:
    """Units that must stay."""
    return max(1, math.ceil(plan.loaded * (1 - operation.maximum) - ROUNDING))


def _rounded(round_to: int, plan: Plan, keep: int, least: int) -> int:
    """The multiple that is nearest to `keep`, the larger of two; all units where none lies within the limits."""
    step = round_to // math.gcd(round_to, plan.group.blocks)
    possible = [n for n in range(step, plan.group.units + 1, step) if n >= least]
    return min(possible, key=lambda n: (abs(n - keep), -n), default=plan.group.units)


def _global_target(operation: Prune, plans: list[Plan]) -> int:
    """Channels that shall go from all groups together."""
    loaded = sum(plan.loaded * plan.group.blocks for plan in plans)
    return round(operation.amount * loaded) - (loaded - sum(plan.group.channels for plan in plans))


def _global_counts(operation: Prune, plans: list[Plan]) -> list[Count]:
    """The lowest of all go, as long as no more channels go than shall."""
    rest = _global_target(operation, plans)
    spare = [p.scores.sort().values[: max(0, p.group.units - _least(operation, p))] for p in plans]
    counts = [0] * len(plans)
    for _, number in sorted((float(score), number) for number, scores in enumerate(spare) for score in scores):
        rest -= plans[number].group.blocks
        if rest < 0:
            break
        counts[number] += 1
    return [
        _within(operation, plan, plan.group.units - count, "") if count else Count(0)
        for plan, count in zip(plans, counts, strict=True)
    ]


# what is said of it


def _nothing(operation: Prune, plans: list[Plan], counts: list[Count], remarks: list[str]) -> str:
    asked = percent(operation.amount)
    reasons = {count.reason for count in counts if count.reason and count.reason != "already cut further"}
    why = f": {'; '.join(remarks)}" if not plans and remarks else ""
    already = f"; every group is already at {asked}, or one filter each" if plans else ""
    if plans and reasons - {"one of each stays", "only whole channels go"}:
        already = f"; {'; '.join(sorted(reasons))}"
    return f"nothing to cut in {listed(operation.layers)}{already}{why}"


def _missed(operation: Prune, plans: list[Plan], counts: list[Count]) -> list[str]:
    """Asked against achieved, one remark for each reason."""
    if operation.scope == "global":
        return _missed_together(operation, plans, counts)
    missed: dict[tuple[str, float], dict[str, list[str]]] = {}
    for plan, count in zip(plans, counts, strict=True):
        if count.reason:
            gone = (plan.loaded - plan.group.units + count.going) * plan.group.blocks
            figure = f"{gone} of {plan.loaded * plan.group.blocks}"
            missed.setdefault((count.reason, plan.amount), {}).setdefault(figure, []).append(plan.group.root)
    return [
        f"{reason}: instead of {percent(amount)}, "
        + "; ".join(f"{figure} are gone from {' + '.join(_some(names))}" for figure, names in figures.items())
        for (reason, amount), figures in missed.items()
    ]


def _missed_together(operation: Prune, plans: list[Plan], counts: list[Count]) -> list[str]:
    asked = _global_target(operation, plans)
    went = sum(count.going * plan.group.blocks for plan, count in zip(plans, counts, strict=True))
    if went == asked:
        return []
    reasons = []
    left = [p.group.units - c.going for p, c in zip(plans, counts, strict=True)]
    if 1 in left:
        reasons.append("one of each group stays")
    if operation.maximum < 1:
        reasons.append(f"at most {percent(operation.maximum)} of a layer may go")
    if operation.round_to > 1:
        reasons.append(f"kept channels are multiples of {operation.round_to}")
    if any(plan.group.blocks > 1 for plan in plans):
        reasons.append("grouped channels go together")
    return [f"{went} of {asked} channels went: {', and '.join(reasons)}"]


def _coupled(groups: list[surgery.Group], state: State) -> list[str]:
    remarks = []
    prunable = [layer.name for layer in state.layers if layer.prunable]
    together: dict[str, list[str]] = {}
    for group in groups:
        others = [name for name in prunable if name in group.outputs and name != group.root]
        if others:
            together.setdefault(group.why, []).append(f"{group.root} with {' + '.join(_some(others))}")
        if group.blocks > 1:
            remarks.append(
                f"the channels of {group.root} are read in {group.blocks} groups: each loses the same places"
            )
    said = [f"lose the same filters, because {why}: {'; '.join(some)}" for why, some in together.items()]
    return said + remarks


def _some(names: list[str]) -> list[str]:
    return names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]


def _size(state: State, plans: list[Plan], counts: list[Count], before: nn.Module, after: nn.Module) -> str:
    old, new = (sum(p.numel() for p in model.parameters()) for model in (before, after))
    gone = 1 - new / sum(layer.parameters for layer in state.layers)
    words = f"parameters {old:,} → {new:,}: {percent(gone)} of the loaded ones are gone"
    cuttable = [layer.name for layer in state.layers if layer.prunable][:-1]
    if not set(cuttable) <= {name for plan in plans for name in plan.group.outputs}:
        return words
    loaded = sum(plan.loaded * plan.group.blocks for plan in plans)
    channels = sum((p.loaded - p.group.units + c.going) * p.group.blocks for p, c in zip(plans, counts, strict=True))
    share = channels / loaded
    return (
        f"{words} ({percent(share)} of the channels are about 1 − (1 − {share:.3f})² = {percent(share * (2 - share))})"
    )


# the state


def _merged(one: surgery.Gone, other: surgery.Gone) -> surgery.Gone:
    nothing: tuple[set[int], set[int]] = (set(), set())
    return {
        name: (one.get(name, nothing)[0] | gone[0], one.get(name, nothing)[1] | gone[1]) for name, gone in other.items()
    }


def _smaller(state: State, model: nn.Module, gone: surgery.Gone, words: Mapping[str, str]) -> State:
    kept = dict(state.kept)
    masks, values, clusters = dict(state.masks), dict(state.values), dict(state.clusters)
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
        if name in values:
            values[name] = surgery.sliced(values[name], rest, surgery.groups_of(module))
        if name in clusters:
            clusters[name] = compact(surgery.sliced(clusters[name], rest, surgery.groups_of(module)))
    prunable = {layer.name for layer in state.layers if layer.prunable}
    touched = [name for name, (outputs, _) in gone.items() if outputs and name in prunable]
    return replace(
        state,
        model=trainable(model.to(state.device).eval()),
        kept=kept,
        masks=masks,
        values=values,
        clusters=clusters,
        last={**state.last, **{name: words[name] for name in touched}},
        accuracy={},
    )
