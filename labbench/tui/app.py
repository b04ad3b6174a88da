"""The terminal app: it joins a desk (or a playback) with the bench screen. Nothing here reaches torch; the first
picture is there before the worker is, and dialogs are imported when they are needed, since it needs none."""

import asyncio
import contextlib
import gc
import math
import shlex
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from msgspec.structs import replace
from rich.text import Text
from textual._context import active_message_pump
from textual.app import App, ScreenStackError, SystemCommand
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.dom import DOMNode, NoScreen
from textual.events import Key
from textual.filter import LineFilter
from textual.screen import ModalScreen, Screen
from textual.widget import MountError

from labbench import folders
from labbench.client import Silence, worker_command
from labbench.printable import printable_lines
from labbench.session.catalogue import shipped
from labbench.session.events import (
    AnyRequest,
    Died,
    Exported,
    Finished,
    Grouped,
    Metric,
    Previewed,
    Progress,
    Ready,
    Sparsity,
)
from labbench.session.jsonl import BadFile
from labbench.session.operations import AnyOperation, Load, Measure
from labbench.session.recipe import Recipe
from labbench.session.session import Session
from labbench.tui.actions import ACTIONS, actions_for, mode_of, refusal
from labbench.tui.crash import report
from labbench.tui.desk import Desk
from labbench.tui.harmless import Harmless
from labbench.tui.link import Link
from labbench.tui.playback import Playback
from labbench.tui.presenter import PresenterClock
from labbench.tui.record import Record
from labbench.tui.screens.bench import BenchScreen, PlayerScreen
from labbench.tui.screens.confirm import Confirm
from labbench.tui.settings import Settings
from labbench.tui.signals import Suspension, Terminal
from labbench.tui.situation import Situation
from labbench.tui.sources import cut_off
from labbench.tui.stepper import Stepper
from labbench.tui.takeover import take_over
from labbench.tui.widgets.card import Card

if TYPE_CHECKING:
    from labbench.tui.screens.form import OperationForm

TICK = 0.1  # seconds between two looks for something new: ten pictures a second at most
UNDER_WAY = 0.3  # seconds that the figures of a run may wait for the next picture: each takes cores from the training
LONG = 20.0  # seconds: the end of a run as long as this is rung, since nobody watches so long
TWICE = 2.0  # seconds in which a second ctrl+c quits


