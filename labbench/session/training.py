"""The curves of all training on the way to a point, joined end to end."""

import bisect
import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from labbench.session.operations import Finetune, Load
from labbench.session.session import Session

Points = tuple[tuple[float, float | None], ...]
"""(epochs since the model was opened, value); a value that was not finite is None."""


class Training(Struct, frozen=True):
    """All finetuning on the way to a point, joined end to end: nothing of other branches is in it."""

    curves: Mapping[str, Points] = {}
    """By metric name."""
    runs: tuple[float, ...] = ()
    """Where each run began."""

    @property
    def epochs(self) -> float:
        """Where the last curve ends."""
        return max((points[-1][0] for points in self.curves.values() if points), default=0.0)


def training(session: Session, number: int) -> Training:
    """The curves of the finetuning that led to a point, since its model was opened. A resumed run is one with the run
    that it goes on with."""
    curves: dict[str, list[tuple[float, float | None]]] = {}
    runs: list[float] = []
    end = 0.0
    for point in session.tree.numbers(number):
        operation = session.tree.items[point].operation
        if isinstance(operation, Load):
            curves, runs, end = {}, [], 0.0
        elif isinstance(operation, Finetune):
            drawn = _drawn(session, point)
            origin = end
            if not operation.resume:
                runs.append(end)
            elif runs:
                origin = runs[-1] + _began(end - runs[-1], drawn)
            for name, points in drawn.items():
                placed = [(round(origin + x, 9), y) for x, y in points]
                end = max(end, placed[-1][0])
                curves.setdefault(name, []).extend(placed)
    return Training({name: tuple(points) for name, points in curves.items()}, tuple(runs))


def _drawn(session: Session, number: int) -> dict[str, list[tuple[float, float | None]]]:
    """The points of all curves that were drawn while a step was done, with the epochs of its own axis."""
    first, last = session.spans[number]
    found = {}
    for name, curve in session.curves.items():
        begin, end = (bisect.bisect_right(curve.points, place, key=lambda point: point[0]) for place in (first, last))
        if begin < end:
            found[name] = [(x - first, y) for x, y in curve.points[begin:end]]
    return found


def _began(least: float, drawn: Mapping[str, Sequence[tuple[float, float | None]]]) -> float:
    """After how many epochs a stopped run was gone on with, at least after so many: its epochs are measured at whole
    ones, and the first of those that a resumed run drew says how far away that was."""
    firsts = [points[0][0] for name, points in drawn.items() if name.startswith("validation/")]
    return math.ceil(round(least + firsts[0], 6)) - firsts[0] if firsts else least
