"""What can be opened: whether a data set lies in the data folder, and the session files of a folder, read cheaply."""

import itertools
import os
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from labbench.published import PUBLISHED
from labbench.session import lock
from labbench.session.catalogue import Entry
from labbench.session.jsonl import VERSION, Header, read
from labbench.session.own import brief
from labbench.tui import words

RECENT = 50  # sessions that are listed
TAIL = 64  # bytes: more than the last line of a file that was closed in order
HEADER_LIMIT = 64 * 1024  # bytes: a first line that is longer is no header


class Recent(Struct, frozen=True):
    """A session file as far as its first line tells."""

    path: Path
    title: str
    date: str
    size: int
    """Bytes."""
    problem: str = ""
    """Why it cannot be opened."""


class CutOff(Struct, frozen=True):
    """A session whose recording broke off."""

    path: Path
    question: str
    """What it is, and whether to go on there."""


def present(dataset: Entry, data_dir: Path) -> bool:
    """Whether the images are there, so that nothing has to be downloaded."""
    if dataset.name in PUBLISHED:
        return PUBLISHED[dataset.name].complete(data_dir)
    return not dataset.facts.get("download", False)


def whereabouts(dataset: Entry, data_dir: Path) -> str:
    """Where the images come from, in a word: "there", "download", or "folder" where an option names one."""
    if any(knob.name == "path" for knob in dataset.knobs):
        return "folder"
    return "there" if present(dataset, data_dir) else "download"


def recent(folder: Path) -> list[Recent]:
    """The session files of a folder, newest first. A broken one is listed with what is wrong."""
    dated = []
    try:
        for path in folder.glob("*.jsonl"):
            status = path.stat()
            dated.append((status.st_mtime, path, status.st_size))
    except OSError:
        return []
    newest = sorted(dated, key=lambda item: item[0], reverse=True)
    return [_read(path, time, size) for time, path, size in itertools.islice(newest, RECENT)]


def cut_off(folder: Path) -> CutOff | None:
    """The newest session of a folder, if it was not closed in order and nobody records there; its end says so."""
    try:
        times = [(path.stat().st_mtime, path) for path in folder.glob("*.jsonl")]
        path = max(times)[1]
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            if file.read().endswith(b'"event":"closed"}]\n') or not lock.free(path):
                return None
        _, session, _ = read(path)
    except (OSError, ValueError):  # there is none, or it cannot be opened
        return None
    what = f"{brief(session.snapshot.model)} on {session.snapshot.dataset}, " if session.snapshot else ""
    broken = f"; {session.interrupted.describe()}" if session.interrupted else ""
    if not session.steps and not broken:
        return None
    done = words.plural(len(session.steps), "operation")
    return CutOff(path, f"{path.name} was not closed in order: {what}{done}{broken}. Continue there?")


def problem_of(path: Path) -> str:
    """Why this file cannot be opened as a session or a recipe, or "" if it looks like one."""
    try:
        if path.suffix not in (".jsonl", ".toml"):
            return "must end in .jsonl (a session) or .toml (a recipe)"
        if not path.is_file():
            return f"there is no file {path}"
        return _read(path, 0.0, 0).problem if path.suffix == ".jsonl" else ""
    except (OSError, ValueError) as error:
        return str(error)


def _read(path: Path, time: float, size: int) -> Recent:
    written = datetime.fromtimestamp(time)
    date = f"{written:today %H:%M}" if written.date() == datetime.now().date() else f"{written:%Y-%m-%d}"
    try:
        with path.open("rb") as file:
            line = file.readline(HEADER_LIMIT)
        header = msgspec.json.decode(line, type=Header)
    except OSError as error:
        return Recent(path, "", date, size, error.strerror or str(error))
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return Recent(path, "", date, size, "not a session file")
    if not 1 <= header.labbench <= VERSION:
        return Recent(path, header.title, date, size, f"format {header.labbench}; this labbench reads {VERSION}")
    return Recent(path, header.title, date, size)
