"""Whether an operation done again gave the same: a verdict for each step and the reason. Times are never compared."""

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec
from msgspec import Struct

from labbench.session.events import Environment, Finished, Ready
from labbench.session.measures import Measures
from labbench.session.operations import OWN_TARGET, Load, Note, Operation, Prune, Unprune
from labbench.session.session import Session
from labbench.session.snapshot import Accuracy, LayerRow, Snapshot, Total
from labbench.session.spread import Spread

LEAST_BAND = 0.01  # accuracy may differ by so much between machines, however many images were measured
ERRORS = 2  # … or by so many standard errors of the recorded accuracy, where that is more
COUNTS = (
    *("kind", "shape", "channels", "channels_loaded", "inputs", "inputs_loaded", "weights_loaded"),
    *("prunable", "frozen", "masked", "clusters"),
)
"""What must be equal on any machine, layer by layer."""
LOOSE = 0.05
"""Part of a layer's weights, or filters, by which zeros may differ elsewhere where the weights decide about them."""
LATER = ("inputs_zero", "kernels_zero", "columns_zero", "weights_unique")
"""Figures of a layer that recordings made before they were counted have as null."""
NOTHING: Mapping[str, Spread] = MappingProxyType({})
SETTINGS = ("labbench", "python", "torch", "torch_pruning", "sklearn", "numpy", "machine", "threads")


class Verdict(enum.StrEnum):
    """How a repeated step compares with the recorded one."""

    IDENTICAL = "identical"
    WITHIN = "within tolerance"
    DIFFERS = "differs"
    INCOMPARABLE = "not comparable"


class Judgment(Struct, frozen=True):
    """A verdict and why."""

    verdict: Verdict
    reason: str = ""


def environments(recording: Session, first: Environment | None) -> list[Environment | None]:
    """Where each step of a recording was done. `first` is the environment of the file's header."""
    current, found = first, []
    for _, event in recording.events:
        if isinstance(event, Ready):
            current = event.environment
        elif isinstance(event, Finished):
            found.append(current)
    return found


def differences(recorded: Environment | None, here: Environment) -> list[str]:
    """What differs between two environments and bears on figures, a sentence each."""
    if recorded is None:
        return ["the recording does not say where it was made"]
    pairs = [(name, getattr(recorded, name), getattr(here, name)) for name in (*SETTINGS, "device")]
    return [f"{name.replace('_', '-')} {then} then, {now} now" for name, then, now in pairs if then != now]


def elsewhere(recorded: Environment | None, here: Environment) -> bool:
    """Whether figures may differ because versions, machine or threads do; a step's device is in its snapshot."""
    return recorded is None or any(getattr(recorded, name) != getattr(here, name) for name in SETTINGS)


def tolerances(carried: Mapping[int, Mapping[str, Spread]]) -> list[str]:
    """What may differ elsewhere and what may not, and why, a sentence each. `carried`: step → split → its spread."""
    lines = [
        f"counts must be equal; {100 * LOOSE:g} % of a layer may differ where its weights decide, not an amount: zeros "
        "by a threshold or after unprune, and filters that lost all of their weights",
        f"an accuracy may differ by {ERRORS} standard errors of the recorded one, at least {100 * LEAST_BAND:g} %, "
        "because other versions, threads and devices round sums differently, and training makes that grow",
    ]
    wide = [
        f"step {number} {split} ±{100 * spread.tolerance:.2f} % ({spread.n} seeds)"
        for number, spreads in carried.items()
        for split, spread in spreads.items()
    ]
    if wide:
        lines.append(f"where that is wider, by 2·√2 standard deviations over seeds, from the file: {'; '.join(wide)}")
    return lines


