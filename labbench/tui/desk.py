"""What goes on between the screen and the worker: which operation runs, what follows it, what is recorded. It draws
nothing and waits for nothing: requests go out through `send`, events come in through `take`."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from labbench.session import recipe, report
from labbench.session.check import BadInput
from labbench.session.events import (
    AnyEvent,
    AnyRequest,
    Died,
    Exported,
    Failed,
    Finished,
    Metric,
    Preview,
    Previewed,
    Progress,
    Ready,
    Restore,
    Restored,
    Sparsity,
    Started,
    Stop,
    Trust,
)
from labbench.session.goals import outcomes
from labbench.session.jsonl import BadFile
from labbench.session.operations import AnyOperation, Freeze, Load, Name, Note, Task, Unfreeze, Unprune
from labbench.session.own import described, is_own, own_models
from labbench.session.recipe import Recipe
from labbench.session.session import Interrupted, Session
from labbench.tui.previews import Previews
from labbench.tui.record import Record
from labbench.tui.situation import Situation, Worker
from labbench.tui.stepper import Stepper
from labbench.tui.widgets.columns import Changes, changed

MOST_SAID = 2  # remarks of one operation that are said at once; the history has all

Say = Callable[[str, Literal["information", "warning", "error"]], None]
Ask = Callable[[str, Callable[[bool], None]], None]
"""Asks the user, and passes the answer on."""


def unasked(_: str, answer: Callable[[bool], None]) -> None:
    """The `ask` where nobody can be asked: no."""
    answer(False)


class Desk:
    """One session at a live worker."""

    def __init__(
        self,
        record: Record,
        send: Callable[[AnyRequest], None],
        say: Say,
        ask: Ask = unasked,
        ask_again: Ask = unasked,
    ) -> None:
        """`ask` asks whether code may be run, `ask_again` whether to go on with what was interrupted."""
        self.record = record
        self.trusted: tuple[str, ...] = ()
        """Models of the user's own whose code was asked for since the app was started."""
        self.stepper: Stepper | None = None
        self.worker: Worker = "starting"
        self.fresh: Changes = frozenset()
        """Cells that the last operation changed."""
        self._send = send
        self._say = say
        self._ask = ask
        self._asking = False
        self._ask_again = ask_again
        self._asked_again: Interrupted | None = None
        """The last interruption that was asked about."""
        self._ready: Ready | None = None
        self._unsent: list[AnyRequest] = []
        self._pending: AnyOperation | None = None
        self._later: list[Name | Note | Task] = []
        self._resting: list[Stepper | None] = []
        """The recipe that a series keeps waiting, while there is a series."""
        self._previews = Previews()
        self._restoring: Progress | None = None
        self.silent = 0.0
        """Seconds for which nothing was heard of the worker, once that is too long; else 0."""
        self._stopping = False
        self._left: Record | None = None
        """The session before a load that is not done yet: where that fails, it stands again."""

    @property
    def session(self) -> Session:
        """The session on the screen."""
        return self.record.session

    @property
    def running(self) -> str:
        """Name of the operation that runs or was sent, or ""."""
        operation = self.session.running or self._pending
        return type(operation).__name__.lower() if operation else ""

    @property
    def situation(self) -> Situation:
        """What the screen may know beside the session."""
        session = self.session
        return Situation(
            worker=self.worker,
            running=self.running,
            model=session.snapshot is not None,
            undo=len(session.done) > 1,
            redo=bool(session.undone),
            recipe=self.stepper.describe() if self.stepper else "",
            file=self.record.path.name if self.record.path else "",
            held=self.record.held,
            recording=self.record.recording,
            restoring=self._restoring if self.worker == "restoring" else None,
            silent=self.silent,
            stopping=self._stopping,
        )

    # out

    def perform(self, operation: AnyOperation) -> None:
        """Send an operation. A load begins a session of its own; a note waits for what runs, the others do not."""
        running = self.running
        if self.record.held and not isinstance(operation, Load):
            self._say(f"{self.record.held}: w saves a copy and goes on there", "warning")
            if self.stepper:
                self.stepper.failed()
        elif running and isinstance(operation, Name | Note | Task):
            self._later.append(operation)
            self._say(f"the {type(operation).__name__.lower()} is written when {running} ends", "information")
        elif running:
            self._say(f"{running} is running: s stops it", "warning")
        elif models := self._untrusted((operation,)):
            self._ask_for(models, "the recipe", partial(self.perform, operation), self._declined)
        else:
            if isinstance(operation, Load):
                self._begin_session()
            self._pending = operation
            self.send(operation)

    def trust(self, model: str) -> None:
        """Allow the code of a model of the user's own: it was asked for by name, here and now."""
        if is_own(model) and model not in self.trusted:
            self.trusted = (*self.trusted, model)
            if self.worker != "starting":  # else it is told when it is there
                self._send(Trust(model=model))

    def send(self, request: AnyRequest) -> None:
        """Send a request, or keep it until the worker is there."""
        if self.worker == "starting":
            self._unsent.append(request)
        else:
            self._send(request)

    def stop(self) -> None:
        """End the run, and a recipe that goes on by itself."""
        if self.stepper:
            self.stepper.onward = False
        self._stopping = True
        self.send(Stop())
        learned = ": what was learned is kept" if self.running == "finetune" else ""
        if self.silent:
            learned = ", once the worker answers"
        self._say(f"stopping {self.running or 'the restoring: what was done again is kept'}{learned}", "information")

    def preview(self, operation: AnyOperation) -> str:
        """Ask what an operation would do; returns why not, or ""."""
        if self.running:
            return f"no preview while {self.running} is running"
        if self.worker != "ready":
            return "no preview until the bench is ready"
        if asked := self._previews.want(operation):
            self.send(Preview(operation=asked))
        return ""

    def step_recipe(self, onward: bool) -> None:
        """Do the next step of the recipe, and, with `onward`, those after it."""
        if self.stepper and self.stepper.next:
            self.stepper.running, self.stepper.onward = True, onward
            self.perform(self.stepper.next)

    def perform_series(self, title: str, operations: Sequence[AnyOperation]) -> None:
        """Do operations one after the other; one that fails or is stopped holds up the rest. A recipe waits for it."""
        if self.running:
            self._say(f"{self.running} is running: s stops it", "warning")
            return
        if not self._resting:
            self._resting.append(self.stepper)
        self.stepper = Stepper(Recipe(title=title, steps=tuple(operations)))
        self.step_recipe(onward=True)

    def open_file(self, path: Path) -> None:
        """Continue a session file, or take a recipe to step through."""
        try:
            if path.suffix == ".toml":
                self.stepper = Stepper(recipe.read(path))
                self._resting.clear()
                return
            if self.record.recording and self.record.path and path.exists() and path.samefile(self.record.path):
                self._say(f"{path.name} is what is open here", "information")
                return
            record, notice = Record.open(path)
        except (BadFile, BadInput) as error:
            self._say(str(error), "error")
            return
        if notice:
            self._say(notice, "warning")
        self._switch(record)
        if self.worker == "ready":
            self.restore()

    def save_as(self, path: Path) -> None:
        """Go on recording in another file, which gets all that happened."""
        try:
            self.record.save_as(path.expanduser())
        except OSError as error:
            self._say(f"the session cannot go on in {path}: {error.strerror or error}", "error")
        else:
            self._say(f"the session is in {path}", "information")

    def restore(self) -> None:
        """Bring the worker to where the session is; asks first where that means to run code."""
        if models := self._untrusted(step.operation for step in self.session.tree.items.values()):
            self.worker = "unrestored"
            self._ask_for(
                models, self.record.path.name if self.record.path else "this session", self._allowed, self._shut
            )
            return
        self.worker, self._restoring = "restoring", None
        self._send(self.session.restore())

    # in

    def take(self, event: AnyEvent) -> None:
        """One event of the worker."""
        if self.worker == "restoring" and isinstance(event, Progress | Metric | Sparsity):
            self._restoring = event if isinstance(event, Progress) else self._restoring
            return  # it does again what the session holds already
        if isinstance(event, Finished | Failed | Restored | Died):
            self._stopping = False
        before, met = self.session.snapshot, self._met() if isinstance(event, Finished) else set()
        problem = self.record.take(event)
        if problem:
            self._say(problem, "error")
        match event:
            case Ready():
                self._take_ready(event)
            case Started():
                self._pending, self.fresh = None, frozenset()
            case Finished():
                self.fresh = frozenset()
                if isinstance(event.operation, Load):
                    self._leave_for_good()
                else:
                    self.fresh = changed(before, event.snapshot)
                self._tell(event)
                for name in sorted(self._met() - met):
                    self._say(f"✓ task {name} is met", "information")
                if self.stepper:
                    self.stepper.finished()
                    if self._resting and not self.stepper.next:
                        self.stepper = self._resting.pop()
                self._go_on()
            case Restored():
                self.worker = "ready"
                for remark in event.remarks:
                    self._say(remark, "warning")
                if event.recomputed:
                    self._say(f"restored; {event.recomputed} operations were done again", "information")
                self._offer_again()
            case Failed():
                self._take_failure(event)
            case Died():
                self._take_death(event)
            case _:
                pass

    def take_preview(self, event: Previewed) -> None:
        """An answer to `preview`; the latest that was wanted since is asked for."""
        if wanted := self._previews.answered():
            self.send(Preview(operation=wanted))

    def take_export(self, event: Exported) -> None:
        """The model was written."""
        size, remarks = report.exported(event)
        self._say("\n".join([f"the model is in {event.path}: {size}", *remarks]), "information")

    def gone(self) -> None:
        """The worker died and is not started again by itself."""
        self.worker = "gone"

    def _take_ready(self, event: Ready) -> None:
        self._ready, self.worker = event, "ready"
        for model in self.trusted:
            self._send(Trust(model=model))
        if self.session.changes:
            self.restore()
        unsent, self._unsent = self._unsent, []
        for request in unsent:
            self._send(request)
        if self.worker == "ready":
            self._offer_again()

    def _offer_again(self) -> None:
        """Where the worker or the app was killed over an operation: ask whether to go on with it."""
        found = self.session.interrupted
        if found is None or found is self._asked_again or self.record.held or self.running:
            return
        self._asked_again = found

        def answer(yes: bool) -> None:
            if not yes:
                return
            if self.stepper and self.stepper.next == found.operation:
                self.step_recipe(onward=False)
            else:
                self.perform(found.operation)

        self._ask_again(f"{found.describe()}. Go on?", answer)

    def _take_failure(self, event: Failed) -> None:
        restoring = self.worker == "restoring"
        self._say(f"the session is not restored: {event.error}" if restoring else event.error, "error")
        if restoring:
            self.worker = "unrestored"
        if isinstance(event.operation, Load):
            self._come_back()
        if event.operation is not None:  # else what runs is not meant
            if self.stepper:
                self.stepper.failed()
                if self._resting and not self.stepper.position:  # of a series that never began nothing is left over
                    self.stepper = self._resting.pop()
            self._go_on()

    def _take_death(self, event: Died) -> None:
        self.worker, self._pending, self._later, self.silent = "starting", None, [], 0.0
        self._come_back()
        self._unsent.clear()
        self._previews.forget()
        if self.stepper:
            self.stepper.failed()
        self._say(event.error, "error")

    def _untrusted(self, operations: Iterable[AnyOperation]) -> tuple[str, ...]:
        return tuple(model for model in own_models(operations) if model not in self.trusted)

    def _ask_for(
        self, models: tuple[str, ...], owner: str, allowed: Callable[[], None], declined: Callable[[str], None]
    ) -> None:
        names = " and ".join(described(model) for model in models)

        def answer(yes: bool) -> None:
            self._asking = False
            if yes:
                for model in models:
                    self.trust(model)
                allowed()
            else:
                declined(f"nothing was run: {' and '.join(models)} was not allowed")

        if not self._asking:
            self._asking = True
            self._ask(
                f"{owner} names a model that is code:\n\n{names}\n\nGoing on imports it and runs what it says, with "
                "your rights on this machine. Do that only if you know where it comes from.",
                answer,
            )

    def _allowed(self) -> None:
        if self.worker == "unrestored":
            self.restore()

    def _shut(self, sentence: str) -> None:
        self._say(f"{sentence}. The session is here to look at; ctrl+r asks again", "warning")

    def _declined(self, sentence: str) -> None:
        self._say(sentence, "warning")
        if self.stepper:
            self.stepper.failed()

    def _met(self) -> set[str]:
        return {one.task.name for one in outcomes(self.session) if one.met_at}

    def _tell(self, event: Finished) -> None:
        words = list(event.remarks)
        if isinstance(event.operation, Freeze | Unfreeze | Unprune):
            words.insert(0, event.operation.describe())
        if len(words) > MOST_SAID:
            words = [*words[:MOST_SAID], f"and {len(words) - MOST_SAID} more in the history"]
        if words:
            self._say("\n".join(words), "information")

    def _go_on(self) -> None:
        self._pending = None
        if self._later:
            self.perform(self._later.pop(0))
        elif self.stepper and self.stepper.onward:
            self.step_recipe(onward=True)

    def _begin_session(self) -> None:
        if self.session.steps or self.session.snapshot:
            self._left, self.record = self.record, Record()
            if self._ready:
                self.record.take(self._ready)
            self.send(Restore())  # what the worker could undo belongs to the other session

    def _leave_for_good(self) -> None:
        if self._left:
            self._left.close()
            self._left = None

    def _come_back(self) -> None:
        self.record.discard()
        if self._left:
            self.record, self._left = self._left, None
            if self.worker == "ready":
                self.restore()

    def _switch(self, record: Record) -> None:
        self.record.close()
        self.record, self.fresh = record, frozenset()
        if self._ready:
            record.take(self._ready)
