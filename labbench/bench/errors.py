"""The ways in which an operation ends early that are no bug: it cannot be done, or the user stopped it."""


class BenchError(Exception):
    """An operation cannot be done. The message says what was wrong and what would be right; the state stands."""


class NothingLeft(BenchError):
    """All that an operation asks for was so before."""


class Stopped(Exception):
    """The user stopped what was running."""


def never() -> bool:
    """The `stopped` of what cannot be stopped."""
    return False
