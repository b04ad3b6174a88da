"""A model of one's own: a name with a colon, `file.py:factory` or `package.module:factory`, that stands for code. What
such a name means, found out without importing anything."""

import importlib.machinery
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from labbench.session.operations import Load, Operation

FORM = re.compile(r"(?P<where>.+\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<what>[^\W\d]\w*(\.[^\W\d]\w*)*)")
EXAMPLES = "net.py:build or package.module:build"


def is_own(model: str) -> bool:
    """Whether a model's name stands for code that is in no catalogue."""
    return ":" in model


def problem_of(model: str) -> str:
    """What is wrong with the form of such a name, or ""."""
    if FORM.fullmatch(model):
        return ""
    return f"a model of your own is named by a file or a module and its factory, such as {EXAMPLES}, not {model!r}"


def place_of(model: str) -> Path | None:
    """The file whose code such a name stands for, as seen from the current folder; None where it is not to be found.

    Nothing is imported, not even the package around a module.
    """
    where = model.rpartition(":")[0]
    if where.endswith(".py"):
        path = Path(where).expanduser().absolute()
        return path if path.is_file() else None
    name, *rest = where.split(".")
    try:
        spec = importlib.machinery.PathFinder.find_spec(name, [str(Path.cwd())]) or importlib.util.find_spec(name)
        for part in rest:
            name = f"{name}.{part}"
            folders = spec.submodule_search_locations if spec else None
            spec = importlib.machinery.PathFinder.find_spec(name, list(folders)) if folders else None
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None


def brief(model: str) -> str:
    """A model's name without the folders of its file."""
    return model.rpartition("/")[2]


def described(model: str) -> str:
    """The name and the file that it stands for here, for a person who is to decide."""
    place = place_of(model)
    return f"{model} ({place})" if place else f"{model} (not found from {Path.cwd()})"


def own_models(operations: Iterable[Operation]) -> tuple[str, ...]:
    """The models of one's own that doing these operations would import."""
    loads = (operation for operation in operations if isinstance(operation, Load))
    return tuple(dict.fromkeys(load.model for load in loads if is_own(load.model)))
