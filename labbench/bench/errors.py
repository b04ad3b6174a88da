"""The ways in which an operation ends early that are no bug: it cannot be done, or the user stopped it."""


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
