"""A session done again and compared with its recording, step by step. It prints nothing: `verify` gives verdicts."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from labbench.headless import Begun, CannotRun, Heard, Refused, See, perform
from labbench.session import compare
from labbench.session.check import BadInput
from labbench.session.compare import Judgment, Verdict
from labbench.session.events import Environment, Finished
from labbench.session.jsonl import Header
from labbench.session.operations import AnyOperation, Finetune, Load
from labbench.session.session import Session
from labbench.session.spread import Spread
from labbench.session.vary import Setting, varied


@dataclass(frozen=True)
class Plan:
    """What of a recording is done again, and how."""

    header: Header
    recording: Session
    operations: tuple[AnyOperation, ...]
    """To be done, in order."""
    first: int = 1
    """The step that the first of them is; those before it are restored."""
    settings: tuple[Setting, ...] = ()
    """What is varied."""
    device: str = ""
    """Where it is done; empty: where the operations say."""

    @property
    def steps(self) -> dict[int, AnyOperation]:
        """The operations by their steps' numbers."""
        return dict(enumerate(self.operations, self.first))


def plan(
    header: Header,
    recording: Session,
    *,
    first: int = 1,
    until: int | None = None,
    settings: Sequence[Setting] = (),
    device: str = "",
) -> Plan:
    """Steps `first` to `until` (the last, if None), some of them varied. Raises `BadInput` where there are none."""
    count = len(recording.steps)
    last = count if until is None else until
    for option, number in (("--from", first), ("--until", last)):
        if not 1 <= number <= count:
            raise BadInput(f"{option} {number}: no such step; the steps are 1 to {count}")
    if last < first:
        raise BadInput(f"--from {first} lies behind --until {last}")
    for setting in settings:
        if setting.step <= count and not first <= setting.step <= last:
            raise BadInput(f"--set {setting.step}.{setting}: only steps {first} to {last} are done again")
    try:
        operations = varied([step.operation for step in recording.steps], settings)
    except BadInput as error:
        raise BadInput(f"--set {error}") from None
    moved = tuple(on_device(operation, device) for operation in operations[first - 1 : last])
    return Plan(header, recording, moved, first, tuple(settings), device)


class StepFailed(Exception):
    """A step was refused here, or broke."""

    def __init__(self, number: int, operation: AnyOperation, reason: str) -> None:
        super().__init__(f"step {number}, {operation.describe()}: {reason}")
        self.number, self.reason = number, reason


async def do_again(
    plan: Plan, see: See, *, command: Sequence[str], out: Path | None = None, trusted: Iterable[str] = ()
) -> Session:
    """Do what is planned. Raises `StepFailed`, and `CannotRun` (for a model that cannot be opened here, too) or
    `Stopped` as `perform` does."""
    finished = 0

    def seen(session: Session, event: Heard) -> None:
        nonlocal finished
        finished += isinstance(event, Finished)
        see(session, event)

    try:
        return await perform(
            plan.operations,
            seen,
            command=command,
            title=plan.header.title,
            out=out,
            trusted=trusted,
            begun=_begun(plan) if plan.first > 1 else None,
        )
    except Refused as error:
        number = plan.first + finished
        failed = plan.steps[number]
        if isinstance(failed, Load):
            raise CannotRun(f"step {number} cannot be done here: {error}") from None
        raise StepFailed(number, failed, str(error)) from None


async def verify(
    plan: Plan,
    checker: "Checker",
    see: See = lambda session, event: None,
    *,
    command: Sequence[str],
    out: Path | None = None,
    trusted: Iterable[str] = (),
) -> Mapping[int, Judgment]:
    """Do what is planned and compare it with the recording: a verdict for each step, by its number.

    A step that fails here differs, and those after it cannot be compared. Raises `CannotRun` or `Stopped`.
    """

    def seen(session: Session, event: Heard) -> None:
        if isinstance(event, Finished):
            checker.judge(session)
        see(session, event)

    try:
        await do_again(plan, seen, command=command, out=out, trusted=trusted)
    except StepFailed as failed:
        checker.fail(failed.number, failed.reason)
    return checker.judgments


