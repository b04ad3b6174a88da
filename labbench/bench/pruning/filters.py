"""Structured pruning: how many channels go from each group of coupled ones, which, and what the state is afterwards."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from msgspec.structs import replace as with_fields
from torch import Tensor, nn

from labbench.bench.errors import BenchError, NothingLeft, Stopped
from labbench.bench.methods import METHODS, function_of
from labbench.bench.pruning.cut_remarks import coupled, left, missed, nothing, size
from labbench.bench.pruning.filter_numbers import check_layers, numbers_of, units_of
from labbench.bench.pruning.gradients import Gradients
from labbench.bench.pruning.graph import Graph, Group, Uncuttable, refuse_shared
from labbench.bench.pruning.plans import Count, Plan, counts_of
from labbench.bench.pruning.twin import check_twin, sound
from labbench.bench.states import surgery
from labbench.bench.states.chosen_layers import Chosen, amounts_of, checked_options, refuse_endless, shortened
from labbench.bench.states.state import Kept, State, trainable, weight_of
from labbench.bench.vectors.centroids import compact
from labbench.session.events import Progress
from labbench.session.operations import Prune, percent


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
    graph = Graph(copy.deepcopy(before), state.data.shape, stopped)
    if gradients is not None:
        _replace_by_salience(graph.model, method, gradients)
    whole: dict[str, dict[str, str]] = {}
    plans: list[Plan] = []
    generator = torch.Generator().manual_seed(operation.seed)
    recorded = operation.filters
    for number, name in enumerate(chosen.layers):
        if any(name in plan.group.outputs for plan in plans):
            continue
        tell(number / (2 * len(chosen.layers)), name)
        try:
            group = graph.group(name)
            _refuse_frozen(group, state)
            refuse_shared(group, state.model)
            amount = _one_amount(group, amounts)
            if recorded:
                plans.append(_recorded(recorded.get(name, ()), state, group, amount))
            else:
                plans.append(_plan(operation, state, before, group, amount, method, options, generator))
        except Uncuttable as error:
            _leave(whole, error, [name], chosen)
    plans, counts, going = _right(operation, state, before, plans, chosen, whole, tell, stopped)
    remarks = [*chosen.remarks, *(left(reason, at, chosen) for reason, at in whole.items())]
    if recorded:
        check_layers(recorded, [plan.group for plan in plans], {n: why for why, names in whole.items() for n in names})
    if not going:
        refusal = NothingLeft if plans else BenchError
        raise refusal(nothing(operation, plans, counts, remarks))
    remarks += missed(operation, plans, counts)
    cut_plans = [plan for plan, _ in going]
    remarks += coupled([plan.group for plan in cut_plans], state)
    if not (recorded or hasattr(method, "keep")) and (
        equal := [p.group.root for p in cut_plans if _all_equal(p.scores)]
    ):
        remarks.append(f"all scores are equal, so the first filters go: {shortened(equal)}")
    gone = _gone(going)
    after = copy.deepcopy(before)
    surgery.remove_filters(after, gone)
    remarks.append(size(state, plans, counts, before, after))
    words = {name: f"cut {percent(plan.amount)}" for plan in cut_plans for name in plan.group.outputs}
    filters = {plan.group.root: numbers_of(units, plan.group, state) for plan, units in going}
    return _smaller(state, after, gone, words), with_fields(operation, filters=filters), tuple(remarks)


def _right(
    operation: Prune,
    state: State,
    before: nn.Module,
    plans: list[Plan],
    chosen: Chosen,
    whole: dict[str, dict[str, str]],
    tell: Callable[[float, str], None],
    stopped: Callable[[], bool],
) -> tuple[list[Plan], list[Count], list[tuple[Plan, list[int]]]]:
    """The plans that the network stands, how many units go from each, and which. The others join those left whole."""
    while True:
        counts = counts_of(operation, plans)
        going = _going(plans, counts, tell)
        _, wrong = sound(going, lambda some: check_twin(before, _gone(some), state.data.shape, stopped))
        if not wrong:
            return plans, counts, going
        for (plan, _), error in wrong:
            members = [name for name in chosen.layers if name in plan.group.outputs]
            _leave(whole, plan.group.differs(error.reason, error.detail), members, chosen)
        plans = [plan for plan in plans if all(plan is not other for (other, _), _ in wrong)]


def _leave(whole: dict[str, dict[str, str]], error: Uncuttable, names: Iterable[str], chosen: Chosen) -> None:
    """Note that these layers are left whole. Raises the error where one of them was named in full."""
    for name in names:
        if name in chosen.literal:
            raise Uncuttable(name, error.reason, error.at, error.detail) from error
        whole.setdefault(error.reason, {})[name] = error.at


def _going(plans: list[Plan], counts: list[Count], tell: Callable[[float, str], None]) -> list[tuple[Plan, list[int]]]:
    """The units that go, of each group that loses any."""
    found = []
    for number, (plan, count) in enumerate(zip(plans, counts, strict=True)):
        if count.going:
            tell(0.5 + number / (2 * len(plans)), plan.group.root)
            found.append((plan, plan.going(count.going)))
    return found


def _gone(going: Iterable[tuple[Plan, list[int]]]) -> surgery.Gone:
    gone: surgery.Gone = {}
    for plan, units in going:
        gone |= _merged(gone, plan.group.without(units))
    return gone


def _replace_by_salience(model: nn.Module, method: ModuleType, gradients: Gradients) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(method.salience(parameter, gradients.mean[name], gradients.squares[name]))


def _refuse_frozen(group: Group, state: State) -> None:
    for name, side in [(n, "filters") for n in group.outputs] + [(n, "inputs") for n in group.inputs]:
        if name in state.frozen:
            raise Uncuttable(
                group.root,
                f"that would remove {side} of {name}, which is frozen; unfreeze {name} first, or cut elsewhere",
            )


def _one_amount(group: Group, amounts: Mapping[str, float]) -> float:
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
    group: Group,
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
        try:
            found = group.scores(lambda coupled: method.score(coupled, generator, **options))
        except (IndexError, RuntimeError) as error:
            raise Uncuttable(group.root, f"{operation.method} cannot score its channels", str(error)) from error
        if found is None:
            raise Uncuttable(group.root, f"{operation.method} finds nothing there to score it by")
        scores = found.nan_to_num(0.0).view(group.blocks, -1).mean(0)  # 0 / 0 where all weights are zero
    return Plan(group, channels // group.blocks, amount, scores, lambda count: sorted(_lowest(scores)[:count]))


def _recorded(filters: Sequence[int], state: State, group: Group, amount: float) -> Plan:
    channels = next(layer.channels for layer in state.layers if layer.name == group.root)
    units = units_of(filters, group, state)
    return Plan(group, channels // group.blocks, amount, torch.zeros(group.units), lambda _: units)


def _lowest(scores: Tensor) -> list[int]:
    """Of equals the first."""
    lowest: list[int] = scores.argsort(stable=True).tolist()
    return lowest


def _all_equal(scores: Tensor) -> bool:
    return len(scores) > 1 and bool((scores == scores[0]).all())


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
        module = surgery.part(state.model, name)
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
