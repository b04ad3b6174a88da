"""The task line: what is to be reached, where the model stands, and that it is met."""

from msgspec.structs import replace
from rich.text import Text

from labbench.session.goals import Outcome, outcomes
from labbench.session.session import Session
from labbench.session.snapshot import Snapshot
from labbench.tui.words import fitted

LINES = 3


def tasks(session: Session, width: int) -> Text:
    """A line for each task, the latest first, as many as there is room for; none without tasks."""
    text = Text(no_wrap=True, overflow="ellipsis")
    now = live(session)
    if now is None:
        return text
    for number, one in enumerate(list(reversed(outcomes(session)))[:LINES]):
        text.append("\n" if number else "")
        text.append("task ", "bold")
        text.append("   ".join(fitted(_parts(one, now), width - len("task "))))
    return text


def _parts(one: Outcome, now: Snapshot) -> list[str]:
    met = f" ✓ met at step {one.met_at}" if one.met_at else ""
    return [f"{one.task.name}{met}", *(goal.state(now) for goal in one.goals)]


def live(session: Session) -> Snapshot | None:
    """The model now; while it is finetuned, with the validation accuracy of the last epoch."""
    snapshot, latest = session.snapshot, session.epoch_accuracy
    known = snapshot.accuracy.get("validation") if snapshot else None
    if snapshot is None or known is None or latest is None:
        return snapshot
    return replace(snapshot, accuracy={**snapshot.accuracy, "validation": replace(known, top1=latest)})
