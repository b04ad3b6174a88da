"""Tasks with a checked goal: what a goal says, what a model reaches of it, and where in a session a task was met."""

import math
import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from labbench.session.operations import Task
from labbench.session.session import Session
from labbench.session.snapshot import Accuracy, Snapshot


class Figure(Struct, frozen=True):
    """A figure that a goal may be about."""

    words: str
    fraction: Callable[[Snapshot], float | None]
    """As a fraction: of what was loaded, or of the images; None where it was not measured."""
    number: Callable[[Snapshot], float | None]
    """As it is, for a goal without a percent sign."""


def _accuracy(split: str, kind: Callable[[Accuracy], float]) -> Callable[[Snapshot], float | None]:
    return lambda snapshot: kind(snapshot.accuracy[split]) if split in snapshot.accuracy else None


def _of(part: Callable[[Snapshot], int], whole: Callable[[Snapshot], int]) -> Callable[[Snapshot], float | None]:
    return lambda snapshot: part(snapshot) / whole(snapshot) if whole(snapshot) else None


def _measured(words: str, split: str, kind: Callable[[Accuracy], float]) -> Figure:
    found = _accuracy(split, kind)
    return Figure(f"{words} on the {split} split", found, found)


def _counted(words: str, part: Callable[[Snapshot], int], whole: Callable[[Snapshot], int]) -> Figure:
    return Figure(words, _of(part, whole), part)


FIGURES: dict[str, Figure] = {
    "parameters": _counted("parameters that are not zero", lambda s: s.whole.nonzero, lambda s: s.whole.loaded),
    "size": _counted("parameters that are there, zeros too", lambda s: s.whole.now, lambda s: s.whole.loaded),
    "distinct": _counted("distinct conv and linear weights", lambda s: s.unique, lambda s: s.prunable.loaded),
    "macs": _counted("multiply-accumulates of one image", lambda s: s.macs, lambda s: s.macs_loaded),
    "sparsity": Figure(
        "conv and linear weights that are gone", lambda s: s.prunable.sparsity, lambda s: s.prunable.sparsity
    ),
    "compression": Figure("parameters loaded / not zero", lambda s: s.whole.ratio, lambda s: s.whole.ratio),
    "accuracy": _measured("top-1 accuracy", "validation", lambda found: found.top1),
    "test accuracy": _measured("top-1 accuracy", "test", lambda found: found.top1),
    "worst class": _measured("recall of the worst class", "validation", lambda found: found.worst),
}
"""By the name that goals use. Fractions of counts are of the model as it was loaded: the dense one."""

RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
}
SPELLED = {"≤": "<=", "≥": ">=", "at most": "<=", "at least": ">=", "below": "<", "above": ">"}
EXAMPLE = "a goal is a figure, a relation and a value, such as parameters < 25 % or accuracy > 92.5 %"
GOAL = re.compile(
    rf"\s*(?P<figure>[a-z][a-z ]*?)\s*(?P<relation>{'|'.join([*RELATIONS, *SPELLED])})\s*"
    r"(?P<value>\d{1,12}(\.\d{1,9})?)\s*(?P<percent>%?)\s*"
)


class Goal(Struct, frozen=True):
    """One condition on a model."""

    figure: str
    relation: str
    value: float
    """In percent, if `percent`."""
    percent: bool

    def reading(self, snapshot: Snapshot) -> float | None:
        """The figure of a model in the units of the goal; None where it was not measured."""
        figure = FIGURES[self.figure]
        found = figure.fraction(snapshot) if self.percent else figure.number(snapshot)
        return found if found is None or not self.percent else 100 * found

    def met(self, snapshot: Snapshot) -> bool:
        """Whether a model meets it."""
        found = self.reading(snapshot)
        return found is not None and RELATIONS[self.relation](found, self.value)

    def miss(self, snapshot: Snapshot) -> float:
        """How far a model is from it: 0 where it is met, else |reading − value| / the larger of both, at most 1.

        Of a share that shall be large, such as an accuracy, it is what is missing to 100 % that is compared: an error
        twice as large as allowed is as far away as twice as many parameters. What was not measured is farthest: 1.
        """
        found, value = self.reading(snapshot), self.value
        if self.met(snapshot):
            return 0.0
        if found is None or not math.isfinite(found):
            return 1.0
        if self.percent and self.relation.startswith(">"):
            found, value = 100 - found, 100 - value
        larger = max(abs(found), abs(value))
        return abs(found - value) / larger if larger else 0.0

    def describe(self) -> str:
        """The goal as it is written: "parameters < 25 %"."""
        return f"{self.figure} {self.relation} {_number(self.value)}{' %' if self.percent else ''}"

    def state(self, snapshot: Snapshot) -> str:
        """Where a model stands: "✓ parameters 21.3 < 25 %", readable without color."""
        found = self.reading(snapshot)
        sign = "✓" if self.met(snapshot) else "✗"
        said = "not measured" if found is None else self._shown(found)
        return f"{sign} {self.figure} {said} {self.relation} {_number(self.value)}{' %' if self.percent else ''}"

    def _shown(self, found: float) -> str:
        """The reading with as many decimals as tell it from the goal's value."""
        if not math.isfinite(found):
            return "∞"
        if not self.percent and found == round(found):
            return f"{found:,.0f}"
        texts = [f"{found:,.{decimals}f}" for decimals in range(1, 7)]
        apart = (text for text in texts if float(text.replace(",", "")) != self.value or found == self.value)
        return next(apart, texts[-1])


