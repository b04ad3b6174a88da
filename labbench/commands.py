"""The headless commands that compute: replay, run and export. stdout is data, stderr is narration."""

import asyncio
import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from labbench import client
from labbench.cells import head, left
from labbench.client import Silence
from labbench.exits import BAD, CANNOT, DIFFERS, SAME, narrate, say
from labbench.headless import Begun, CannotRun, Heard, Refused, Stopped, export_model, interrupted, perform
from labbench.listing import opened, print_lines
from labbench.printable import printable
from labbench.session import recipe, report
from labbench.session.check import BadInput
from labbench.session.compare import Judgment
from labbench.session.events import EXPORT_FORMATS, Finished, Progress, Restored, restore_along
from labbench.session.jsonl import BadFile
from labbench.session.operations import AnyOperation
from labbench.session.own import described, own_models
from labbench.session.session import Session
from labbench.session.unfinished import rest_of
from labbench.session.vary import Setting
from labbench.verify import Checker, Plan, StepFailed, do_again, on_device, plan, verify


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
                asyncio.run(verify(planned, checker, printer.see, command=command, out=out, trusted=models))
                printer.rest()
            else:
                asyncio.run(do_again(planned, printer.see, command=command, out=out, trusted=models))
        except StepFailed as error:
            return say(str(error), DIFFERS)
        except CannotRun as error:
            return say(f"{error}{_goes_on(out)}", CANNOT)
        except Stopped as stopped:
            return say(f"stopped{_goes_on(out)}", stopped.code)
    if not checker:
        return SAME
    print_lines([checker.sums()])
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
    if planned.first > 1:
        yield client.worker_command(data_dir)
        return
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="labbench-", ignore_cleanup_errors=True))
        except OSError:  # nothing can be written anywhere: nothing is kept, then
            folder = f"{os.devnull}/checkpoints"
        yield client.worker_command(data_dir, Path(folder))


def run(file: Path, out: Path | None, device: str, data_dir: Path | None, trust_code: bool = False) -> int:
    """Do a recipe's operations, from the first to the last or to the one that fails."""
    try:
        steps = recipe.read(file)
    except BadInput as error:
        return say(str(error), BAD)
    operations: Sequence[AnyOperation] = [on_device(operation, device) for operation in steps.steps]
    models = own_models(operations)
    if models and not trust_code:
        return refuse_code(file, models)
    with contextlib.ExitStack() as held:
        begun = None
        if out and out.is_file():
            try:
                begun, operations = _begun(out, operations, held)
            except BadInput as error:
                return say(str(error), BAD)
        elif taken(out, "--out"):
            return BAD
        first = len(begun.session.steps) + 1 if begun else 1
        printer = Printer(operations, None, first)
        work = perform(
            operations,
            printer.see,
            command=client.worker_command(data_dir),
            title=steps.title,
            out=out,
            trusted=models,
            begun=begun,
        )
        again = f"; {out} has what was done, and the same command goes on" if out else ""
        try:
            asyncio.run(work)
        except Refused as error:
            return say(f"{file}: step {first + printer.finished}: {error}", DIFFERS)
        except CannotRun as error:
            return say(f"{error}{again if out and out.exists() else ''}", CANNOT)
        except Stopped as stopped:
            return say(f"stopped{again}", stopped.code)
    return SAME


def _begun(
    out: Path, operations: Sequence[AnyOperation], held: contextlib.ExitStack
) -> tuple[Begun, Sequence[AnyOperation]]:
    """What a run of the same operations, which did not come to its end, left in `out`, held open; and what is left to
    do. Raises `BadInput` where there is another session or nothing is left, and `OSError`."""
    try:
        begun = interrupted(out)
        assert begun.writer
        held.enter_context(begun.writer)
        left = rest_of(operations, [step.operation for step in begun.session.steps])
    except (BadFile, ValueError) as error:
        raise BadInput(f"{out} is already there and is something else ({error}); --out takes a new file") from None
    if not left:
        raise BadInput(f"{out} is already there and has all of it; --out takes a new file")
    return begun, left


def export(file: Path, to: Path, force: bool, device: str, data_dir: Path | None, trust_code: bool = False) -> int:
    """Write the model that a session ends with to a file, in the format of its ending."""
    if to.suffix not in EXPORT_FORMATS:
        return say(f"--to {to}: its ending says the format, one of {', '.join(EXPORT_FORMATS)}", BAD)
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
    try:
        made, written = asyncio.run(export_model(restore, to.absolute(), printer.see, command=command, trusted=models))
    except Refused as error:
        return say(f"{file}: {error}", DIFFERS)
    except CannotRun as error:
        return say(str(error), CANNOT)
    except Stopped as stopped:
        return say("stopped; nothing was written", stopped.code)
    for _, event in made.events:
        if isinstance(event, Restored):
            for remark in event.remarks:
                say(remark)
    if session.snapshot and made.snapshot and session.snapshot.fingerprint != made.snapshot.fingerprint:
        say("computed again here, the weights are not those of the recording to the last bit")
    size, remarks = report.exported(written)
    print_lines([f"{printable(written.path)}  {size}", *(f"     · {remark}" for remark in remarks)])
    return SAME


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

    def see(self, session: Session, event: Heard) -> None:
        """Take in one event of the session."""
        if self._live:
            words = _progress_words(event) if isinstance(event, Progress) else ""
            room = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be wiped
            narrate(f"\r\x1b[K{head(words, room)}")
        tell_silence(event)
        if isinstance(event, Restored) and self._first > 1:
            say(self._restored(session, event))
        elif isinstance(event, Finished):
            self._step(session)

    def rest(self) -> None:
        """Print the verdicts of a step that failed and of those that it took with it. Only with a checker."""
        assert self._checker
        while self.finished < len(self._operations):
            operation, judgment = self._operations[self.finished], self._checker.judgments[self._first + self.finished]
            words = left(printable(operation.describe()), self._width)
            print_lines([f"{self._first + self.finished:>3}  {words}  {_verdict(judgment)}"])
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
                print_lines(self._checker.surroundings(session.environment))
            print_lines([report.step_head(self._width) + ("  verdict" if self._checker else "")])
        self.finished += 1
        line = report.step_line(session.steps[-1], self._width)
        verdict = f"  {_verdict(self._checker.judgments[session.steps[-1].number])}" if self._checker else ""
        print_lines([f"{line}{verdict}", *(f"     · {remark}" for remark in session.steps[-1].event.remarks)])
        sys.stdout.flush()


def tell_silence(event: Heard) -> None:
    """Say that the worker does not answer, or that it does again."""
    if isinstance(event, Silence) and not event.seconds:
        say("the worker answers again")
    elif isinstance(event, Silence) and not event.told:
        say(f"the worker does not answer: nothing was heard of it for {event.seconds:.0f} s; ctrl+c twice ends it")


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


def _goes_on(out: Path | None) -> str:
    """How to go on with what was recorded, if anything was."""
    return f"; go on with: labbench {shlex.quote(str(out))}" if out and out.exists() else ""


def _verdict(judgment: Judgment) -> str:
    return printable(f"{judgment.verdict}: {judgment.reason}" if judgment.reason else judgment.verdict)


def _progress_words(event: Progress) -> str:
    words = [event.phase, f"{100 * event.fraction:.0f} %"]
    if event.epochs:
        words.append(f"epoch {event.epoch}/{event.epochs}")
    if event.loss is not None:
        words.append(f"loss {event.loss:.3f}")
    if event.eta is not None:
        words.append(f"{event.eta:.0f} s left")
    return printable("  ".join([*words, event.note])).rstrip()
