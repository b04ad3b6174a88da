"""FILE@POINT: a model of a session by the file and the number or name of its point."""

from collections.abc import Callable
from pathlib import Path

from labbench.session.comparison import Subject, subject
from labbench.session.jsonl import read


def named_point(text: str, find: Callable[[str], Path] = Path) -> tuple[Subject, str]:
    """The model that is meant, where the session stands if no point is named, and a notice ("" or what was dropped).
    `find` tells the file of a name.

    Raises `BadFile` for a file that is no session, and `ValueError`, for the user, where there is no such point.
    """
    path, point = find(text).expanduser(), ""
    if "@" in path.name and not path.exists():
        name, _, point = text.rpartition("@")
        path = find(name).expanduser() if Path(name).name else path
    _, session, notice = read(path)
    if not session.tree.items:
        raise ValueError(f"{path}: nothing to compare: no model was opened")
    try:
        return subject(session, session.tree.point(point), path.stem), notice
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
