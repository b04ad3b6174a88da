"""The history of a session as rows of words: a tree of points, for the history pane and for `labbench show`.

The rows stand in the order of the tree, not of time: a point under the one it was made from, notes, evaluations and
tasks under the point they are about. Undo, redo, jump and name are no rows: they say where one stands and what a point
is called (the log has them as they came). In the order of time every branch would be a line drawn past all that was
done elsewhere meanwhile, and a narrow pane has no room for that; the numbers still tell the time.

Of the branches at a point the one in which one stood last goes straight on, and the others stand before it, indented.
So a history without branches is one column, and the first column down to where one stands is what is in effect.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from labbench.session.operations import AnyOperation, Change, Evaluate, Name, Note, Task, Walk
from labbench.session.prose import in_one_line
from labbench.session.session import Session, Step
from labbench.session.tree import Tree

NOW, UNDONE, NOTE, RUNNING = "▸", "↶", "✎", "…"
BRANCH, PAST = "├ ", "│ "
Standing: TypeAlias = Literal["now", "done", "undone", "left"]
"""Of a point: where one stands, on the way there, where redo leads, or on another branch."""


class Row(Struct, frozen=True):
    """One operation: a point, or what belongs to one."""

    number: int
    point: int
    """The point that it is, or that it belongs to."""
    standing: Standing
    """Of that point."""
    words: str
    lines: str = ""
    """The lines of the branches left of the words."""
    below: str = ""
    """The same for what stands under the words and still belongs to them."""
    name: str = ""
    """What the point is called, or ""."""
    step: Step | None = None
    """None while it is running."""

    @property
    def is_point(self) -> bool:
        """Whether one can stand here."""
        return self.step is not None and self.number == self.point

    @property
    def sign(self) -> str:
        """Where one stands, where redo leads, what is a note, what is running; a blank for the rest."""
        if self.step is None:
            return RUNNING
        if isinstance(self.step.operation, Note):
            return NOTE
        return {"now": NOW, "undone": UNDONE}.get(self.standing, " ") if self.is_point else " "

    @property
    def quiet(self) -> bool:
        """Whether it is not in effect."""
        return self.standing in ("undone", "left")

    @property
    def compression(self) -> float | None:
        """Compression ratio after it, parameters when loaded / non-zero ones; None for what makes no model."""
        return self.step.snapshot.whole.ratio if self.is_point and self.step and self.step.snapshot else None

    @property
    def accuracy(self) -> tuple[str, float] | None:
        """A split and the accuracy on it: of an evaluation its own, of a point validation if that was measured."""
        step = self.step
        if step is None or step.snapshot is None or not (self.is_point or isinstance(step.operation, Evaluate)):
            return None
        own = (step.operation.split,) if isinstance(step.operation, Evaluate) else ("validation", "test")
        measured = step.snapshot.accuracy
        return next(((split, measured[split].top1) for split in own if split in measured), None)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know of it."""
        return self.step.event.remarks if self.step else ()

    @property
    def full(self) -> str:
        """The whole text of a note or a task, or ""."""
        return self.step.operation.text if self.step and isinstance(self.step.operation, Note | Task) else ""


def rows(session: Session) -> list[Row]:
    """The history of a session, what is running with it."""
    tree, running = session.tree, session.running
    standings = _standings(tree)
    beside = _beside(session.steps)
    children: dict[int, list[int]] = {}
    for number, parent in tree.parents.items():
        children.setdefault(parent, []).append(number)
    straight = dict(tree.latest)
    next_number = len(session.steps) + 1
    if isinstance(running, Change):
        children.setdefault(tree.now, []).append(next_number)
        straight[tree.now] = next_number
        standings |= {number: "left" for number, standing in standings.items() if standing == "undone"}
    found = []
    for number, lines, below in _in_order(children, straight):
        if number not in tree.items:
            assert running is not None
            found.append(Row(number, number, "now", running.describe(), lines, below))
            continue
        step, standing = tree.items[number], standings[number]
        found.append(Row(number, number, standing, _words(step.operation), lines, below, tree.name_of(number), step))
        for one in beside.get(number, ()):
            found.append(Row(one.number, number, standing, _words(one.operation), below, below, step=one))
        if number == tree.now and running is not None and not isinstance(running, Change):
            found.append(Row(next_number, number, standing, running.describe(), below, below))
    loose = [Row(one.number, 0, "done", _words(one.operation), step=one) for one in beside.get(0, ())]
    return [*loose, *found]


def _words(operation: AnyOperation) -> str:
    return in_one_line(operation.text) if isinstance(operation, Note) else operation.describe()


def _standings(tree: Tree[Step]) -> dict[int, Standing]:
    found: dict[int, Standing] = dict.fromkeys(tree.items, "left")
    found |= dict.fromkeys(tree.numbers(), "done")
    found |= dict.fromkeys((step.number for step in tree.ahead()), "undone")
    return found | ({tree.now: "now"} if tree.now else {})


def _beside(steps: Sequence[Step]) -> dict[int, list[Step]]:
    """Notes, evaluations and the like by the number of the point at which they were done."""
    walked: Tree[Step] = Tree()
    found: dict[int, list[Step]] = {}
    for step in steps:
        walked.take(step.operation, step)
        if not isinstance(step.operation, Change | Walk | Name):
            found.setdefault(walked.now, []).append(step)
    return found


def _in_order(children: Mapping[int, Sequence[int]], straight: Mapping[int, int]) -> Iterator[tuple[int, str, str]]:
    """Every point with the lines before its words and before what stands under them."""
    waiting = [(number, "", "") for number in reversed(children.get(0, ()))]
    while waiting:
        number, lines, below = waiting.pop()
        yield number, lines, below
        under = children.get(number, ())
        if under:
            trunk = straight.get(number, under[-1])
            waiting.append((trunk, below, below))
            waiting += [(one, below + BRANCH, below + PAST) for one in reversed(under) if one != trunk]
