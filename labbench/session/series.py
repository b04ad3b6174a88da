"""Several operations from a few figures: pruning in steps with finetuning between, clustering layer by layer. Pure
functions: sessions only ever hold the plain operations that come out."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import replace

from labbench.session.catalogue import knobs_of
from labbench.session.check import BadInput, check_fields, convert, meant, operation_from
from labbench.session.operations import OWN_TARGET, AnyOperation, Cluster, Finetune, Freeze, Prune

Schedule: TypeAlias = Literal["linear", "cubic", "exponential", "cosine", "one-shot"]
STEEPNESS = 5.0  # of the exponential: after a fifth of the steps 63 % of the way is done, as after one time constant


class Steps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a gradual prune has beside the fields of a prune."""

    steps: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="prune in so many steps, each further than the last",
            extra={"idle_for": ("own_target",)},
        ),
    ] = 1
    schedule: Annotated[
        Schedule,
        Meta(
            description="how the amount grows over the steps: cubic is AGP, most of it early",
            extra={"idle_for": ("own_target",)},
        ),
    ] = "linear"


SERIES = ("gradual", "layerwise")
"""What a recipe may say instead of an operation."""


def share(schedule: Schedule, time: float) -> float:
    """The part of the amount that is reached at a time from 0 to 1. Every schedule reaches 1 at 1.

    linear t · cubic 1 − (1 − t)³ (AGP: Zhu & Gupta 2017, equation 1, from zero) ·
    exponential (1 − e^(−5t)) / (1 − e^−5) · cosine (1 − cos πt) / 2 · one-shot 1 from the first step on
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

    A step that is too small for a single channel or weight to go changes nothing, and the next one goes on.

    One-shot prunes at the first step; what is left of it is finetuning.
    """
    found: list[AnyOperation] = []
    each = {name: amounts(amount, steps, schedule) for name, amount in prune.amounts.items()}
    for step, amount in enumerate(amounts(prune.amount, steps, schedule)):
        if schedule != "one-shot" or step == 0:
            found.append(
                replace(prune, amount=amount, amounts={n: parts[step] for n, parts in each.items()}, lenient=True)
            )
        if finetune:
            found.append(finetune)
    return tuple(found)


def layerwise(cluster: Cluster, finetune: Finetune | None) -> tuple[AnyOperation, ...]:
    """Clustering one layer after the other: cluster it, freeze it, finetune the others if that is given.

    One round for each entry of `layers`; those that a glob means go together.
    """
    found: list[AnyOperation] = []
    for name in cluster.layers:
        found += [replace(cluster, layers=(name,)), Freeze(layers=(name,), norms=False)]
        if finetune:
            found.append(finetune)
    return tuple(found)


def operations_from(raw: object) -> tuple[AnyOperation, ...]:
    """The operations that a decoded table means: one, or those of a series. Raises `BadInput`."""
    if not isinstance(raw, Mapping) or raw.get("op") not in SERIES:
        near = meant(raw.get("op"), SERIES) if isinstance(raw, Mapping) else ""
        try:
            return (operation_from(raw),)
        except BadInput as error:
            raise BadInput(f"{error}{'' if 'did you mean' in str(error) else near}") from None
    name = raw["op"]
    given = {key: value for key, value in raw.items() if key not in ("op", "finetune")}
    between = _finetune(name, raw.get("finetune"))
    if name == "layerwise":
        knobs = [replace(knob, default=None) if knob.name == "layers" else knob for knob in knobs_of(Cluster)]
        check_fields(name, knobs, given)  # a round for each of the layers: they must be named
        cluster = operation_from({"op": "cluster", **given})
        assert isinstance(cluster, Cluster)
        return layerwise(cluster, between)
    check_fields(name, (*knobs_of(Steps), *(knob for knob in knobs_of(Prune) if not knob.recorded)), given)
    steps: Steps = convert({key: given.pop(key) for key in Steps.__struct_fields__ if key in given}, Steps)
    prune = operation_from({"op": "prune", **given})
    assert isinstance(prune, Prune)
    if prune.method in OWN_TARGET:
        raise BadInput(f"gradual: {prune.method} goes by a rule of its own, so no amount of it can grow; write prune")
    return gradual(prune, between, steps.steps, steps.schedule)


def _finetune(series: str, raw: object) -> Finetune | None:
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or "op" in raw:
        raise BadInput(f"{series}: finetune must be a table of finetune's keys, not {raw!r}")
    try:
        operation = operation_from({"op": "finetune", **raw})
    except BadInput as error:
        raise BadInput(f"{series}: {error}") from None
    assert isinstance(operation, Finetune)
    return operation
