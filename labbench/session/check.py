"""Turns plain values into operations, and what is wrong with them into a sentence that says what would be right."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from labbench.session.catalogue import Catalogue, Entry, Knob, knobs_of
from labbench.session.goals import goals_of
from labbench.session.operations import OPERATIONS, AnyOperation, Load, Task
from labbench.session.own import is_own, problem_of

MAY_BE_LEFT_OUT = frozenset({"options", "map", "counts", "lists"})
"""Kinds of settings that are empty unless given."""
KINDS = {"datasets": "data set"}
"""What an entry of a menu is called, where that is not the menu's name without its s."""


class BadInput(ValueError):
    """What was given cannot be used; the message says what would be right."""


def operation_from(raw: object) -> AnyOperation:
    """The operation that a decoded table of JSON or TOML means.

    Raises `BadInput` for an unknown operation, an unknown or missing field, a wrong type or a value out of range.
    """
    if not isinstance(raw, Mapping):
        raise BadInput(f"an operation is a table with the key op, not {raw!r}")
    name = raw.get("op")
    if not isinstance(name, str) or name not in OPERATIONS:
        said = "no op" if name is None else f"unknown op {name!r}"
        raise BadInput(f"{said}; the operations are {listed(OPERATIONS)}{meant(name, OPERATIONS)}")
    kind = OPERATIONS[name]
    check_fields(name, knobs_of(kind), {key: value for key, value in raw.items() if key != "op"})
    operation: AnyOperation = convert(raw, kind)
    return operation


