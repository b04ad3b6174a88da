"""What is done with the points of the history: go to one, name it, read it in full, compare some."""

from pathlib import Path
from typing import TYPE_CHECKING

from labbench.session.comparison import subject
from labbench.session.history import Row
from labbench.session.operations import Jump, Name, Note
from labbench.session.scan_report import table
from labbench.session.session import Session
from labbench.tui.screens.compare import MOST, CompareScreen
from labbench.tui.screens.name import NameForm
from labbench.tui.words import rate, times

if TYPE_CHECKING:
    from labbench.tui.app import LabbenchApp

TABLE = 74  # columns of a table that is read: what an 80-column terminal leaves it


def go(app: "LabbenchApp") -> None:
    """Go to the point under the cursor of the history; elsewhere, show the history first."""
    row, tree = app.bench.row(), app.shown.session.tree
    if row is None:
        app.bench.show_pane("history")
        app.say("choose a point with ↑ ↓; h goes there")
    elif row.point == tree.now:
        app.say(f"the model is at step {tree.now} already")
    else:
        app.desk.perform(Jump(to=tree.name_of(row.point) or str(row.point)))


def name(app: "LabbenchApp") -> None:
    """Ask for the name of the point under the cursor of the history; elsewhere, of the point where one stands."""
    row, session = app.bench.row(), app.shown.session
    point = row.point if row else session.tree.now

    def take(given: Name | None) -> None:
        if given is not None:
            app.desk.perform(given)

    app.push_screen(NameForm(session.tree, point), take)


def title(row: Row) -> str:
    """Of what is read: "3 operation · dense"."""
    kind = "note" if row.step and isinstance(row.step.operation, Note) else "operation"
    return f"{row.number} {kind}" + (f" · {row.name}" if row.name else "")


def told_in_full(row: Row, session: Session) -> str:
    """All there is to say of a row of the history."""
    parts = [row.full or row.words]
    if row.is_point:
        found = session.snapshots.get(row.point)
        facts = [f"made from step {session.tree.parents[row.point]}"] if session.tree.parents[row.point] else []
        if row.compression is not None:
            facts.append(f"compression ratio {times(row.compression)}, parameters when loaded / non-zero")
        facts += (
            [f"{split} {rate(of.top1)} % of {of.images:,} images" for split, of in found.accuracy.items()]
            if found
            else []
        )
        parts.append("\n".join(facts))
    if row.step and row.step.event.scanned:
        parts.append("\n".join(table(row.step.event.scanned, width=TABLE)))
    return "\n\n".join(filter(None, (*parts, *row.remarks)))


def compare(app: "LabbenchApp") -> None:
    """Show the marked points of the history side by side, or the one under the cursor and the model now."""
    session = app.shown.session
    points, now = app.bench.points, session.tree.now
    if len(points) < 2:
        other = points[0] if points and points[0] != now else session.tree.parents.get(now, 0)
        points = (other, now) if other else ()
    if not points:
        app.say("nothing to compare yet: the model is as it was opened")
    elif len(points) > MOST:
        app.say(f"{len(points)} points are marked; at most {MOST} fit side by side", "warning")
    else:
        name = Path(app.shown.situation.file).stem
        app.push_screen(CompareScreen([subject(session, point, name) for point in points], app.sessions))
