"""What an audience predicts and what came of it: the question is a note's, the answer the next step that has the
figure. Nothing of this is written into a session."""

import re

from msgspec import Struct

from labbench.session.check import BadInput
from labbench.session.operations import Note
from labbench.session.session import Session, Step

PERCENT = frozenset({"accuracy", "sparsity"})
"""Figures that are told in percent; the others are counts."""
SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
MOST = 40  # guesses: a class
GUESS = re.compile(r"(\d{1,15}(?:\.\d{0,6})?)\s*([%kmg]?)", re.IGNORECASE)


class Verdict(Struct, frozen=True):
    """An answered question."""

    question: Note
    step: Step
    """The one that answers it."""
    actual: float
    """A fraction, or a count."""
    guesses: tuple[float, ...]
    """The closest first."""


def parse(text: str, figure: str) -> tuple[float, ...]:
    """The guesses in a line such as "92, 95.5" (percent) or "250k, 1.2M"; none in an empty one.

    Raises `BadInput` with what would be right.
    """
    found = []
    for part in text.replace(";", ",").split(","):
        if not part.strip():
            continue
        match = GUESS.fullmatch(part.strip())
        suffix = match[2].lower() if match else ""
        if match is None or (suffix not in ("", "%") if figure in PERCENT else suffix == "%"):
            right = "percent, such as 92, 95.5" if figure in PERCENT else "numbers, such as 250k, 1.2M"
            raise BadInput(f"guesses are {right}, with commas between them")
        value = float(match[1])
        if figure in PERCENT and value > 100:
            raise BadInput(f"{figure} is at most 100 %")
        found.append(value / 100 if figure in PERCENT else value * SUFFIXES[suffix])
    if len(found) > MOST:
        raise BadInput(f"at most {MOST} guesses")
    return tuple(found)


def figure_after(step: Step, figure: str) -> float | None:
    """What a step measured or made: a fraction or a count, as it stands in its own snapshot; None where it has none."""
    snapshot = step.event.snapshot
    if snapshot is None:
        return None
    match figure:
        case "sparsity":
            return snapshot.prunable.sparsity
        case "parameters":
            return snapshot.whole.nonzero
        case "macs":
            return snapshot.macs
    wanted = getattr(step.operation, "split", "validation")
    measured = snapshot.accuracy.get(wanted) or next(iter(snapshot.accuracy.values()), None)
    return measured.top1 if measured else None


def answer(session: Session, number: int) -> Step | None:
    """The step that answers the question of a note by its number, or None so far."""
    question = session.steps[number - 1].operation
    assert isinstance(question, Note)
    later = session.steps[number:]
    return next((step for step in later if figure_after(step, question.figure) is not None), None)


def verdicts(session: Session, guessed: dict[int, tuple[float, ...]]) -> tuple[Verdict, ...]:
    """The questions that the last step answers; `guessed` are the guesses by the note's number."""
    found = []
    for number, guesses in guessed.items():
        if not guesses or number >= len(session.steps):
            continue
        step, question = answer(session, number), session.steps[number - 1].operation
        if step is session.steps[-1] and isinstance(question, Note):
            actual = figure_after(step, question.figure)
            assert actual is not None
            ranked = tuple(sorted(guesses, key=lambda guess: abs(guess - actual)))
            found.append(Verdict(question, step, actual, ranked))
    return tuple(found)
