"""The headless commands that compute: replay, run and export. stdout is data, stderr is narration."""

import asyncio
import collections
import shutil
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from labbench import client
from labbench.exits import BAD, CANNOT, DIFFERS, INTERRUPTED, SAME, say
from labbench.headless import CannotRun, Refused, Stopped, export_model, perform
from labbench.listing import opened, print_lines
from labbench.session import compare, recipe, report
from labbench.session.check import BadInput
from labbench.session.compare import Judgment, Verdict
from labbench.session.events import EXPORT_FORMATS, AnyEvent, Environment, Finished, Progress, Restored, restore_along
from labbench.session.operations import AnyOperation, Finetune, Load
from labbench.session.own import described, own_models
from labbench.session.session import Session

Result = TypeVar("Result")


def replay(
    file: Path, check: bool, out: Path | None, device: str, data_dir: Path | None, trust_code: bool = False
) -> int:
    """Do a session's finished operations again; with `check`, compare each with the recording."""
    found = opened(file)
    if found is None or _taken(out, "--out"):
        return BAD
    header, recording = found
    if not recording.steps:
        return say(f"{file}: nothing to do again: no operation was finished", BAD)
    operations = [_moved(step.operation, device) for step in recording.steps]
    models = own_models(operations)
    if models and not trust_code:
        return _refuse_code(file, models)
    checker = Checker(header.environment, recording) if check else None
    printer = Printer(operations, checker)
    with tempfile.TemporaryDirectory(prefix="labbench-") as checkpoints:  # what is replayed is computed, not looked up
        command = client.worker_command(data_dir, Path(checkpoints))
        try:
            _run(perform(operations, printer.see, command=command, title=header.title, out=out, trusted=models))
        except Refused as error:
            failed = operations[printer.finished]
            if isinstance(failed, Load):
                return say(f"step {printer.finished + 1} cannot be done here: {error}", CANNOT)
            if not checker:
                return say(f"step {printer.finished + 1}, {failed.describe()}: {error}", DIFFERS)
            printer.fail(str(error))
        except CannotRun as error:
            return say(str(error), CANNOT)
        except Stopped:
            return say("stopped", INTERRUPTED)
    return checker.close() if checker else SAME


def run(file: Path, out: Path | None, device: str, data_dir: Path | None, trust_code: bool = False) -> int:
    """Do a recipe's operations, from the first to the last or to the one that fails."""
    try:
        steps = recipe.read(file)
    except BadInput as error:
        return say(str(error), BAD)
    if _taken(out, "--out"):
        return BAD
    operations = [_moved(operation, device) for operation in steps.steps]
    models = own_models(operations)
    if models and not trust_code:
        return _refuse_code(file, models)
    printer = Printer(operations, None)
    command = client.worker_command(data_dir)
    try:
        _run(perform(operations, printer.see, command=command, title=steps.title, out=out, trusted=models))
    except Refused as error:
        return say(f"{file}: step {printer.finished + 1}: {error}", DIFFERS)
    except CannotRun as error:
        return say(str(error), CANNOT)
    except Stopped:
        return say(f"stopped; {out} has what was done" if out else "stopped", INTERRUPTED)
    return SAME


def export(file: Path, to: Path, force: bool, device: str, data_dir: Path | None, trust_code: bool = False) -> int:
    """Write the model that a session ends with to a file, in the format of its ending."""
    if to.suffix not in EXPORT_FORMATS:
        return say(f"--to {to}: its ending says the format, one of {', '.join(EXPORT_FORMATS)}", BAD)
    found = opened(file)
    if found is None or (not force and _taken(to, "--to")):
        return BAD
    _, session = found
    if not session.changes:
        return say(f"{file}: nothing to export: no model was opened", BAD)
    operations = tuple(_moved(operation, device) for operation in session.changes)
    models = own_models(operations)
    if models and not trust_code:
        return _refuse_code(file, models)
    marks = tuple(step.snapshot.fingerprint if step.snapshot else "" for step in session.done)
    restore = restore_along(operations, () if device else marks)  # elsewhere other weights come out: no checkpoints
    printer = Printer([], None)
    command = client.worker_command(data_dir)
    try:
        made, written = _run(export_model(restore, to.absolute(), printer.see, command=command, trusted=models))
    except Refused as error:
        return say(f"{file}: {error}", DIFFERS)
    except CannotRun as error:
        return say(str(error), CANNOT)
    except Stopped:
        return say("stopped; nothing was written", INTERRUPTED)
    for _, event in made.events:
        if isinstance(event, Restored):
            for remark in event.remarks:
                say(remark)
    if session.snapshot and made.snapshot and session.snapshot.fingerprint != made.snapshot.fingerprint:
        say("computed again here, the weights are not those of the recording to the last bit")
    size, remarks = report.exported(written)
    print(f"{written.path}  {size}")
    print_lines(f"     · {report.plain(remark)}" for remark in remarks)
    return SAME


