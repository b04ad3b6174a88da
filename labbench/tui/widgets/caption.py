"""The strip above the status line: the next step of a recipe, and the note that a recipe or a recording has come to."""

from rich.text import Text

from labbench.cells import head, wrapped
from labbench.printable import printable
from labbench.session.operations import Note
from labbench.session.prose import plain
from labbench.session.session import Session
from labbench.tui.situation import Situation

LINES = 4


def strip(session: Session, situation: Situation, width: int) -> Text:
    """A few lines, or none."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if situation.recipe:
        text.append("recipe ", "bold").append(printable(situation.recipe))
    read_now = session.steps and isinstance(session.steps[-1].operation, Note)
    if situation.playing and situation.playing.told:  # it stands in large
        return text
    if not situation.playing and not (situation.recipe and read_now):
        return text
    note = plain(latest_note(session))
    if text and note:
        text.append("\n")
    lines = [line for paragraph in note.splitlines() for line in wrapped(paragraph, max(width - 2, 8)) or [""]]
    room = LINES - 1 if situation.recipe else LINES
    shown = lines[:room]
    if len(lines) > room:
        shown[-1] = f"{head(shown[-1], width - 24)} … ⏎ reads it all"
    for number, line in enumerate(shown):
        text.append("✎ " if number == 0 else "\n  ", "bold").append(line)
    return text


def latest_note(session: Session) -> str:
    """The text of the last note of a session, or ""."""
    notes = [step.operation.text for step in session.steps if isinstance(step.operation, Note)]
    return notes[-1].strip() if notes else ""
