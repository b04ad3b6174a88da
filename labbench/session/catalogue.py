"""What can be chosen: models, data sets, methods, regularizers and operations with their knobs. Forms, `labbench list`
and refusals are built from this. `catalogue.json` is the shipped copy, read before the worker has imported torch."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Literal

import msgspec
from msgspec import Struct

from labbench.session.operations import OPERATIONS, Operation, Value


class Knob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One setting: its type, range, default, one line of explanation, and what forms and checks need to know of it."""

    name: str
    kind: str
    """int, float, bool, text, choice, texts (several texts), ints (several whole numbers), map (numbers by name),
    counts (whole numbers by name), lists (several whole numbers by name) or options."""
    default: Value | tuple[Value, ...] | None = None
    """None where a value must be given; a map, counts, lists or options may always be left out."""
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    """Whether `low` itself is outside."""
    high_open: bool = False
    choices: tuple[Value, ...] = ()
    help: str = ""
    menus: tuple[str, ...] = ()
    """The menus of the catalogue of which its value names an entry; none may be named where the default is empty."""
    fills: str = ""
    """The field that takes the settings of that entry."""
    layers: Literal["", "prunable", "all"] = ""
    """Which layers its value names, if it names layers: conv and linear layers, or norms too."""
    rare: bool = False
    """Whether few need it: a form shows it on request."""
    once: bool = False
    """Whether it is of one occasion: the next form does not begin with it."""
    recorded: bool = False
    """Whether the bench writes it down, and nobody is asked for it."""
    offered: bool = False
    """Whether it is asked for only where there is something to do for it; while it is on, no other field matters."""
    only_with: dict[str, tuple[Value, ...]] = {}
    """It means something only while these fields have one of these values; none listed: any but empty, 0 or off."""
    idle_for: tuple[str, ...] = ()
    """Facts of methods to which it means nothing, or their granularity."""


class Entry(Struct, frozen=True, kw_only=True):
    """One line of a menu. `title` is the first line of the docstring, `about` the rest."""

    name: str
    title: str
    about: str = ""
    knobs: tuple[Knob, ...] = ()
    facts: dict[str, Value] = {}
    """What else a screen may say: granularity of a method, parameters of a model, images of a data set."""


class Catalogue(Struct, frozen=True, kw_only=True):
    """All menus."""

    models: tuple[Entry, ...]
    datasets: tuple[Entry, ...]
    methods: tuple[Entry, ...]
    clusterings: tuple[Entry, ...] = ()
    operations: tuple[Entry, ...]
    regularizers: tuple[Entry, ...] = ()

    def entry(self, kind: str, name: str) -> Entry | None:
        """The entry of that name in a menu such as "models", or None."""
        return next((entry for entry in getattr(self, kind) if entry.name == name), None)


@functools.cache
def shipped() -> Catalogue:
    """The catalogue as this version of labbench ships it."""
    text = resources.files("labbench.session").joinpath("catalogue.json").read_bytes()
    return msgspec.json.decode(text, type=Catalogue)


def operation_entries() -> tuple[Entry, ...]:
    """The operations as menu entries."""
    return tuple(entry_of(name, kind.__doc__ or "", knobs_of(kind)) for name, kind in OPERATIONS.items())


def entry_of(name: str, doc: str, knobs: tuple[Knob, ...], facts: Mapping[str, Value] | None = None) -> Entry:
    """An entry from a docstring: its first line is the title."""
    title, _, about = inspect.cleandoc(doc).partition("\n")
    return Entry(name=name, title=title.strip(), about=about.strip(), knobs=knobs, facts=dict(facts or {}))


def options_type(function: Callable[..., Any]) -> type[Struct]:
    """The keyword-only arguments of a function that have defaults, as a struct that checks them.

    What a `functools.partial` has bound is settled and no option.
    """
    bound = function.keywords if isinstance(function, functools.partial) else {}
    function = function.func if isinstance(function, functools.partial) else function
    hints = typing.get_type_hints(function, include_extras=True)
    fields = [
        (name, hints[name], parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty and name not in bound
    ]
    return msgspec.defstruct("options", fields, frozen=True, kw_only=True, forbid_unknown_fields=True)


def knobs_of(kind: type[Operation] | type[Struct]) -> tuple[Knob, ...]:
    """The fields of a struct as knobs."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    hints = typing.get_type_hints(kind)
    return tuple(_knob(field, hints[field.name]) for field in info.fields)


def _range(kind: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> dict[str, Any]:
    return {
        "low": kind.ge if kind.gt is None else kind.gt,
        "high": kind.le if kind.lt is None else kind.lt,
        "low_open": kind.gt is not None,
        "high_open": kind.lt is not None,
    }


def _knob(field: msgspec.inspect.Field, hint: Any) -> Knob:
    kind: msgspec.inspect.Type = field.type
    text = ""
    facts: dict[str, Any] = {}
    while isinstance(kind, msgspec.inspect.Metadata):
        text = text or (kind.extra_json_schema or {}).get("description", "")
        facts |= kind.extra or {}
        kind = kind.type
    default = None if field.default is msgspec.NODEFAULT else field.default
    made = Knob(name=field.encode_name, kind="text", default=default, help=text, **facts)
    match kind:
        case msgspec.inspect.BoolType():
            return msgspec.structs.replace(made, kind="bool")
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            kind_of = "int" if isinstance(kind, msgspec.inspect.IntType) else "float"
            return msgspec.structs.replace(made, kind=kind_of, **_range(kind))
        case msgspec.inspect.LiteralType():
            return msgspec.structs.replace(made, kind="choice", choices=typing.get_args(hint))  # in order
        case msgspec.inspect.VarTupleType(item_type=item):
            while isinstance(item, msgspec.inspect.Metadata):
                item = item.type
            if isinstance(item, msgspec.inspect.IntType | msgspec.inspect.FloatType):
                kind_of = "ints" if isinstance(item, msgspec.inspect.IntType) else "floats"
                return msgspec.structs.replace(made, kind=kind_of, **_range(item))
            return msgspec.structs.replace(made, kind="texts")
        case msgspec.inspect.DictType(value_type=msgspec.inspect.FloatType(ge=low, le=high)):
            return msgspec.structs.replace(made, kind="map", default=None, low=low, high=high)
        case msgspec.inspect.DictType(value_type=msgspec.inspect.IntType(ge=low, le=high)):
            return msgspec.structs.replace(made, kind="counts", default=None, low=low, high=high)
        case msgspec.inspect.DictType(value_type=msgspec.inspect.VarTupleType()):
            return msgspec.structs.replace(made, kind="lists", default=None)
        case msgspec.inspect.DictType():
            return msgspec.structs.replace(made, kind="options", default=None)
    return made