class LabbenchApp(App[None]):
    """One window on one session: recorded as it happens, or played from a recording."""

    CSS_PATH = Path(__file__).with_name("labbench.tcss")
    TITLE = "labbench"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "Quit", show=False, priority=True, system=True),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True, system=True),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, system=True),  # a text that is edited takes back
    ]

    def __init__(
        self,
        *,
        session_path: Path | None = None,
        load: Load | None = None,
        recording: Session | None = None,
        recipe: Recipe | None = None,
        command: list[str] | None = None,
        data_dir: Path | None = None,
        log: Path | None = None,
        link: Link | None = None,
    ) -> None:
        """What to open at once: a session file, a model, a recording (of that file; no worker then) or a recipe.

        `link` is the line to a worker that was started already.

        Raises `BadFile` where `session_path` is there but cannot be continued.
        """
        super().__init__(driver_class=Terminal)
        self.settings = Settings.load(folders.settings())
        self.catalogue = shipped()
        self.sessions = folders.sessions()
        self.data_dir = data_dir or folders.data()
        self.log_path = log or folders.log()
        self.playback = Playback(recording, session_path.name if session_path else "") if recording else None
        self.link: Link = link or Link(command or worker_command(self.data_dir), self.log_path)
        notice, record = "", Record(session_path)
        if session_path and session_path.exists() and not recording:
            record, notice = Record.open(session_path)
        self.desk: Desk = Desk(record, self._send, self.say, self._ask_to_run, self._ask_to_go_on)
        self.desk.stepper = Stepper(recipe) if recipe else None
        self._notice = notice
        self._load = load
        self.presenter = PresenterClock()
        self._due = 0.0  # when what is not shown yet is to be shown
        self._begun = False
        self._leaving = False
        self.code = 0
        """The exit code that a signal asks for."""
        self._interrupted = float("-inf")
        self._pump: asyncio.Task[None] | None = None
        self._harmless = Harmless()

    # what is shown

    @property
    def shown(self) -> Desk | Playback:
        """Where the session on the screen comes from."""
        return self.playback or self.desk

    @property
    def bench(self) -> BenchScreen:
        """The screen under all others."""
        screen = self.screen_stack[0]
        assert isinstance(screen, BenchScreen)
        return screen

    def get_default_screen(self) -> Screen[None]:
        """The bench, or the player, which is the bench with other keys."""
        return PlayerScreen(self.do) if self.playback else BenchScreen(self.do)

    def on_mount(self) -> None:
        """The colors of the last time."""
        if self.settings.theme in self.available_themes:
            self.theme = self.settings.theme
        self.theme_changed_signal.subscribe(self, lambda theme: self._keep_theme(theme.name))

    async def on_key(self, event: Key) -> None:
        """ctrl+z suspends in a dialog too, which hides the app's own keys; in a text that is edited it takes back."""
        if event.key == "ctrl+z" and isinstance(self.screen, ModalScreen):
            from textual.widgets import Input, TextArea  # not needed for the first picture

            if not isinstance(self.focused, Input | TextArea):
                event.stop()
                self.action_suspend_process()

    def on_ready(self) -> None:
        """The first picture is there: listen to the worker and ask what to open."""
        if not gc.isenabled():  # nothing that was imported is ever garbage: a collection need not walk it
            gc.freeze()
            gc.enable()
        self._show()
        self._begun = True
        if self._driver and self._driver.can_suspend:
            Suspension(self, self._driver)
        if self.code:
            self.leave()
            return
        self.set_interval(TICK, self._tick)
        if self._notice:
            self.say(self._notice, "warning")
        if self.playback:
            self._pump = asyncio.create_task(self._guarded(self._play(self.playback)))
            return
        if trouble := folders.trouble():
            self.say(trouble, "warning")
        self.start_worker()
        if self._load:
            self.desk.trust(self._load.model)
            self.desk.perform(self._load)
        elif not self.desk.session.steps and not self.desk.stepper:
            self._offer_last()

    def _keep_theme(self, name: str) -> None:
        self.settings.theme = name
        self.settings.save()

    @property
    def stale(self) -> bool:
        """Whether something is not shown yet."""
        return self._due < math.inf

    def touch(self, within: float = 0.0) -> None:
        """Something changed: it is shown at the first tick after so many seconds, if not before."""
        self._due = min(self._due, time.monotonic() + within)

    def _tick(self) -> None:
        due = time.monotonic() >= self._due or self.presenter.moved()
        if due and self._screen_stack:  # none is left while the app ends
            self._show()

    def _show(self) -> None:
        self._due = math.inf
        shown = self.shown
        self.bench.show(shown.session, self.situation, shown.fresh)

    @property
    def situation(self) -> Situation:
        """What decides which keys work now."""
        return replace(self.shown.situation, clock=self.presenter.words)

    def say(self, sentence: str, severity: Literal["information", "warning", "error"] = "information") -> None:
        """Tell the user; the words may come from anywhere, so they are never markup."""
        self.notify(printable_lines(sentence), severity=severity, markup=False)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Every line of every widget passes these: the last sees to it that no text acts on the terminal."""
        return [*super().get_line_filters(), self._harmless]

    def copy_to_clipboard(self, text: str) -> None:
        """What is copied is pasted somewhere else: it acts there as little as here."""
        super().copy_to_clipboard(printable_lines(text))

    def _ask_to_run(self, question: str, answer: Callable[[bool], None]) -> None:
        def take(yes: bool | None) -> None:
            answer(bool(yes))
            self.touch()

        self.push_screen(Confirm(question, "Import and run it", "No", safer=True), take)

    def _ask_to_go_on(self, question: str, answer: Callable[[bool], None]) -> None:
        def take(yes: bool | None) -> None:
            answer(bool(yes))
            self.touch()

        self.push_screen(Confirm(question, "Go on", "Leave it"), take)

    def _offer_last(self) -> None:
        """Where the last session was cut off, ask whether to go on with it; else ask what to open."""

        def take(yes: bool | None) -> None:
            if found and yes:
                self.open_file(found.path)
            else:
                self.do("open")

        if found := cut_off(self.sessions):
            self.push_screen(Confirm(found.question, "Continue", "Open another"), take)
        else:
            self.do("open")

    # keys, mouse, palette

    def do(self, name: str) -> None:
        """Do an action of the registry, or say why not."""
        from labbench.tui.doing import DOING

        action = next(action for action in ACTIONS if action.name == name)
        sentence = refusal(action, self.situation)
        if sentence:
            self.say(sentence, "warning")
        else:
            DOING[name](self)
            self.touch()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action for the palette, with its key, and the colors."""
        if isinstance(screen, BenchScreen):
            for action in actions_for(mode_of(self.situation)):
                if action.name != "palette":
                    key = f" ({action.key})" if action.keys else ""
                    yield SystemCommand(f"{action.title}{key}", action.help, partial(self.do, action.name))
        yield SystemCommand("theme", "Choose colors; kept for the next time.", self.action_change_theme)
        yield SystemCommand("screenshot", "Save a picture of the screen (SVG).", self.deliver_screenshot)

    # worker

    def start_worker(self) -> None:
        """Start the worker, or another one after it died."""
        self.desk.worker = "starting"
        self._pump = asyncio.create_task(self._guarded(self._listen()))

    def _send(self, request: AnyRequest) -> None:
        self.run_worker(self.link.send(request), group="send")

    async def _listen(self) -> None:
        async for event in self.link.events():
            match event:
                case Silence():
                    self.desk.silent = event.seconds
                case Previewed():
                    self.desk.take_preview(event)
                    self._show_preview(event)
                case Exported():
                    self.desk.take_export(event)
                case Grouped():
                    from labbench.tui.doing import show_groups

                    show_groups(self, event)
                case _:
                    self.desk.take(event)
                    if isinstance(event, Ready):
                        self._take_ready(event)
                    elif isinstance(event, Died):
                        self._lose_preview(event.error)
                    elif isinstance(event, Finished):
                        self._take_end(event)
            if self.link.gone:
                self.desk.gone()
            self.touch(UNDER_WAY if isinstance(event, Progress | Metric | Sparsity) else 0.0)

    async def _play(self, playback: Playback) -> None:
        async for event in playback.player.events():
            playback.take(event)
            self.touch()

    async def _guarded(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a task has no caller that could be told
            self._handle_exception(error)

    def _take_ready(self, event: Ready) -> None:
        from labbench.tui.screens.open import OpenScreen

        self.catalogue = event.catalogue or self.catalogue
        for screen in self.screen_stack if self.is_running else ():
            if isinstance(screen, OpenScreen):
                screen.set_ready(event)

    def _take_end(self, event: Finished) -> None:
        if event.seconds >= LONG:
            self.bell()
        if isinstance(event.operation, Measure):
            from labbench.tui.doing import show_measured

            show_measured(self)

    # forms

    def perform_chosen(self, operation: AnyOperation | None) -> None:
        """Perform what a form gave, and remember its values."""
        if operation is not None:
            if isinstance(operation, Load):
                self.desk.trust(operation.model)
            self.settings.remember(operation)
            self.settings.save()
            self.desk.perform(operation)
            self.touch()

    def perform_series(self, chosen: AnyOperation, operations: tuple[AnyOperation, ...]) -> None:
        """Perform what a form gave in several operations, one after the other."""
        self.settings.remember(chosen)
        self.settings.save()
        self.desk.perform_series(chosen.describe(), operations)
        self.touch()

    def open_file(self, path: Path) -> None:
        """Continue a session file, or step through a recipe."""
        self.desk.open_file(path)
        self.touch()

    def on_operation_form_changed(self, event: "OperationForm.Changed") -> None:
        """Other values, another preview."""
        problem = self.desk.preview(event.operation)
        if problem:
            self._show_preview(Previewed(operation=event.operation, error=problem))

    def _show_preview(self, event: Previewed) -> None:
        from labbench.tui.screens.form import OperationForm

        if isinstance(self.screen, OperationForm):
            self.screen.show_preview(event)

    def _lose_preview(self, why: str) -> None:
        from labbench.tui.screens.form import OperationForm

        if isinstance(self.screen, OperationForm):
            self.screen.lose_preview(f"no preview: {why}")

    # player

    def play(self, how: str) -> None:
        """Drive the player: pause, forward, back, faster, slower."""
        playback = self.playback
        assert playback is not None
        match how:
            case "pause":
                playback.player.toggle()
            case "forward":
                playback.forward()
            case "back":
                playback.back()
            case "faster":
                playback.player.faster()
            case "slower":
                playback.player.faster(-1)
            case "notes":
                pausing = playback.player.pausing = not playback.player.pausing
                self.say("pauses at notes" if pausing else "plays on at notes, without questions: n pauses again")
            case "clock":
                self.presenter.shown = not self.presenter.shown

    def on_card_guessed(self, event: Card.Guessed) -> None:
        """The audience has answered, or not: the recording goes on."""
        assert self.playback is not None
        self.playback.guess(event.guesses)
        if self.playback.player.paused:
            self.playback.player.toggle()
        self.touch()

    def ask_to_take_over(self) -> None:
        """Make a live bench of the recording, after a question."""
        playback = self.playback
        assert playback is not None
        if playback.session.snapshot is None:
            self.say("no model was opened yet: take over later in the recording", "warning")
            return
        playback.player.pause()
        step = len(playback.session.steps)
        cut = (
            f" {playback.situation.running} has not finished there and is left out." if playback.session.running else ""
        )
        question = (
            f"Take over after step {step}?{cut}\n\nA live bench goes on from there, in a session file of its own; "
            "the recording stays as it is."
        )
        self.push_screen(Confirm(question, "Take over", "Keep watching"), self._take_over)

    def _take_over(self, yes: bool | None) -> None:
        playback = self.playback
        if not yes or playback is None:
            return
        player = playback.player
        try:
            path = take_over(player.recording, player.position, self.sessions, Path(playback.name).stem)
            record, _ = Record.open(path)
        except (OSError, BadFile) as error:
            self.say(f"the recording cannot be taken over: {error}", "error")
            return
        if self._pump:
            self._pump.cancel()
        self.playback = None
        self.presenter.shown = False
        self.desk = Desk(record, self._send, self.say, self._ask_to_run)
        self.add_mode("bench", lambda: BenchScreen(self.do))
        self.switch_mode("bench")
        self.say(f"yours now: {path.name} goes on from here")
        self.start_worker()
        self.touch()

    # the end

    def ask_to_quit(self) -> None:
        """Quit, after a question if something runs."""
        running = "" if self.playback else self.desk.running
        if not running:
            self.leave()
        elif not isinstance(self.screen, Confirm):
            question, yes = f"{running} is running. Stop it and quit?", "Stop and quit"
            if self.desk.silent:
                question = f"{running} is running, but the worker does not answer. End it and quit?"
                question, yes = f"{question} The next start offers to go on with {running}.", "End and quit"
            elif running == "finetune":
                question = f"{question} What was learned is kept in the session."
            self.push_screen(Confirm(question, yes, "Stay"), lambda chosen: self.leave() if chosen else None)

    async def action_quit(self) -> None:
        """The same for ctrl+q."""
        self.ask_to_quit()

    def action_interrupt(self) -> None:
        """Ctrl+c copies what is selected in a field; a second one quits, whatever is open."""
        from textual.widgets import Input, TextArea

        focused, copied = self.focused, ""
        if isinstance(focused, Input | TextArea) and focused.selected_text:
            focused.action_copy()
            copied = "sent to the terminal's clipboard; "
        now = time.monotonic()
        if now - self._interrupted < TWICE:
            self.leave()
        else:
            self._interrupted = now
            self.say(f"{copied}ctrl+c once more quits; the session file has everything", "warning")

    def leave(self) -> None:
        """End the worker, within 5 s, then the app; a second time, at once."""
        if self._leaving:
            self.exit(return_code=self.code)
            return
        self._leaving = True
        self.say("ending …")
        self.run_worker(self._leave(), group="leave")

    def end(self, code: int) -> None:
        """Quit because a signal asks for it: without a question, once, with this exit code."""
        self.code = code
        if self._begun and not self._leaving:  # else that is done when the first picture is there
            self.leave()

    async def _leave(self) -> None:
        await self._end_worker()
        self.exit(return_code=self.code)

    async def _end_worker(self) -> None:
        await self.link.close()
        if self._pump:
            if self.playback:
                self._pump.cancel()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._pump, 1.0)  # its last words are recorded
        record = self.desk.record
        if record.session.running:  # it neither ended nor failed
            record.take(Died(error="the worker did not answer in time and was ended"))
        record.close(in_order=self._exception is None and not record.session.lost)

    @property
    def farewell(self) -> str:
        """Where the session is and how to go on, for the terminal that was there before; "" where nothing was recorded
        here."""
        record = self.desk.record
        if self.playback or record.held:
            return ""
        said = []
        if record.broken:
            said.append("not all of the session is in its file, which could not be written")
        if lost := record.session.lost:
            said.append(lost.describe())
        if record.path and record.path.exists():
            said.append(f"go on with: labbench {shlex.quote(str(record.path.absolute()))}")
        return "; ".join(said)

    async def on_unmount(self) -> None:
        """However the app ends, the worker ends too."""
        await self._end_worker()

    def _handle_exception(self, error: Exception) -> None:
        """One sentence instead of a traceback over the screen; Textual's own hook, so its bookkeeping is kept.

        Where a screen or the app goes, Textual closes children before parents, whose last messages may then miss them;
        that is only logged.
        """
        if isinstance(error, (NoMatches, MountError, NoScreen, ScreenStackError)) and self._is_going():
            report(error, self.log_path)
            return
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        sentence = report(error, self.log_path)
        if not self._exit_renderables:  # what breaks while the app is ending is in the log
            self.panic(Text(sentence))

    def _is_going(self) -> bool:
        """Whether what handles a message now is being removed, or the app ends."""
        here = active_message_pump.get(None)
        going = isinstance(here, DOMNode) and any(node._pruning for node in here.ancestors_with_self)
        return going or not self.is_running
