"""How a command ends: the exit codes, and the sentence on stderr that goes with one."""

import signal
import sys
from contextlib import suppress

from labbench.printable import printable

SAME, DIFFERS, BAD, CANNOT, BUG, INTERRUPTED = 0, 1, 2, 3, 70, 130
"""Done or the same · refused or differs · bad file or command line · cannot run here · a bug · ctrl+c."""
UNREAD = 141
"""The reader of our output went away before all was said: what a program ends with that SIGPIPE kills."""
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a program to end: a batch system, `kill`, a terminal that is closed."""


def by_signal(number: int) -> int:
    """The exit code of a program that a signal ended, as shells have it."""
    return 128 + number


def heard(numbers: tuple[signal.Signals, ...] = ENDING) -> tuple[signal.Signals, ...]:
    """Those of the signals that are not ignored here; nohup ignores SIGHUP, and means it."""
    return tuple(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)


def say(sentence: str, code: int = SAME) -> int:
    """Print a sentence on stderr; returns the exit code. What a terminal could take for a command is replaced."""
    narrate(f"labbench: {printable(sentence)}\n")
    return code


def narrate(text: str) -> None:
    """Write to stderr at once. Where nobody reads it any more, it is lost: narration holds nothing up."""
    with suppress(OSError, ValueError):
        print(text, end="", file=sys.stderr, flush=True)
