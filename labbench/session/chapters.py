"""The chapters of a session: notes that carry a title, each reaching to the next one."""

from msgspec import Struct

from labbench.session.operations import Note
from labbench.session.session import Session


class Chapter(Struct, frozen=True):
    """Where a chapter begins."""

    title: str
    step: int
    """Number of the note that opens it."""


def chapters(session: Session) -> tuple[Chapter, ...]:
    """Every chapter, in the order of time; none where no note has a title."""
    return tuple(
        Chapter(title, step.number)
        for step in session.steps
        if isinstance(step.operation, Note) and (title := " ".join(step.operation.chapter.split()))
    )


def chapter_at(found: tuple[Chapter, ...], step: int) -> int:
    """Number of the chapter, from 1, that a step lies in; 0 before the first."""
    return sum(chapter.step <= step for chapter in found)
