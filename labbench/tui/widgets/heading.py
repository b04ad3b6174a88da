"""The first line: what is open, and where it is recorded."""

from rich.text import Text

from labbench.cells import cells
from labbench.printable import printable
from labbench.session.own import brief
from labbench.session.session import Session
from labbench.tui.situation import Situation
from labbench.tui.words import fitted, middle, plural


def heading(session: Session, situation: Situation, width: int) -> Text:
    """Model, data set and device to the left; the session file and its operations to the right."""
    snapshot = session.snapshot
    what = f"{brief(snapshot.model)} · {snapshot.dataset} · {snapshot.device}" if snapshot else "no model open"
    left = fitted(["labbench", what], width, "  ")
    room = width - cells("  ".join(left)) - 2
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(left[0], "bold")
    text.append("".join(f"  {part}" for part in left[1:]))
    right = _record(session, situation, room)
    if right:
        text.append(" " * (width - text.cell_len - cells(right)))
        text.append(right)
    return text


def _record(session: Session, situation: Situation, room: int) -> str:
    done = situation.clock or plural(len(session.steps), "operation")
    file = printable(situation.file)
    if situation.held:
        sign, ways = "⊘", [f"⊘ {file} · read only: {situation.held}", f"⊘ {file} · read only", "⊘ read only"]
        return next((words for words in ways if cells(words) <= room), sign)
    if situation.playing:
        sign, name = "▶", file or printable(session.title) or "recording"
    elif situation.recording:
        sign, name = "●", file
    else:
        sign, name = "○", "not recorded" if session.steps else "recording begins with the first operation"
    for words in (f"{sign} {name} · {done}", f"{sign} {name}", f"{sign} {done}", sign):
        if cells(words) <= room:
            return words
    shorter = f"{sign} {middle(name, room - 2)}"
    return shorter if 0 < cells(shorter) <= room and room > 8 else ""
