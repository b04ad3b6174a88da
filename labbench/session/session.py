"""A session: the append-only list of timed events. Everything a screen shows of it is derived here."""

from dataclasses import dataclass, field

from labbench.session.events import (
    AnyEvent,
    Died,
    Environment,
    Failed,
    Finished,
    Metric,
    Point,
    Probed,
    Progress,
    Ready,
    Restore,
    Restored,
    Sparsity,
    Started,
)
from labbench.session.operations import AnyOperation, Finetune, Load, Operation, Scan
from labbench.session.snapshot import Snapshot
from labbench.session.tree import Tree


@dataclass(frozen=True)
class Step:
    """One finished operation."""

    number: int
    """From 1, in the order of time; undo, redo, notes and evaluations count."""
    seconds: float
    """When it finished, since the session began."""
    event: Finished
    snapshot: Snapshot | None
    """The model after it."""

    @property
    def operation(self) -> AnyOperation:
        """What was done."""
        return self.event.operation


@dataclass
class Curve:
    """One figure over all finetuning of the session."""

    points: list[tuple[float, float | None]] = field(default_factory=list)
    """(epochs since the session began, value); a value that was not finite is None."""


class Session:
    """The events of one session and what follows from them. `append` is the only way in."""

    def __init__(self, title: str = "") -> None:
        self.title = title
        self.events: list[tuple[float, AnyEvent]] = []
        self.environment: Environment | None = None
        """The latest one seen."""
        self.steps: list[Step] = []
        self.tree: Tree[Step] = Tree()
        """The changes, and where the session stands among them."""
        self.snapshot: Snapshot | None = None
        """The model now."""
        self.snapshots: dict[int, Snapshot] = {}
        """The model at each point, with all that was measured of it since."""
        self.running: Operation | None = None
        self.progress: Progress | None = None
        """Of the running operation."""
        self.live: Sparsity | None = None
        """The layers at the last epoch of the running finetune."""
        self.probed: list[Probed] = []
        """Points of the scan that runs, or of the last one."""
        self.curves: dict[str, Curve] = {}
        """By metric name: "train/loss", "validation/accuracy", "sparsity" …"""
        self.runs: list[float] = []
        """Where on the curves' axis each finetuning began."""
        self.problem: Failed | Died | None = None
        """What went wrong last, if nothing was finished since."""
        self._epochs = 0.0
        self._origin = 0.0

    @property
    def seconds(self) -> float:
        """When the last event happened, since the session began."""
        return self.events[-1][0] if self.events else 0.0

    @property
    def before(self) -> Snapshot | None:
        """The model before the last finished operation, for "90.9 → 88.2 %"."""
        return self.steps[-2].snapshot if len(self.steps) > 1 else None

    @property
    def done(self) -> tuple[Step, ...]:
        """The changes in effect, the load first."""
        return self.tree.path()

    @property
    def undone(self) -> tuple[Step, ...]:
        """What redo would do next is the last one."""
        return self.tree.ahead()

    @property
    def loaded(self) -> Snapshot | None:
        """The model as it was opened."""
        loads = [step for step in self.done if isinstance(step.operation, Load)]
        return loads[-1].snapshot if loads else None

    @property
    def stopped(self) -> Finetune | None:
        """The run that was stopped and left the model as it is now: a finetune with `resume` goes on with it."""
        last = self.tree.items[self.tree.now].operation if self.tree.now else None
        return last if isinstance(last, Finetune) and last.steps else None

    @property
    def changes(self) -> tuple[AnyOperation, ...]:
        """The operations in effect: doing these again gives the state now."""
        return tuple(step.operation for step in self.done)

    @property
    def redoable(self) -> tuple[AnyOperation, ...]:
        """The operations that redo would do, the next one last."""
        return tuple(step.operation for step in self.undone)

    def restore(self) -> Restore:
        """The request that makes a bench stand where this session is."""
        tree = self.tree
        return Restore(
            points=tuple(
                Point(
                    number=number,
                    parent=tree.parents[number],
                    operation=step.operation,
                    fingerprint=step.snapshot.fingerprint if step.snapshot else "",
                )
                for number, step in tree.items.items()
            ),
            now=tree.now,
            count=tree.count,
            latest=dict(tree.latest),
            names=dict(tree.names),
        )

    def append(self, seconds: float, event: AnyEvent) -> None:
        """Take in one event. A `Finished` that does not follow (an undo of nothing) raises `ValueError`."""
        match event:
            case Ready():
                self.environment, self.problem = event.environment, None
                self._end()
            case Started():
                self.running, self.progress, self.live, self.problem = event.operation, None, None, None
                if isinstance(event.operation, Scan):
                    self.probed = []
                if isinstance(event.operation, Finetune):
                    self._origin = self._epochs
                    self.runs.append(self._origin)
            case Progress():
                self.progress = event
            case Metric():
                point = (self._origin + event.x, event.y)
                self.curves.setdefault(event.name, Curve()).points.append(point)
                self._epochs = max(self._epochs, point[0])
            case Sparsity():
                self.live = event
            case Probed():
                self.probed.append(event)
            case Finished():
                self._finish(seconds, event)
            case Restored():
                self.snapshot = event.snapshot or self.snapshot
                self._end()
            case Failed() | Died():
                self.problem = event
                if isinstance(event, Died) or event.operation is not None:  # else the running one was not meant
                    self._end()
            case _:
                pass
        self.events.append((seconds, event))

    def _finish(self, seconds: float, event: Finished) -> None:
        operation = event.operation
        snapshot = event.snapshot or self.snapshot
        step = Step(len(self.steps) + 1, seconds, event, snapshot)
        self.tree.take(operation, step)
        self.steps.append(step)
        self.snapshot, self.problem = snapshot, None
        if snapshot and self.tree.now:
            self.snapshots[self.tree.now] = snapshot
        self._end()

    def _end(self) -> None:
        self.running = self.progress = self.live = None
