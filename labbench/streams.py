"""The three standard streams, which whoever starts a program may have closed, redirected, or given another encoding:
they are made such that every command can write to them."""

import io
import os
import sys
from typing import TextIO

NOWHERE = os.devnull


def prepare() -> None:
    """Open onto nothing what is closed, so that no other file gets its number and is taken for it; and write "?" for
    what an encoding does not have."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(NOWHERE, os.O_RDWR)  # takes the lowest free number: this one
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say_in_utf8() -> None:
    """What follows on stdout is JSON or TOML, which are UTF-8 whatever the terminal is."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")


def forsake() -> None:
    """What is still to be written to stdout goes nowhere: its reader is gone, or its disk is full."""
    try:
        os.dup2(os.open(NOWHERE, os.O_WRONLY), sys.stdout.fileno())
        sys.stdout.flush()
    except (OSError, ValueError):  # it is no file
        pass


def _nowhere(mode: str) -> TextIO:
    return open(NOWHERE, mode, encoding="utf-8")  # type: ignore[return-value]
