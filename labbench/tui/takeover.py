"""A recording, as far as it was played, becomes a session of its own that a live bench can go on with."""

import itertools
from datetime import datetime
from pathlib import Path

from labbench.session.events import Environment, Failed, Finished, Ready
from labbench.session.jsonl import VERSION, Header, Writer
from labbench.session.session import Session
from labbench.session.writing import PRIVATE
from labbench.tui.words import file_name


def take_over(recording: Session, position: int, folder: Path, name: str) -> Path:
    """Write the first `position` events of a recording to a new file there, and return its path.

    What was only begun is left out: the model is as the last finished operation left it. Raises `OSError`.
    """
    events = recording.events[:position]
    while events and not isinstance(events[-1][1], Finished | Failed | Ready):
        events.pop()
    now = datetime.now().astimezone()
    header = Header(
        labbench=VERSION,
        title=recording.title,
        created=now.isoformat(timespec="seconds"),
        environment=_environment(recording),
    )
    path = _free(folder, f"{file_name(name)}-{now:%Y-%m-%d-%H%M%S}")
    Writer(path, header, events, mode=PRIVATE).close()
    return path


def _environment(recording: Session) -> Environment | None:
    """Where it was begun: what the file's header said, unless it was opened again elsewhere."""
    readies = (event.environment for _, event in recording.events if isinstance(event, Ready))
    return next(readies, recording.environment)


def _free(folder: Path, stem: str) -> Path:
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := folder / f"{name}.jsonl").exists())