@dataclass
class Checker:
    """Compares the steps of a replay with the recording, one by one."""

    plan: Plan
    judgments: dict[int, Judgment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recording = self.plan.recording
        self._environments = compare.environments(recording, self.plan.header.environment)
        self._varied = min((setting.step for setting in self.plan.settings), default=len(recording.steps) + 1)

    def surroundings(self, here: Environment) -> list[str]:
        """What differs between where it was recorded and here, a line each, and then what may differ therefore."""
        first = self.plan.first - 1
        environments = self._environments[first : first + len(self.plan.operations)]
        found = [line for then in environments for line in compare.differences(then, here)]
        if self.plan.device:
            found += self._moved()
        if not found:
            return ["environment: the same"]
        lines = [f"environment: {line}" for line in dict.fromkeys(found)]
        return lines + [f"tolerance: {line}" for line in compare.tolerances(self._carried())]

    def judge(self, session: Session) -> Judgment:
        """The verdict for the session's last step."""
        number = len(session.steps)
        assert session.environment
        if number >= self._varied:
            judgment = Judgment(Verdict.INCOMPARABLE, self._variation(number))
        else:
            judgment = self._compared(session, number, session.environment)
        self.judgments[number] = judgment
        return judgment

    def fail(self, number: int, reason: str) -> None:
        """A step failed here; that decides those after it, too."""
        for step in self.plan.steps:
            if step == number and step < self._varied:
                self.judgments[step] = Judgment(Verdict.DIFFERS, f"it failed here: {reason}")
            elif step == number:
                self.judgments[step] = Judgment(Verdict.INCOMPARABLE, f"varied, and it failed here: {reason}")
            elif step > number:
                self.judgments[step] = Judgment(Verdict.INCOMPARABLE, f"step {number} failed here")

    @property
    def differs(self) -> bool:
        """Whether any step did."""
        return any(judgment.verdict == Verdict.DIFFERS for judgment in self.judgments.values())

    def sums(self) -> str:
        """How many steps of each verdict there were, in words."""
        counts = collections.Counter(judgment.verdict for judgment in self.judgments.values())
        words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
        return f"{counts.total()} step{'s' if counts.total() > 1 else ''}: {words}"

    def _compared(self, session: Session, number: int, here: Environment) -> Judgment:
        away = compare.elsewhere(self._environments[number - 1], here)
        step = self.plan.recording.steps[number - 1]
        spread = self.plan.header.tolerance.get(number, {})
        repeated = session.steps[-1].event
        judgment = compare.judge(self._as_measured(step.event, repeated), repeated, session.changes, away, spread)
        recorded = [self.plan.recording.steps[point - 1].operation for point in session.tree.numbers()]
        if other := compare.other_code(recorded, session.changes, step.operation):
            return Judgment(judgment.verdict, f"{other}; {judgment.reason}" if judgment.reason else other)
        return judgment

    def _as_measured(self, recorded: Finished, repeated: Finished) -> Finished:
        """The recorded step without accuracies that were measured before the first step and are not known here."""
        start = self.plan.recording.steps[self.plan.first - 2].snapshot if self.plan.first > 1 else None
        old, new = recorded.snapshot, repeated.snapshot
        if not (start and old and new):
            return recorded
        unknown = {split for split, found in start.accuracy.items() if old.accuracy.get(split) == found}
        known = {split: found for split, found in old.accuracy.items() if split not in unknown - new.accuracy.keys()}
        return msgspec.structs.replace(recorded, snapshot=msgspec.structs.replace(old, accuracy=known))

    def _variation(self, number: int) -> str:
        here = [str(setting) for setting in self.plan.settings if setting.step == number]
        return f"varied: {', '.join(here)}" if here else f"varied: step {self._varied} was"

    def _moved(self) -> list[str]:
        then = {step.snapshot.device for step in self.plan.recording.steps if step.snapshot}
        return [f"device {', '.join(sorted(then))} then, {self.plan.device} now"] if then != {self.plan.device} else []

    def _carried(self) -> Mapping[int, Mapping[str, Spread]]:
        tolerance = self.plan.header.tolerance
        return {number: tolerance[number] for number in self.plan.steps if number in tolerance}


def on_device(operation: AnyOperation, device: str) -> AnyOperation:
    """The operation on another device, or as it is where none is given."""
    if device and isinstance(operation, Load):
        return msgspec.structs.replace(operation, device=device)
    if device and isinstance(operation, Finetune):
        return msgspec.structs.replace(operation, device="")
    return operation


def _begun(plan: Plan) -> Begun:
    """The session up to the first step that is done, and the request to stand there."""
    session = Session(plan.header.title)
    session.environment = plan.header.environment
    for seconds, event in plan.recording.events:
        if len(session.steps) == plan.first - 1:
            break
        session.append(seconds, event)
    request = session.restore()
    if plan.device:  # elsewhere other weights come out: no checkpoints
        points = tuple(
            msgspec.structs.replace(point, operation=on_device(point.operation, plan.device), fingerprint="")
            for point in request.points
        )
        request = msgspec.structs.replace(request, points=points)
    return Begun(plan.header, session, request)
