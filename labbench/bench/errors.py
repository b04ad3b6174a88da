"""The ways in which an operation ends early that are no bug: it cannot be done, or the user stopped it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class BenchError(Exception):
    """An operation cannot be done. The message says what was wrong and what would be right; the state stands."""


class NothingLeft(BenchError):
    """All that an operation asks for was so before."""


class Stopped(Exception):
    """The user stopped what was running."""


LONG = 120  # characters of what a file says: a name in a sentence


def clipped(text: str) -> str:
    """Text of a file for a sentence: not longer than that."""
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def never() -> bool:
    """The `stopped` of what cannot be stopped."""
    return False


_stopped: ContextVar[Callable[[], bool]] = ContextVar("stopped", default=never)


@contextmanager
def listening(stopped: Callable[[], bool]) -> Iterator[None]:
    """While it lasts, `breathe` hears a stop, however deep it is called."""
    token = _stopped.set(stopped)
    try:
        yield
    finally:
        _stopped.reset(token)


def breathe() -> None:
    """Raise `Stopped` if the user stopped what is running: for loops that take long."""
    if _stopped.get()():
        raise Stopped
