"""Between what a person types into a field and what an operation holds: parse, show, step and explain a knob."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping

from labbench.session.catalogue import Knob
from labbench.session.check import BadInput, bounds, is_fraction, wrong

SEPARATORS = re.compile(r"[\s,;]+(?![^\[]*\])")  # not inside a glob's [1,2]
PERCENT = re.compile(r"\s+%")
NUMBER = re.compile(r"(?<![^\s=,;])(\d+(?:\.\d*)?)(?=$|[\s,;])(?!\s*%)")  # one without a percent sign
SERIES = (1.0, 2.0, 5.0)  # mantissas of the steps of a learning rate


def parse(knob: Knob, text: str) -> object:
    """The value that the text means for this knob. `BadInput` is a sentence that says what would be right."""
    value: object = text
    try:
        match knob.kind:
            case "int":
                value = int(text.replace(",", "").strip())
            case "float":
                value = _number(text)
            case "texts":
                value = tuple(word for word in SEPARATORS.split(text) if word)
            case "floats":
                value = tuple(_number(word) for word in SEPARATORS.split(PERCENT.sub("%", text)) if word)
            case "ints":
                value = tuple(int(word) for word in SEPARATORS.split(text) if word)
            case "map":
                value = {name: _number(number) for name, number in _named(SEPARATORS.split(PERCENT.sub("%", text)))}
            case "counts":
                value = {name: int(number) for name, number in _named(SEPARATORS.split(text))}
    except ValueError:
        raise BadInput(_sentence(knob)) from None
    if wrong(knob, value):
        raise BadInput(_sentence(knob))
    return value


def show(knob: Knob, value: object) -> str:
    """A value as it stands in the field, so that `parse` gives it back."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={number}" for name, number in value.items())
    if isinstance(value, tuple | list):
        return " ".join(str(item) for item in value)
    return str(value)


def range_of(knob: Knob) -> str:
    """The range of a knob for its explanation: "0 to 1", "above 0", or ""."""
    text = bounds(knob).strip()
    return text.removeprefix("from ") if " to " in text else text.replace(" below", ", below")


def as_percent(knob: Knob, text: str) -> str:
    """The text with percent signs where it has none and would then be right: 50 was meant as 50 %. Else ""."""
    if not is_fraction(knob):
        return ""
    meant = NUMBER.sub(lambda found: f"{found[1]} %" if float(found[1]) > 1 else found[1], text)
    try:
        parse(knob, meant)
    except BadInput:
        return ""
    return meant.strip()


def step(knob: Knob, value: float, up: bool) -> float:
    """The next value above or below, inside the range: 5 % for fractions, 1-2-5 for open scales, doubles for powers of
    two, else 1."""
    if knob.kind == "int":
        changed: float = _step_whole(knob, int(value), up)
    elif knob.low == 0 and knob.high is not None and knob.high <= 1:
        changed = round((math.floor(value * 20 + 1e-9) + 1 if up else math.ceil(value * 20 - 1e-9) - 1) / 20, 10)
    elif knob.low is not None and knob.low >= 0:
        changed = _step_series(value, up)
    else:
        changed = value + (1 if up else -1)
    return value if wrong(knob, changed) else changed


def _step_whole(knob: Knob, value: int, up: bool) -> int:
    default = knob.default
    if isinstance(default, int) and default >= 16 and default & (default - 1) == 0:
        return value * 2 if up else max(value // 2, 1)
    return value + (1 if up else -1)


def _step_series(value: float, up: bool) -> float:
    if value == 0:
        return 1e-5 if up else 0.0
    exponent = math.floor(math.log10(value) + 1e-9)
    ladder = [float(f"{mantissa:g}e{power}") for power in (exponent - 1, exponent, exponent + 1) for mantissa in SERIES]
    if up:
        return min(one for one in ladder if one > value * (1 + 1e-9))
    return max(one for one in ladder if one < value * (1 - 1e-9))


def _number(text: str) -> float:
    text = text.strip()
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    if text.endswith("%"):
        return round(float(text[:-1]) / 100, 12)
    return float(text)


def _named(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, sign, number = word.rpartition("=")
        if name and sign:
            yield name, number
        elif word:
            raise ValueError(word)


def _sentence(knob: Knob) -> str:
    match knob.kind:
        case "int":
            return f"must be a whole number{bounds(knob)}"
        case "float" if is_fraction(knob):
            return f"must be a number{bounds(knob)}, such as 0.3 or 30 %"
        case "float":
            return f"must be a number{bounds(knob)}"
        case "floats":
            return f"must be numbers{bounds(knob)}, such as 0.3 50 %"
        case "ints":
            return f"must be whole numbers{bounds(knob)}, such as 5 8"
        case "map":
            return f"must be names with numbers{bounds(knob)}, such as layer1.*=0.3 conv1=10 %"
        case "counts":
            return f"must be names with whole numbers{bounds(knob)}, such as layer1.*=8 conv1=4"
        case "texts":
            return "must be names, such as conv1 layer1.*"
    return f"must be {wrong(knob, None)}"
