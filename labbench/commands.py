"""The headless commands that compute: replay, run and export. stdout is data, stderr is narration."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from labbench import client
from labbench.exits import BAD, CANNOT, DIFFERS, INTERRUPTED, SAME, say
from labbench.headless import CannotRun, Refused, Stopped, export_model, perform
from labbench.listing import opened, print_lines
from labbench.session import recipe, report
from labbench.session.check import BadInput
from labbench.session.compare import Judgment
from labbench.session.events import EXPORT_FORMATS, AnyEvent, Finished, Progress, Restored, restore_along
from labbench.session.operations import AnyOperation
from labbench.session.own import described, own_models
from labbench.session.session import Session
from labbench.session.vary import Setting
from labbench.verify import Checker, Plan, StepFailed, do_again, on_device, plan, verify

Result = TypeVar("Result")


def replay(
    file: Path,
    check: bool,
    out: Path | None,
    device: str,
    data_dir: Path | None,
    trust_code: bool = False,
    *,
    first: int = 1,
    until: int | None = None,
    settings: Sequence[Setting] = (),
) -> int:
    """Do a session's finished operations again, or steps `first` to `until`; with `check`, compare each with the
    recording."""
    if taken(out, "--out"):
        return BAD
    planned = planned_of(file, first, until, settings, device)
    if planned is None:
        return BAD
    if out and first > 1 and device:
        return say("--out with --from keeps the steps before as they were, so not with --device", BAD)
    models = models_of(planned)
    if models and not trust_code:
        return refuse_code(file, models)
    checker = Checker(planned) if check else None
    printer = Printer(planned.operations, checker, first)
    with worker_for(planned, data_dir) as command:
        try:
            if checker:
                outcome(verify(planned, checker, printer.see, command=command, out=out, trusted=models))
                printer.rest()
            else:
                outcome(do_again(planned, printer.see, command=command, out=out, trusted=models))
        except StepFailed as error:
            return say(str(error), DIFFERS)
        except CannotRun as error:
            return say(str(error), CANNOT)
        except Stopped:
            return say("stopped", INTERRUPTED)
    if not checker:
        return SAME
    print(checker.sums())
    return DIFFERS if checker.differs else SAME


def planned_of(file: Path, first: int, until: int | None, settings: Sequence[Setting], device: str) -> Plan | None:
    """What is to be done again of a session's file; None after saying why nothing is."""
    found = opened(file)
    if found is None:
        return None
    header, recording = found
    if not recording.steps:
        say(f"{file}: nothing to do again: no operation was finished")
        return None
    try:
        return plan(header, recording, first=first, until=until, settings=settings, device=device)
    except BadInput as error:
        say(f"{file}: {error}")
        return None


def models_of(planned: Plan) -> tuple[str, ...]:
    """The models of one's own whose code a plan runs, those of restored steps among them."""
    before = [step.operation for step in planned.recording.steps[: planned.first - 1]]
    return own_models([*before, *planned.operations])


@contextlib.contextmanager
def worker_for(planned: Plan, data_dir: Path | None) -> Iterator[list[str]]:
    """The command of a worker that computes what is done again and looks nothing up, but for the steps before."""
    with tempfile.TemporaryDirectory(prefix="labbench-") as folder:
        yield client.worker_command(data_dir, None if planned.first > 1 else Path(folder))


def run(file: Path, out: Path | None, device: str, data_dir: Path | None, trust_code: bool = False) -> int:
    """Do a recipe's operations, from the first to the last or to the one that fails."""
    try:
        steps = recipe.read(file)
    except BadInput as error:
        return say(str(error), BAD)
    if taken(out, "--out"):
        return BAD
    operations = [on_device(operation, device) for operation in steps.steps]
    models = own_models(operations)
    if models and not trust_code:
        return refuse_code(file, models)
    printer = Printer(operations, None)
    command = client.worker_command(data_dir)
    try:
        outcome(perform(operations, printer.see, command=command, title=steps.title, out=out, trusted=models))
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
    if not _is_text(to):
        return say(f"--to {os.fsencode(to).decode(errors='replace')}: its name is not UTF-8; take another", BAD)
    found = opened(file)
    if found is None or (not force and taken(to, "--to")):
        return BAD
    _, session = found
    if not session.changes:
        return say(f"{file}: nothing to export: no model was opened", BAD)
    operations = tuple(on_device(operation, device) for operation in session.changes)
    models = own_models(operations)
    if models and not trust_code:
        return refuse_code(file, models)
    marks = tuple(step.snapshot.fingerprint if step.snapshot else "" for step in session.done)
    restore = restore_along(operations, () if device else marks)  # elsewhere other weights come out: no checkpoints
    printer = Printer([], None)
    command = client.worker_command(data_dir)
    place = to.absolute() if _is_text(to.absolute()) else to  # the worker stands in the same folder
    try:
        made, written = outcome(export_model(restore, place, printer.see, command=command, trusted=models))
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


def _is_text(path: Path) -> bool:
    """Whether a path can be sent to the worker: names of files need not be UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


class Printer:
    """Prints a line for each finished operation, and on a terminal how far the running one is."""

    def __init__(self, operations: Sequence[AnyOperation], checker: Checker | None, first: int = 1) -> None:
        """`first` is the number of the first operation."""
        self.finished = 0
        self._first = first
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
        if isinstance(event, Restored) and self._first > 1:
            say(self._restored(session, event))
        elif isinstance(event, Finished):
            self._step(session)

    def rest(self) -> None:
        """Print the verdicts of a step that failed and of those that it took with it. Only with a checker."""
        assert self._checker
        while self.finished < len(self._operations):
            operation, judgment = self._operations[self.finished], self._checker.judgments[self._first + self.finished]
            words = report.plain(operation.describe()).ljust(self._width)
            print(f"{self._first + self.finished:>3}  {words}  {_verdict(judgment)}")
            self.finished += 1

    def _restored(self, session: Session, event: Restored) -> str:
        again = f"{event.recomputed} of them computed again" if event.recomputed else "from checkpoints"
        words = f"steps 1 to {len(session.steps)} are restored, {again}"
        recorded = session.done[-1].snapshot if session.done else None
        if recorded and event.snapshot and recorded.fingerprint not in ("", event.snapshot.fingerprint):
            words += "; the weights are not those of the recording to the last bit"
        return words

    def _step(self, session: Session) -> None:
        if not self.finished:
            if self._checker and session.environment:
                print_lines(map(report.plain, self._checker.surroundings(session.environment)))
            print(report.step_head(self._width) + ("  verdict" if self._checker else ""))
        self.finished += 1
        line = report.step_line(session.steps[-1], self._width)
        verdict = f"  {_verdict(self._checker.judgments[session.steps[-1].number])}" if self._checker else ""
        print(f"{line}{verdict}", flush=True)
        print_lines(f"     · {report.plain(remark)}" for remark in session.steps[-1].event.remarks)


def outcome(work: Coroutine[Any, Any, Result]) -> Result:
    """What comes of the work; `Stopped` where ctrl+c did not wait for it."""
    try:
        return asyncio.run(work)
    except asyncio.CancelledError:
        raise Stopped from None


def refuse_code(file: Path, models: Sequence[str]) -> int:
    """Say which code was not run, and how to allow it."""
    names = " and ".join(described(model) for model in models)
    return say(f"{file} names code that this would run: {names}; nothing was run; --trust-code allows it", CANNOT)


def taken(path: Path | None, option: str) -> bool:
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