def convert(raw: object, kind: Any) -> Any:
    """`msgspec.convert` with its refusal as `BadInput`."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise BadInput(str(error)) from None


def check_fields(owner: str, knobs: Iterable[Knob], given: Mapping[str, object]) -> None:
    """Raise `BadInput` if a field is unknown, missing, of the wrong type or out of its range."""
    known = {knob.name: knob for knob in knobs}
    for name, value in given.items():
        if name not in known:
            keys = f"its keys are {listed(known)}" if known else "it has no keys"
            raise BadInput(f"{owner} has no key {name!r}; {keys}{meant(name, known)}")
        if problem := wrong(known[name], value):
            raise BadInput(f"{owner}: {name} must be {problem}, not {value!r}{_in_percent(known[name], value)}")
    for name, knob in known.items():
        if name not in given and knob.default is None and knob.kind not in MAY_BE_LEFT_OUT:
            raise BadInput(f"{owner} needs the key {name!r}: {knob.help}")


def check_names(operation: AnyOperation, catalogue: Catalogue) -> None:
    """Raise `BadInput` if the catalogue has no such model, data set, method or regularizer, or not with
    these options."""
    for knob in knobs_of(type(operation)):
        name = getattr(operation, knob.name)
        if not knob.menus or name == knob.default == "":
            continue
        if isinstance(operation, Load) and knob.name == "model" and is_own(name):
            if problem := problem_of(name):
                raise BadInput(problem)
            continue  # its options are the factory's: only the bench can tell
        entries = [entry for menu in knob.menus for entry in getattr(catalogue, menu)]
        entry = _check_name(KINDS.get(knob.menus[0], knob.menus[0].removesuffix("s")), name, entries)
        if knob.fills:
            check_fields(entry.name, entry.knobs, getattr(operation, knob.fills))
    if isinstance(operation, Task):
        try:
            goals_of(operation)
        except ValueError as error:
            raise BadInput(f"task {operation.name}: {error}") from None


def _check_name(kind: str, name: str, entries: Sequence[Entry]) -> Entry:
    known = {entry.name: entry for entry in entries}
    if name not in known:
        raise BadInput(f"no such {kind}: {name}; the {kind}s are {listed(known)}{meant(name, known)}")
    return known[name]


def wrong(knob: Knob, value: object) -> str:
    """What the value would have to be, or "" if it is right."""
    match knob.kind:
        case "bool":
            return "" if isinstance(value, bool) else "true or false"
        case "choice":
            return "" if value in knob.choices and not isinstance(value, bool) else f"one of {listed(knob.choices)}"
        case "text":
            if not isinstance(value, str):
                return "text in quotes"
            return "" if _can_be_sent(value) else "text in UTF-8"
        case "options":
            right = isinstance(value, Mapping) and all(_can_be_sent(item) for item in value.values())
            return "" if right else "a table of names and values, such as {p = 2}"
        case "map":
            right = isinstance(value, Mapping) and all(not _wrong_number(knob, item) for item in value.values())
            return "" if right else f'a table of numbers{bounds(knob)} by name, such as {{"layer1.*" = 0.3}}'
        case "counts":
            right = isinstance(value, Mapping) and all(not _wrong_number(knob, item) for item in value.values())
            return "" if right else f'a table of whole numbers{bounds(knob)} by name, such as {{"layer1.*" = 8}}'
        case "lists":
            right = isinstance(value, Mapping) and all(_whole_numbers(item) for item in value.values())
            return "" if right else "a table of lists of whole numbers by name, such as {conv1 = [0, 7]}"
        case "texts":
            right = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
            return "" if right else 'a list of texts, such as ["conv1", "layer1.*"]'
        case "floats":
            right = isinstance(value, list | tuple) and all(not _wrong_number(knob, item) for item in value)
            return "" if right else f"a list of numbers{bounds(knob)}, such as [0.3, 0.5]"
        case "ints":
            right = isinstance(value, list | tuple) and all(not _wrong_number(knob, item) for item in value)
            return "" if right else f"a list of whole numbers{bounds(knob)}, such as [5, 8]"
        case _:
            return _wrong_number(knob, value)


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list | tuple) and all(type(item) is int and _can_be_sent(item) for item in value)


def _wrong_number(knob: Knob, value: object) -> str:
    whole = knob.kind in ("int", "ints", "counts")
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    text = ("a whole number" if whole else "a number") + bounds(knob)
    if not right or not isinstance(value, int | float) or not _can_be_sent(value):
        return text
    low = knob.low is None or value > knob.low or (value == knob.low and not knob.low_open)
    high = knob.high is None or value < knob.high or (value == knob.high and not knob.high_open)
    return "" if low and high else text


def _can_be_sent(value: object) -> bool:
    """Whether JSON has this value: finite, a whole number of at most 64 bits, text that is Unicode."""
    match value:
        case bool():
            return True
        case str():
            return not any("\ud800" <= char <= "\udfff" for char in value)  # of the name of a file that is not UTF-8
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
    return False


def bounds(knob: Knob) -> str:
    """The range of a number in words, with a leading blank: " from 0 to 1"."""
    low = "" if knob.low is None else f" {'above' if knob.low_open else 'from'} {knob.low:.12g}"
    high = "" if knob.high is None else f" {'below' if knob.high_open else 'to'} {knob.high:.12g}"
    return low + high


def is_fraction(knob: Knob) -> bool:
    """Whether its numbers are parts of something, from 0 to 1, which people say in percent."""
    return knob.kind in ("float", "floats", "map") and knob.low == 0 and knob.high == 1


def _in_percent(knob: Knob, value: object) -> str:
    """A guess where somebody wrote 50 and meant 50 %: "; for 50 % write 0.5", or ""."""
    given = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    numbers = (one for one in given if isinstance(one, int | float) and 1 < one <= 100)
    meant = next(numbers, None) if is_fraction(knob) else None
    return f"; for {meant:g} % write {meant / 100:g}" if meant else ""


def listed(names: Iterable[object]) -> str:
    """Names for a sentence: "a, b, c"."""
    return ", ".join(str(name) for name in names)


def meant(given: object, known: Iterable[object]) -> str:
    """A guess for a mistyped name: "; did you mean conv1?", or ""."""
    close = difflib.get_close_matches(str(given), [str(name) for name in known], n=1)
    return f"; did you mean {close[0]}?" if close else ""
