"""What a session file came to, read from its last lines: how well its model does and how small it is. Cheap enough for
a list of files, however large each of them is."""

import os
import stat
from pathlib import Path

import msgspec
from msgspec import Struct

from labbench.tui.words import rate, times

TAIL = 256 * 1024  # bytes: more than the last snapshots of the largest models take
SPLITS = ("validation", "test")


class _Accuracy(Struct):
    top1: float


class _Total(Struct):
    loaded: int
    nonzero: int


class _Snapshot(Struct):
    whole: _Total
    accuracy: dict[str, _Accuracy] = {}


class _End(Struct):
    event: str
    snapshot: _Snapshot | None = None


_line = msgspec.json.Decoder(tuple[float, _End])


def last_figures(path: Path) -> str:
    """ "98.3 % ×1.64" of the last model in a session file, or "" where its end tells none."""
    for line in reversed(_lines(path)):
        try:
            _, end = _line.decode(line)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            continue
        if end.event == "finished" and end.snapshot:
            return _words(end.snapshot)
    return ""


def _lines(path: Path) -> list[bytes]:
    """The whole lines at the end of a regular file."""
    try:
        source = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return []
    try:
        there = os.fstat(source)
        if not stat.S_ISREG(there.st_mode):
            return []
        os.lseek(source, max(there.st_size - TAIL, 0), os.SEEK_SET)
        return os.read(source, TAIL).split(b"\n")
    except OSError:
        return []
    finally:
        os.close(source)


def _words(snapshot: _Snapshot) -> str:
    split = next((split for split in SPLITS if split in snapshot.accuracy), "")
    accuracy = f"{rate(snapshot.accuracy[split].top1)} % " if split else ""
    total = snapshot.whole
    return f"{accuracy}{times(total.loaded / total.nonzero) if total.nonzero else times(float('inf'))}"
