"""A session: the append-only list of timed events. Everything a screen shows of it is derived here."""

from msgspec import Struct

from labbench.session.events import (
    AnyEvent,
    Closed,
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
from labbench.session.operations import AnyOperation, Finetune, Load, Scan, Standing, Walk
from labbench.session.snapshot import Snapshot
from labbench.session.thinning import Thinning
from labbench.session.tree import Tree


class Step(Struct, frozen=True):
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


class Curve(Struct):
    """One figure over all finetuning of the session."""

    points: list[tuple[float, float | None]] = []
    """(epochs since the session began, value); a value that was not finite is None."""


class Interrupted(Struct, frozen=True):
    """An operation that neither ended nor failed: what did it, or what wrote it down, was killed."""

    operation: AnyOperation
    measured: int = 0
    """The last epoch of a finetuning whose figures are known."""

    def describe(self) -> str:
        """What was interrupted, and where."""
        where = ""
        if isinstance(self.operation, Finetune):
            where = f" after epoch {self.measured} of {self.operation.epochs}" if self.measured else " in epoch 1"
        return f"{self.operation.describe()} was interrupted{where}"


class Session:
    """The events of one session and what follows from them. `append` is the only way in."""

    def __init__(self, title: str = "") -> None:
        self.title = title
        self.events: list[tuple[float, AnyEvent]] = []
        self.thinning: Thinning | None = None
        """Set where the events come from a bench, so that a long run does not fill the memory."""
        self.environment: Environment | None = None
        """The latest one seen."""
        self.steps: list[Step] = []
        self.tree: Tree[Step] = Tree()
        """The changes, and where the session stands among them."""
        self.snapshot: Snapshot | None = None
        """The model now."""
        self.snapshots: dict[int, Snapshot] = {}
        """The model at each point, with all that was measured of it since."""
        self.running: AnyOperation | None = None
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
        self.spans: dict[int, tuple[float, float]] = {}
        """Where on that axis each finished finetuning began and ended, by the number of its step."""
        self.gone = Curve()
        """The sparsity on that axis after every epoch and every operation that changed it, undo and its like too."""
        self.problem: Failed | Died | None = None
        """What went wrong last, if nothing was finished since."""
        self._epochs = 0.0
        self._origin = 0.0
        self._measured = 0
        """The last measured epoch of the running operation."""
        self._broken: Interrupted | None = None
        self._loose: set[str] = set()
        """Curves whose last point the next one replaces, being too close to it."""
        self._again = False
        """Whether the running finetune goes on with an interrupted one and has no point of its own yet."""

    @property
    def seconds(self) -> float:
        """When the last event happened, since the session began."""
        return self.events[-1][0] if self.events else 0.0

    @property
    def before(self) -> Snapshot | None:
        """The model before the last finished operation, for "90.9 → 88.2 %"."""
        return self.steps[-2].snapshot if len(self.steps) > 1 else None

    @property
    def way(self) -> tuple[Snapshot, ...]:
        """The models that led to the one now, which is the last: nothing of other branches, whatever was done when."""
        before = (self.snapshots.get(number) for number in self.tree.numbers()[:-1])
        return tuple(model for model in (*before, self.snapshot) if model)

    @property
    def epoch_accuracy(self) -> float | None:
        """Validation accuracy after the last epoch of the running finetune; None before the first."""
        curve = self.curves.get("validation/accuracy")
        if not isinstance(self.running, Finetune) or curve is None or not curve.points:
            return None
        x, y = curve.points[-1]
        return y if x > self.runs[-1] else None

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
    def interrupted(self) -> Interrupted | None:
        """What was running when the worker died or the recording broke off, if the model is still as it was then.

        In a session that is being done, that is also what runs now.
        """
        return Interrupted(self.running, self._measured) if self.running else self._broken

    @property
    def lost(self) -> Interrupted | None:
        """What is running, or was when the worker died, if nothing has happened since: who ends here has cut it off."""
        return self.interrupted if self.running or isinstance(self.problem, Died) else None

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
                self.break_off()
            case Started():
                self._start(event.operation)
            case Progress():
                self.progress = event
                self._measured = max(0 if self._again else self._measured, event.epoch - 1, event.again)
            case Metric():
                self._take_point(event)
            case Sparsity():
                self.live = event
                self._measured = max(self._measured, event.epoch)
            case Probed():
                self.probed.append(event)
            case Finished():
                self._finish(seconds, event)
            case Restored():
                self.snapshot = event.snapshot or self.snapshot
                self._end()
            case Failed():
                self.problem = event
                if event.operation is not None:  # else the running one was not meant
                    self._end()
                if self._broken and self._broken.operation == event.operation:
                    self._broken = None
            case Died():
                self.problem = event
                self.break_off()
            case Closed():
                self.break_off()
            case _:
                pass
        if self.thinning is None:
            self.events.append((seconds, event))
            return
        kept = self.thinning.admit(seconds, event)
        self.events.extend(kept)
        if isinstance(event, Metric) and not kept:
            self._loose.add(event.name)

    def _start(self, operation: AnyOperation) -> None:
        before = self.interrupted
        self.running, self.progress, self.live, self.problem = operation, None, None, None
        self._loose.clear()
        if isinstance(operation, Scan):
            self.probed = []
        self._again = isinstance(operation, Finetune) and before is not None and before.operation == operation
        self._measured = before.measured if before and self._again else 0
        if isinstance(operation, Finetune) and not self._again:
            self._origin = self._epochs
            self.runs.append(self._origin)

    def _take_point(self, event: Metric) -> None:
        x = self._origin + event.x
        if self._again:  # what the interrupted run had drawn from here on is drawn anew
            self._again, self._epochs = False, x
            for curve in (*self.curves.values(), self.gone):
                curve.points = [point for point in curve.points if point[0] < x]
        drawn = [self.curves.setdefault(event.name, Curve()), *([self.gone] if event.name == "sparsity" else [])]
        for curve in drawn:
            if event.name in self._loose:
                curve.points.pop()
            curve.points.append((x, event.y))
        self._loose.discard(event.name)
        if event.name == "validation/accuracy" and isinstance(self.running, Finetune) and not self.running.resume:
            self._measured = max(self._measured, int(event.x))
        self._epochs = max(self._epochs, x)

    def break_off(self) -> None:
        """Nothing runs any more: what did is interrupted."""
        self._broken = self.interrupted
        self._end()

    def _finish(self, seconds: float, event: Finished) -> None:
        operation = event.operation
        there = self.snapshots.get(self.tree.goal(operation)) if isinstance(operation, Walk) else self.snapshot
        snapshot = event.snapshot or there
        step = Step(len(self.steps) + 1, seconds, event, snapshot)
        self.tree.take(operation, step)
        self.steps.append(step)
        if isinstance(operation, Finetune):
            self.spans[step.number] = self._origin, self._epochs
        self.snapshot, self.problem = snapshot, None
        if snapshot and snapshot.prunable.sparsity != (self.gone.points[-1][1] if self.gone.points else 0.0):
            self.gone.points.append((self._epochs, snapshot.prunable.sparsity))
        if not isinstance(operation, Standing):
            self._broken = None
        if snapshot and self.tree.now:
            self.snapshots[self.tree.now] = snapshot
        self._end()

    def _end(self) -> None:
        self.running = self.progress = self.live = None