class Printer:
    """Prints a line for each finished operation, and on a terminal how far the running one is."""

    def __init__(self, operations: Sequence[AnyOperation], checker: "Checker | None") -> None:
        self.finished = 0
        self._operations = operations
        self._width = report.operations_width(operations)
        self._checker = checker
        self._live = sys.stderr.isatty()

    def see(self, session: Session, event: AnyEvent) -> None:
        """Take in one event of the session."""
        if self._live:
            words = _progress_words(event) if isinstance(event, Progress) else ""
            room = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be wiped
            print(f"\r\x1b[K{words[:room]}", end="", file=sys.stderr, flush=True)
        if isinstance(event, Finished):
            self._step(session)

    def fail(self, error: str) -> None:
        """Give the verdicts of a step that failed and of those that it takes with it. Only with a checker."""
        assert self._checker
        failed = self.finished + 1
        reason = f"it failed here: {error}"
        for operation in self._operations[self.finished :]:
            self.finished += 1
            judgment = Judgment(Verdict.DIFFERS, reason)
            if self.finished > failed:
                judgment = Judgment(Verdict.INCOMPARABLE, f"step {failed} failed here")
            self._checker.count(judgment)
            print(f"{self.finished:>3}  {report.plain(operation.describe()).ljust(self._width)}  {_verdict(judgment)}")

    def _step(self, session: Session) -> None:
        if not self.finished:
            if self._checker and session.environment:
                print_lines(self._checker.surroundings(session.environment))
            print(report.step_head(self._width) + ("  verdict" if self._checker else ""))
        self.finished += 1
        line = report.step_line(session.steps[-1], self._width)
        print(f"{line}  {_verdict(self._checker.judge(session))}" if self._checker else line, flush=True)
        print_lines(f"     · {report.plain(remark)}" for remark in session.steps[-1].event.remarks)


class Checker:
    """Compares the steps of a replay with the recording, one by one, and counts the verdicts."""

    def __init__(self, first: Environment | None, recording: Session) -> None:
        self._recording = recording
        self._environments = compare.environments(recording, first)
        self._counts: collections.Counter[Verdict] = collections.Counter()

    def surroundings(self, here: Environment) -> list[str]:
        """What differs between where it was recorded and here, a line each."""
        found = [line for then in self._environments for line in compare.differences(then, here)]
        return [f"environment: {report.plain(line)}" for line in dict.fromkeys(found)] or ["environment: the same"]

    def judge(self, session: Session) -> Judgment:
        """The verdict for the session's last step."""
        number = len(session.steps) - 1
        assert session.environment
        away = compare.elsewhere(self._environments[number], session.environment)
        step = self._recording.steps[number]
        judgment = compare.judge(step.event, session.steps[-1].event, session.changes, away)
        recorded = (step.operation for step in self._recording.steps[: number + 1])
        if other := compare.other_code([*recorded], session.changes, step.operation):
            judgment = Judgment(judgment.verdict, f"{other}; {judgment.reason}" if judgment.reason else other)
        self.count(judgment)
        return judgment

    def count(self, judgment: Judgment) -> None:
        """Take a verdict into the sums."""
        self._counts[judgment.verdict] += 1

    def close(self) -> int:
        """Print the sums; returns the exit code."""
        words = ", ".join(f"{self._counts[verdict]} {verdict}" for verdict in Verdict if self._counts[verdict])
        total = self._counts.total()
        print(f"{total} step{'s' if total > 1 else ''}: {words}")
        return DIFFERS if self._counts[Verdict.DIFFERS] else SAME


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except asyncio.CancelledError:
        raise Stopped from None


def _refuse_code(file: Path, models: Sequence[str]) -> int:
    names = " and ".join(described(model) for model in models)
    return say(f"{file} names code that this would run: {names}; nothing was run; --trust-code allows it", CANNOT)


def _taken(path: Path | None, option: str) -> bool:
    """Whether a file cannot be made new there; says why."""
    if path is None:
        return False
    if path.exists():
        say(f"{path} is already there; {option} takes a new file", BAD)
    elif not path.absolute().parent.is_dir():
        say(f"{option}: no folder {path.parent}", BAD)
    else:
        return False
    return True


def _moved(operation: AnyOperation, device: str) -> AnyOperation:
    """The operation on another device, or as it is where none is given."""
    if device and isinstance(operation, Load):
        return msgspec.structs.replace(operation, device=device)
    if device and isinstance(operation, Finetune):
        return msgspec.structs.replace(operation, device="")
    return operation


def _verdict(judgment: Judgment) -> str:
    return report.plain(f"{judgment.verdict}: {judgment.reason}" if judgment.reason else judgment.verdict)


def _progress_words(event: Progress) -> str:
    words = [event.phase, f"{100 * event.fraction:.0f} %"]
    if event.epochs:
        words.append(f"epoch {event.epoch}/{event.epochs}")
    if event.loss is not None:
        words.append(f"loss {event.loss:.3f}")
    if event.eta is not None:
        words.append(f"{event.eta:.0f} s left")
    return report.plain("  ".join([*words, event.note])).rstrip()