def judge(
    recorded: Finished,
    repeated: Finished,
    changes: Sequence[Operation],
    away: bool,
    spread: Mapping[str, Spread] = NOTHING,
) -> Judgment:
    """The verdict for one step. `changes` are those in effect after it; `away`: it was recorded `elsewhere`.

    `spread` is what is known of the accuracies of this step over seeds, by split.
    """
    old, new = recorded.snapshot, repeated.snapshot
    if old is not None and new is not None:
        new = as_counted_then(old, new)
    if recorded.measures != repeated.measures and recorded.measures and repeated.measures:
        return _looked(recorded.measures, repeated.measures, away)
    if old is None or new is None:
        if old is new:
            return Judgment(Verdict.IDENTICAL)
        side = "recording has" if old is None else "repetition gave"
        return Judgment(Verdict.INCOMPARABLE, f"the {side} no figures for this step")
    if old == new:
        return Judgment(Verdict.IDENTICAL)
    if away or old.device != new.device:
        return _tolerant(old, new, changes, spread)
    if found := next(unequal(old, new), ""):
        return Judgment(Verdict.DIFFERS, found)
    return Judgment(Verdict.INCOMPARABLE, _missing(old, new))


def other_code(recorded: Sequence[Operation], changes: Sequence[Operation], step: Operation) -> str:
    """That a model of one's own was made by other code than at this step of the recording, or ""; said where it counts.

    `recorded` are the operations that were in effect after it; `changes` those in effect here.
    """
    if isinstance(step, Note):
        return ""
    then, now = ([load for load in found if isinstance(load, Load)][-1:] for found in (recorded, changes))
    if not then or not now or then[0].code_sha256 in ("", now[0].code_sha256):
        return ""
    return f"{now[0].model} is not the code that was recorded"


def as_counted_then(old: Snapshot, new: Snapshot) -> Snapshot:
    """The new snapshot without the figures that an older recording does not have."""
    then = {row.name: row for row in old.rows}
    rows = [_row_as_counted_then(then[row.name], row) if row.name in then else row for row in new.rows]
    accuracy = {
        split: msgspec.structs.replace(found, top5=None)
        if split in old.accuracy and old.accuracy[split].top5 is None
        else found
        for split, found in new.accuracy.items()
    }
    return msgspec.structs.replace(new, rows=tuple(rows), accuracy=accuracy)


def _row_as_counted_then(old: LayerRow, new: LayerRow) -> LayerRow:
    unknown = {name: None for name in LATER if getattr(old, name) is None}
    masked = new.masked or (old.masked and new.nonzero == new.weights)  # once, a layer was called so that holds nothing
    return msgspec.structs.replace(new, **unknown, masked=masked)


def band(accuracy: Accuracy, spread: Spread | None = None) -> float:
    """By how much an accuracy may differ on another machine; `spread` is that of this accuracy over seeds."""
    error = math.sqrt(accuracy.top1 * (1 - accuracy.top1) / accuracy.images) if accuracy.images else 0.0
    return max(ERRORS * error, LEAST_BAND, spread.tolerance if spread else 0.0)


def unequal(old: Snapshot, new: Snapshot) -> Iterator[str]:
    """Every figure that both have and that is not the same, the layers first: "conv1: nonzero 75, now 74"."""
    yield from _rows(old, new, LayerRow.__struct_fields__)
    for name in Snapshot.__struct_fields__:
        if name not in ("rows", "prunable", "whole", "accuracy", "fingerprint"):
            yield from _pair("", name, getattr(old, name), getattr(new, name))
    yield from _fields("prunable weights: ", old.prunable, new.prunable)
    yield from _fields("all parameters: ", old.whole, new.whole)
    for split in sorted(old.accuracy.keys() & new.accuracy.keys()):
        yield from _fields(f"{split}: ", old.accuracy[split], new.accuracy[split])
    if old.fingerprint and new.fingerprint:
        yield from _pair("weights: ", "fingerprint", old.fingerprint, new.fingerprint)


def _looked(old: Measures, new: Measures, away: bool) -> Judgment:
    pairs = [
        (f"{left.name}: ", name, getattr(left, name), getattr(right, name))
        for left, right in zip(old.layers, new.layers, strict=False)
        for name in left.__struct_fields__
    ]
    pairs += [("", name, getattr(old, name), getattr(new, name)) for name in ("stored", "stored_loaded")]
    said = next((found for pair in pairs for found in _pair(*pair)), "the layers are not the same")
    if away:
        return Judgment(Verdict.INCOMPARABLE, f"{said} (gradients and bytes depend on the machine)")
    return Judgment(Verdict.DIFFERS, said)


