"""A session done otherwise: a field of a step set to another value, every seed shifted."""

import re
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from labbench.session.catalogue import Entry, Knob, knobs_of, shipped
from labbench.session.check import BadInput, check_names, listed, meant, operation_from
from labbench.session.operations import AnyOperation, Cluster, Load, Prune, as_asked
from labbench.session.options import option_from

SEEDS = 2**31
"""How many seeds there are; after the last comes the first."""
MOST_SEEDS = 1000
FORM = re.compile(r"(?P<step>\d{1,6})\.(?P<field>\w+)(\.(?P<name>[^=]+))?=(?P<text>.*)", re.DOTALL)
WITH_NAMES = ("options", "map", "counts")
"""Kinds of fields that hold values by name."""
HASHES = {"weights": "sha256", "model": "code_sha256"}
"""Fields of a load whose recorded hash means nothing for another value."""


class Setting(Struct, frozen=True, kw_only=True):
    """Another value for a field of a step, as it was typed."""

    step: int
    field: str
    name: str = ""
    """Of an option, or the layer of an amount; empty: the field itself."""
    text: str

    def __str__(self) -> str:
        return f"{self.field}{f'.{self.name}' if self.name else ''}={self.text}"


def setting_from(text: str) -> Setting:
    """What STEP.FIELD=VALUE or STEP.FIELD.NAME=VALUE means. Raises `BadInput`."""
    found = FORM.fullmatch(text)
    if not found:
        raise BadInput(f"takes STEP.FIELD=VALUE, such as 4.amount=0.6 or 4.options.p=1, not {text}")
    return Setting(step=int(found["step"]), field=found["field"], name=found["name"] or "", text=found["text"])


def varied(operations: Sequence[AnyOperation], settings: Iterable[Setting]) -> tuple[AnyOperation, ...]:
    """The operations of steps 1, 2, … with other values; from the first varied one on methods choose filters again.

    Raises `BadInput` for a step or field that is not there, and for a value that the field cannot have.
    """
    made = list(operations)
    first = len(made)
    for setting in settings:
        if not 0 < setting.step <= len(made):
            raise BadInput(f"{setting.step}.{setting}: no step {setting.step}; the steps are 1 to {len(made)}")
        try:
            made[setting.step - 1] = _with(made[setting.step - 1], setting)
        except BadInput as error:
            raise BadInput(f"{setting.step}.{setting}: {error}") from None
        first = min(first, setting.step - 1)
    return (*made[:first], *(as_asked(operation) for operation in made[first:]))


def _with(operation: AnyOperation, setting: Setting) -> AnyOperation:
    known = {knob.name: knob for knob in knobs_of(type(operation))}
    kind = type(operation).__name__.lower()
    if setting.field not in known:
        fields = f"its fields are {listed(known)}" if known else "it has no fields"
        raise BadInput(f"{kind} has no field {setting.field}; {fields}{meant(setting.field, known)}")
    knob = known[setting.field]
    raw = msgspec.to_builtins(operation)
    if setting.name:
        if knob.kind not in WITH_NAMES:
            raise BadInput(f"{setting.field} of {kind} holds no values by name; write {setting.field}=VALUE")
        raw[setting.field][setting.name] = _value(_option(operation, setting) or knob, setting.text)
    elif knob.kind in (*WITH_NAMES, "lists"):
        raise BadInput(f"{setting.field} of {kind} holds values by name; write {setting.field}.NAME=VALUE")
    else:
        raw[setting.field] = _value(knob, setting.text)
    if isinstance(operation, Load) and setting.field in HASHES:
        raw[HASHES[setting.field]] = ""
    made = operation_from(raw)
    check_names(made, shipped())
    return made


def _option(operation: AnyOperation, setting: Setting) -> Knob | None:
    """What the catalogue knows of an option."""
    entry: Entry | None = None
    match operation:
        case Load():
            menu = ("models", operation.model) if setting.field == "options" else ("datasets", operation.dataset)
            entry = shipped().entry(*menu)
        case Prune():
            entry = shipped().entry("methods", operation.method)
        case Cluster():
            entry = shipped().entry("clusterings", operation.method)
        case _:
            pass
    return next((knob for knob in entry.knobs if knob.name == setting.name), None) if entry else None


def _value(knob: Knob, text: str) -> object:
    match knob.kind:
        case "text":
            return text
        case "texts":
            return [part.strip() for part in text.split(",") if part.strip()]
        case "ints" | "floats":
            return [option_from(f"x={part.strip()}")[1] for part in text.split(",") if part.strip()]
        case "choice" if text in knob.choices:
            return text
        case _:
            return option_from(f"x={text}")[1]


def seeds_from(text: str) -> tuple[int, ...]:
    """The seeds of "0-4", "0,3,7", "0-2,7", or of a count: "5" is 0-4. Raises `BadInput`."""
    said = f"takes seeds such as 0-4 or 0,3,7, or how many, such as 5, not {text}"
    if text.isascii() and text.isdecimal():
        text = f"0-{int(text[:9]) - 1}" if int(text[:9]) else ""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part, re.ASCII)
        if not match:
            raise BadInput(said)
        low, high = int(match[1]), int(match[2] or match[1])
        if high < low:
            raise BadInput(said)
        if high - low >= MOST_SEEDS or len(found) > MOST_SEEDS:
            raise BadInput(f"takes at most {MOST_SEEDS} seeds, not {text}")
        found |= dict.fromkeys(range(low, high + 1))
    return tuple(found)


def shifted(operations: Iterable[AnyOperation], by: int) -> tuple[AnyOperation, ...]:
    """The operations with `by` added to every seed; methods then choose their filters again. By 0: as they are.

    Seeds that differ within a session stay different. What is not seeded (the data, their splits) stays the same.
    """
    return tuple(_shifted(operation, by) if by else operation for operation in operations)


def _shifted(operation: AnyOperation, by: int) -> AnyOperation:
    if "seed" not in operation.__struct_fields__:
        return operation
    seed: int = getattr(operation, "seed")  # noqa: B009  # of those that have one
    return as_asked(msgspec.structs.replace(operation, seed=(seed + by) % SEEDS))
