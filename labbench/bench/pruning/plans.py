"""How many channels go from each group of coupled ones: of each alone, of all together, or as recorded."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from labbench.bench.pruning.graph import Group
from labbench.session.operations import Prune, percent

ROUNDING = 1e-9  # 10 × (1 − 0.9) is 0.999…: the channels that are kept are counted with this much grace


@dataclass(frozen=True)
class Plan:
    """One group and what is chosen among: its channels, or places in its blocks of channels, called units."""

    group: Group
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


def counts_of(operation: Prune, plans: list[Plan]) -> list[Count]:
    """How many units go from each group."""
    if operation.filters:
        return _recorded_counts(operation, plans)
    return _local_counts(operation, plans) if operation.scope == "layer" else _global_counts(operation, plans)


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


def global_target(operation: Prune, plans: list[Plan]) -> int:
    """Channels that shall go from all groups together."""
    loaded = sum(plan.loaded * plan.group.blocks for plan in plans)
    return round(operation.amount * loaded) - (loaded - sum(plan.group.channels for plan in plans))


def _global_counts(operation: Prune, plans: list[Plan]) -> list[Count]:
    """The lowest of all go, as long as no more channels go than shall."""
    rest = global_target(operation, plans)
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