def _tolerant(old: Snapshot, new: Snapshot, changes: Sequence[Operation], spread: Mapping[str, Spread]) -> Judgment:
    if found := next(_rows(old, new, COUNTS), ""):
        return Judgment(Verdict.DIFFERS, f"{found} (counts must be equal on any machine)")
    if found := next(_uncounted(old, new, changes), ""):
        return Judgment(Verdict.DIFFERS, found)
    near = "counts are equal" if not any(_rows(old, new, ("nonzero", "filters_unique"))) else "counts are near"
    words = [near]
    for split in sorted(old.accuracy.keys() & new.accuracy.keys()):
        then, now = old.accuracy[split], new.accuracy[split]
        if then.images != now.images:
            return Judgment(Verdict.INCOMPARABLE, f"{split}: {then.images} images then, {now.images} now")
        known = spread.get(split)
        width = band(then, known)
        whose = f", from {known.n} seeds" if known and width > band(then) else ""
        said = f"{split} {100 * then.top1:.2f} %, now {100 * now.top1:.2f} % (band ±{100 * width:.2f}{whose})"
        if abs(then.top1 - now.top1) > width:
            return Judgment(Verdict.DIFFERS, said)
        words.append(said)
    if missing := _missing(old, new):
        return Judgment(Verdict.INCOMPARABLE, missing)
    return Judgment(Verdict.WITHIN, "; ".join(words))


def _uncounted(old: Snapshot, new: Snapshot, changes: Sequence[Operation]) -> Iterator[str]:
    """Counts of zeros and of distinct filters that are further apart than they may be elsewhere."""
    prunes = [operation for operation in changes if isinstance(operation, Prune)]
    by_weights = any(isinstance(operation, Unprune) for operation in changes)
    by_weights = by_weights or any(prune.method in OWN_TARGET for prune in prunes)
    shared_out = any(prune.scope == "global" for prune in prunes)
    for then, now in zip(old.rows, new.rows, strict=True):
        if by_weights or not shared_out:
            yield from _apart(then.name, "nonzero", then.nonzero, now.nonzero, then.weights_loaded * by_weights)
        channels = then.channels_loaded * bool(prunes or by_weights)
        yield from _apart(then.name, "filters_unique", then.filters_unique, now.filters_unique, channels)
    if prunes and prunes[-1].scope == "global":  # a later cut of one layer leaves what the other layers were given
        loaded = old.prunable.loaded * by_weights
        yield from _apart("all layers", "nonzero", old.prunable.nonzero, new.prunable.nonzero, loaded)


def _apart(where: str, name: str, then: int, now: int, whole: int) -> Iterator[str]:
    """What is said where two counts differ by more than `LOOSE` of the whole, or at all if there is no whole."""
    allowed = max(1, math.floor(LOOSE * whole)) if whole else 0
    if abs(then - now) > allowed:
        why = f"{allowed} may differ" if allowed else "counts must be equal on any machine"
        yield f"{where}: {name} {then}, now {now} ({why})"


def _rows(old: Snapshot, new: Snapshot, names: Sequence[str]) -> Iterator[str]:
    then, now = [row.name for row in old.rows], [row.name for row in new.rows]
    if then != now:
        strangers = sorted(set(then) ^ set(now))
        yield f"the layers are not the same: {', '.join(strangers[:3]) or 'another order'}"
        return
    for left, right in zip(old.rows, new.rows, strict=True):
        for name in names:
            yield from _pair(f"{left.name}: ", name, getattr(left, name), getattr(right, name))


def _fields(where: str, old: Total | Accuracy, new: Total | Accuracy) -> Iterator[str]:
    for name in old.__struct_fields__:
        yield from _pair(where, name, getattr(old, name), getattr(new, name))


def _pair(where: str, name: str, old: object, new: object) -> Iterator[str]:
    if old != new:
        yield f"{where}{name} {_short(old)}, now {_short(new)}"


def _missing(old: Snapshot, new: Snapshot) -> str:
    for split in sorted(old.accuracy.keys() ^ new.accuracy.keys()):
        side = "here" if split in old.accuracy else "in the recording"
        return f"accuracy on {split} was not measured {side}"
    if bool(old.fingerprint) != bool(new.fingerprint):
        return f"no fingerprint of the weights {'here' if old.fingerprint else 'in the recording'}"
    return ""


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:39]}…"