def goal_from(text: str) -> Goal:
    """The goal that a text means. Raises `ValueError`, for the user."""
    found = GOAL.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no goal; {EXAMPLE}")
    if found["figure"] not in FIGURES:
        raise ValueError(f"no figure {found['figure']!r} for a goal; there are {', '.join(FIGURES)}")
    relation = SPELLED.get(found["relation"], found["relation"])
    percent = bool(found["percent"])
    if percent and found["figure"] == "compression":
        raise ValueError("compression is a ratio without a percent sign, such as compression > 4")
    fractional = found["figure"] not in ("parameters", "size", "distinct", "macs", "compression")
    if fractional and not percent:
        raise ValueError(f"{found['figure']} is in percent: write {text.strip()} %")
    return Goal(found["figure"], relation, float(found["value"]), percent)


def goals_of(task: Task) -> tuple[Goal, ...]:
    """The goals of a task. Raises `ValueError`, for the user, where one cannot be read."""
    return tuple(goal_from(text) for text in task.goals)


class Outcome(Struct, frozen=True):
    """How far a session is with a task."""

    task: Task
    goals: tuple[Goal, ...]
    """None where the file's goals cannot be read."""
    met_at: int = 0
    """Number of the step after which all goals were met at once for the first time; 0: never."""
    now: bool = False
    """Whether the model now meets them."""
    nearest: Snapshot | None = None
    """The model that meets most goals; of those with as many the one that misses the others by least (the sum of
    `Goal.miss`), the earliest of equals. Where all are met, that of `met_at`."""
    nearest_at: int = 0
    """Number of the step after which the session had that model; 0 where there is none."""

    def states(self) -> tuple[str, ...]:
        """Where that model stands with each goal."""
        return tuple(goal.state(self.nearest) if self.nearest else f"✗ {goal.describe()}" for goal in self.goals)


def tasks_of(session: Session) -> dict[str, tuple[int, Task]]:
    """The tasks of a session by name, with the number of the step that set them; the last of a name counts."""
    return {
        step.operation.name: (step.number, step.operation) for step in session.steps if isinstance(step.operation, Task)
    }


def outcomes(session: Session, given: Sequence[Task] = ()) -> list[Outcome]:
    """How the tasks of a session stand; `given` ones count from the first step on and replace those of their name."""
    found = tasks_of(session) | {task.name: (0, task) for task in given}
    return [outcome(session, task, since) for since, task in found.values()]


def outcome(session: Session, task: Task, since: int = 0) -> Outcome:
    """How one task stands, judged by the model after each step from `since` on."""
    try:
        goals = goals_of(task)
    except ValueError:
        return Outcome(task, ())
    judged = [(step, step.snapshot) for step in session.steps if step.number >= since and step.snapshot]
    met_at = next((step.number for step, model in judged if all(goal.met(model) for goal in goals)), 0)
    now = session.snapshot is not None and all(goal.met(session.snapshot) for goal in goals)
    if not judged:
        return Outcome(task, goals, met_at, now)

    def distance(model: Snapshot) -> tuple[int, float]:
        return sum(not goal.met(model) for goal in goals), sum(goal.miss(model) for goal in goals)

    step, nearest = min(judged, key=lambda found: distance(found[1]))
    return Outcome(task, goals, met_at, now, nearest, step.number)


def _number(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")
