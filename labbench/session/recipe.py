"""A recipe: what people write by hand, in TOML. A title, an optional remark and a list of operations; it decodes into
the same operations as a session. Steps that stand for a series (gradual, layerwise) are written out."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from labbench.printable import escaped_toml
from labbench.session import reading
from labbench.session.catalogue import shipped
from labbench.session.check import BadInput, check_names, listed, meant
from labbench.session.operations import AnyOperation, as_asked
from labbench.session.series import operations_from

KEYS = ("title", "about", "step")
LIMIT = 2**24  # bytes: what people write


class Recipe(Struct, frozen=True, kw_only=True):
    """A titled list of operations."""

    title: str
    about: str = ""
    steps: tuple[AnyOperation, ...]


def read(path: Path) -> Recipe:
    """The recipe of a file. `BadInput` names the file, the step and what would be right."""
    try:
        text = reading.content(path, LIMIT).decode().replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a text file in UTF-8") from None
    try:
        return parse(text)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def parse(text: str) -> Recipe:
    """The recipe of a text. `BadInput` names the step and what would be right."""
    import tomllib  # here, since the bench paints before anybody asks for a recipe

    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not TOML: {error}") from None
    for key in table:
        if key not in KEYS:
            raise BadInput(f"unknown key {key!r}; a recipe has {listed(KEYS)}{meant(key, KEYS)}")
    title, about, steps = table.get("title"), table.get("about", ""), table.get("step")
    if not isinstance(title, str) or not title.strip():
        raise BadInput('a recipe begins with title = "…"')
    if not isinstance(about, str):
        raise BadInput(f"about must be text in quotes, not {about!r}")
    if not isinstance(steps, list) or not steps:
        raise BadInput("a recipe needs at least one table [[step]], each with op and its fields")
    operations = [operation for number, raw in enumerate(steps, 1) for operation in _step(number, raw)]
    return Recipe(title=title, about=about, steps=tuple(operations))


def of(title: str, operations: Iterable[AnyOperation]) -> Recipe:
    """What was done as people would write it: without the filters that the bench recorded."""
    return Recipe(title=title, steps=tuple(as_asked(operation) for operation in operations))


def write(recipe: Recipe) -> str:
    """The recipe as TOML, safe to print; fields that have their default value are left out."""
    import tomllib

    import tomli_w

    table: dict[str, object] = {"title": recipe.title}
    if recipe.about:
        table["about"] = recipe.about
    table["step"] = [_table(operation) for operation in recipe.steps]
    text = tomli_w.dumps(table, multiline_strings=True)
    return escaped_toml(text if tomllib.loads(text) == table else tomli_w.dumps(table))  # """ loses carriage returns


def _step(number: int, raw: object) -> tuple[AnyOperation, ...]:
    try:
        operations = operations_from(raw)
        for operation in operations:
            check_names(operation, shipped())
    except BadInput as error:
        raise BadInput(f"step {number}: {error}") from None
    return operations


def _table(operation: AnyOperation) -> dict[str, object]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(operation)}
    defaults |= {f.name: f.default_factory() for f in msgspec.structs.fields(operation) if callable(f.default_factory)}
    fields = {name: value for name, value in msgspec.structs.asdict(operation).items() if value != defaults.get(name)}
    return {"op": type(operation).__name__.lower()} | {name: _listed(value) for name, value in fields.items()}


def _listed(value: object) -> object:
    """As TOML is read: lists instead of tuples."""
    if isinstance(value, dict):
        return {name: _listed(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
