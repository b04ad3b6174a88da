"""What can be opened: whether a data set lies in the data folder, and the session files of a folder, read cheaply."""

import contextlib
import os
import stat
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from labbench.published import PUBLISHED
from labbench.session import lock, reading
from labbench.session.catalogue import Entry
from labbench.session.jsonl import VERSION, BadFile, Header, closed_in_order, read
from labbench.session.own import brief
from labbench.tui import words

RECENT = 50  # sessions that are listed
LARGE = 2 * 2**20  # bytes of a session that is not read through before something can be done
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
    cut_off: bool = False
    """Whether it was not closed in order, and nobody records there."""


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
    return [_read(path, status.st_mtime, status.st_size) for path, status in _newest(folder)[:RECENT]]


def cut_off(folder: Path) -> CutOff | None:
    """The newest of the sessions of a folder that were not closed in order and that nobody records; their ends say so.

    How many others there are is said, too: the list of recent sessions marks them.
    """
    left = [
        (path, status.st_size)
        for path, status in _newest(folder)
        if _is_cut_off(path) and not _read(path, 0.0, 0).problem
    ]
    for number, (path, size) in enumerate(left[:RECENT], 1):
        if what := _what(path, size):
            count = len(left) - number
            said = f"{words.plural(count, 'older session')} {'was' if count == 1 else 'were'} cut off, too: Open marks"
            more = f"\n\n{said} {'it' if count == 1 else 'them'}." if count else ""
            return CutOff(path, f"{path.name} was not closed in order: {what}. Continue there?{more}")
    return None


def _newest(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The session files of a folder, the newest first; links to what is no file are none."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.glob("*.jsonl"):
            with contextlib.suppress(OSError):
                if stat.S_ISREG((status := path.stat()).st_mode):
                    found.append((path, status))
    return sorted(found, key=lambda item: item[1].st_mtime, reverse=True)


def _is_cut_off(path: Path) -> bool:
    try:
        return not closed_in_order(path) and lock.free(path)
    except OSError:
        return False


def _what(path: Path, size: int) -> str:
    """What is in a session that was cut off, in words; "" where nothing is. A large one is not read for that."""
    if size > LARGE:
        return f"{size / 1e6:,.0f} MB"
    try:
        _, session, _ = read(path)
    except BadFile:
        return ""
    what = f"{brief(session.snapshot.model)} on {session.snapshot.dataset}, " if session.snapshot else ""
    broken = f"; {session.interrupted.describe()}" if session.interrupted else ""
    if not session.steps and not broken:
        return ""
    return f"{what}{words.plural(len(session.steps), 'operation')}{broken}"


def problem_of(path: Path) -> str:
    """Why this file cannot be opened as a session or a recipe, or "" if it looks like one."""
    try:
        if path.suffix not in (".jsonl", ".toml"):
            return "must end in .jsonl (a session) or .toml (a recipe)"
        if not path.is_file():
            return "is no regular file" if path.exists() else f"there is no file {path}"
        return _read(path, 0.0, 0).problem if path.suffix == ".jsonl" else ""
    except (OSError, ValueError) as error:
        return str(error)


def _read(path: Path, time: float, size: int) -> Recent:
    written = datetime.fromtimestamp(time)
    date = f"{written:today %H:%M}" if written.date() == datetime.now().date() else f"{written:%Y-%m-%d}"
    try:
        with reading.opened(path) as file:
            line = reading.exactly(file, HEADER_LIMIT).partition(b"\n")[0]
        header = msgspec.json.decode(line, type=Header)
    except OSError as error:
        return Recent(path, "", date, size, error.strerror or str(error))
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return Recent(path, "", date, size, "not a session file")
    if not 1 <= header.labbench <= VERSION:
        return Recent(path, header.title, date, size, f"format {header.labbench}; this labbench reads {VERSION}")
    return Recent(path, header.title, date, size, cut_off=_is_cut_off(path))
