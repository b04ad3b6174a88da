"""Several operations from a few figures: pruning in steps with finetuning between, clustering layer by layer. Pure
functions: sessions only ever hold the plain operations that come out."""

import math
from collections.abc import Iterable
from typing import Literal, TypeAlias

from msgspec.structs import replace

from labbench.session.operations import AnyOperation, Cluster, Finetune, Freeze, Prune

Schedule: TypeAlias = Literal["linear", "cubic", "exponential", "cosine", "one-shot"]
SCHEDULES: tuple[Schedule, ...] = ("linear", "cubic", "exponential", "cosine", "one-shot")
STEEPNESS = 5.0  # of the exponential: after a fifth of the steps 63 % of the way is done, as after one time constant


def share(schedule: Schedule, time: float) -> float:
    """The part of the amount that is reached at a time from 0 to 1. Every schedule reaches 1 at 1.

    linear t · cubic 1 − (1 − t)³ (AGP: Zhu & Gupta 2017, equation 1, from zero) · exponential (1 − e^(−5t)) / (1 − e^(−5))
    · cosine (1 − cos πt) / 2 · one-shot 1 from the first step on
    """
    match schedule:
        case "linear":
            return time
        case "cubic":
            return 1 - (1 - time) ** 3
        case "exponential":
            return math.expm1(-STEEPNESS * time) / math.expm1(-STEEPNESS)
        case "cosine":
            return (1 - math.cos(math.pi * time)) / 2
        case "one-shot":
            return 1.0


def amounts(amount: float, steps: int, schedule: Schedule) -> list[float]:
    """What is gone after each of so many steps; the last is the amount itself."""
    parts = [amount * share(schedule, step / steps) for step in range(1, steps)]
    return [*(round(part, 12) for part in parts), amount]


def gradual(prune: Prune, finetune: Finetune | None, steps: int, schedule: Schedule) -> tuple[AnyOperation, ...]:
    """Pruning to its amount in steps, each followed by finetuning if any is given. `amounts` grow alike.

    One-shot prunes at the first step; what is left of it is finetuning.
    """
    found: list[AnyOperation] = []
    each = {name: amounts(amount, steps, schedule) for name, amount in prune.amounts.items()}
    for step, amount in enumerate(amounts(prune.amount, steps, schedule)):
        if schedule != "one-shot" or step == 0:
            found.append(replace(prune, amount=amount, amounts={name: parts[step] for name, parts in each.items()}))
        if finetune:
            found.append(finetune)
    return tuple(found)


def layerwise(cluster: Cluster, finetune: Finetune | None, layers: Iterable[str]) -> tuple[AnyOperation, ...]:
    """Clustering one layer after the other: cluster it, freeze it, finetune the others if that is given."""
    found: list[AnyOperation] = []
    for name in layers:
        found += [replace(cluster, layers=(name,)), Freeze(layers=(name,), norms=False)]
        if finetune:
            found.append(finetune)
    return tuple(found)
