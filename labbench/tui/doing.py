"""What each action of the registry does. Operations that leave nothing to choose are done at once; the others ask."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from labbench import folders
from labbench.session.catalogue import Knob, knobs_of
from labbench.session.check import convert
from labbench.session.events import EXPORT_FORMATS, Export, Grouped, Groups
from labbench.session.figures import measures_of
from labbench.session.goals import tasks_of
from labbench.session.operations import (
    AnyOperation,
    Evaluate,
    Finetune,
    Freeze,
    Load,
    Measure,
    Note,
    Prune,
    Redo,
    Scan,
    Undo,
    Unfreeze,
)
from labbench.session.own import brief
from labbench.session.reading import text_of
from labbench.session.scan_report import latest
from labbench.session.series import Steps, gradual
from labbench.tui.actions import in_help
from labbench.tui.groups import told
from labbench.tui.pointing import compare, go, name, title, told_in_full
from labbench.tui.screens.about import AboutScreen
from labbench.tui.screens.chapters import ChaptersScreen
from labbench.tui.screens.form import OperationForm
from labbench.tui.screens.help import HelpScreen
from labbench.tui.screens.log import LogScreen
from labbench.tui.screens.measures import MeasuresScreen
from labbench.tui.screens.note import NoteForm, PathForm
from labbench.tui.screens.open import OpenScreen
from labbench.tui.screens.reader import Reader
from labbench.tui.screens.scan import NEW, ScanScreen
from labbench.tui.screens.task import TaskForm
from labbench.tui.widgets.caption import latest_note
from labbench.tui.widgets.columns import describe, measured
from labbench.tui.words import file_name

if TYPE_CHECKING:
    from labbench.tui.app import LabbenchApp

Doing = Callable[["LabbenchApp"], None]


def _at_once(operation: Callable[[tuple[str, ...]], AnyOperation]) -> Doing:
    def do(app: "LabbenchApp") -> None:
        app.desk.perform(operation(app.bench.table.chosen))

    return do


def _form(name: str) -> Doing:
    def do(app: "LabbenchApp") -> None:
        session, last = app.shown.session, app.settings.last(name)
        layers = app.bench.table.chosen
        if name == "finetune":
            layers = ()
            last |= {"resume": True} if session.stopped else {}
        form = OperationForm(name, app.catalogue, session.snapshot, layers, last)
        app.push_screen(form, app.perform_chosen)

    return do


EPOCHS_BETWEEN = Knob(
    name="epochs_between",
    kind="int",
    default=0,
    low=0,
    high=100_000,
    idle_for=("own_target",),
    help="after each step finetune so many epochs, as the finetune form last said; 0: not at all",
)


def prune(app: "LabbenchApp") -> None:
    """Ask what to prune; in several steps, these follow one another by themselves."""
    form = OperationForm(
        "prune",
        app.catalogue,
        app.shown.session.snapshot,
        app.bench.table.chosen,
        app.settings.last("prune"),
        (*knobs_of(Steps), EPOCHS_BETWEEN),
    )

    def take(chosen: AnyOperation | None) -> None:
        steps = convert({name: form.besides[name] for name in Steps.__struct_fields__}, Steps)
        if not isinstance(chosen, Prune) or steps.steps == 1:
            app.perform_chosen(chosen)
            return
        epochs, between = form.besides[EPOCHS_BETWEEN.name], None
        if epochs:
            between = convert(app.settings.last("finetune") | {"op": "finetune", "epochs": epochs}, Finetune)
        app.perform_series(chosen, gradual(chosen, between, steps.steps, steps.schedule))

    app.push_screen(form, take)


def freeze(app: "LabbenchApp") -> None:
    """Freeze the marked layers. All of them at once is hardly ever meant: where none is marked, ask."""
    table = app.bench.table
    if table.marks:
        app.desk.perform(Freeze(layers=table.chosen))
    else:
        _form("freeze")(app)


def show_measured(app: "LabbenchApp") -> None:
    """Show what a close look has found, unless something else is on the screen or goes on."""
    if app.screen is app.bench and not app.desk.running:
        measures(app)


def measures(app: "LabbenchApp") -> None:
    """Show every measure of the model."""
    if app.shown.session.snapshot:
        app.push_screen(MeasuresScreen(app.shown.session))
    else:
        app.say("nothing to measure yet")


def scan(app: "LabbenchApp") -> None:
    """Show what the last scan found, or ask for one."""
    if latest(app.shown.session) is not None:
        show_scan(app)
    elif app.playback:
        app.say("no scan in this recording so far")
    elif app.desk.running:
        app.say(f"{app.desk.running} is running: s stops it", "warning")
    else:
        new_scan(app)


def show_scan(app: "LabbenchApp") -> None:
    """Show the scan that runs, or the last one, and take a plan from it."""

    def take(chosen: dict[str, float] | str | None) -> None:
        if chosen == NEW and _idle(app):
            new_scan(app)
        elif chosen == NEW:
            app.say("another scan can begin when nothing is running, at the bench", "warning")
        elif isinstance(chosen, dict):
            plan_form(app, chosen)

    app.push_screen(ScanScreen(lambda: app.shown.session, lambda: _idle(app)), take)


def plan_form(app: "LabbenchApp", plan: dict[str, float]) -> None:
    """Ask for the operation that does a plan, with the method that was scanned."""
    session = app.shown.session
    scans = [step.operation for step in session.steps if isinstance(step.operation, Scan)]
    method, snapshot = scans[-1].method, session.snapshot
    name, fields = "prune", {"amounts": plan, "amount": min(plan.values()), "scope": "layer"}
    if app.catalogue.entry("clusterings", method):
        channels = {row.name: row.channels for row in snapshot.rows} if snapshot else {}
        ks = {layer: max(1, round(channels[layer] * (1 - amount))) for layer, amount in plan.items()}
        name, fields = "cluster", {"ks": ks}
    last = app.settings.last(name) | {"method": method} | fields
    app.push_screen(OperationForm(name, app.catalogue, snapshot, tuple(plan), last), app.perform_chosen)


def new_scan(app: "LabbenchApp") -> None:
    """Ask which layers to scan, and show the answers as they come."""
    layers, last = app.bench.table.chosen, app.settings.last("scan")
    form = OperationForm("scan", app.catalogue, app.shown.session.snapshot, layers, last)

    def take(chosen: AnyOperation | None) -> None:
        app.perform_chosen(chosen)
        if chosen and app.desk.running == "scan":
            show_scan(app)

    app.push_screen(form, take)


def _idle(app: "LabbenchApp") -> bool:
    return not app.playback and not app.desk.running and app.desk.worker == "ready"


def note(app: "LabbenchApp") -> None:
    """Ask for a remark."""

    def take(written: Note | None) -> None:
        if written:
            app.desk.perform(written)

    app.push_screen(NoteForm(), take)


def task(app: "LabbenchApp") -> None:
    """Ask for a task; the last one is there to be changed."""
    tasks = [task for _, task in tasks_of(app.shown.session).values()]
    screen = TaskForm(app.shown.session.snapshot, tasks[-1] if tasks else None)
    app.push_screen(screen, lambda chosen: app.desk.perform(chosen) if chosen else None)


def open_(app: "LabbenchApp") -> None:
    """Ask what to open."""

    def take(chosen: Load | Path | None) -> None:
        if isinstance(chosen, Load):
            app.perform_chosen(chosen)
        elif chosen is not None:
            app.open_file(chosen)

    screen = OpenScreen(
        app.catalogue,
        app.shown.session.environment,
        app.sessions,
        app.settings.last_load(),
        app.data_dir,
        app.desk.record.path,
    )
    app.push_screen(screen, take)


def save(app: "LabbenchApp") -> None:
    """Ask for a file, and record there from now on."""

    def take(path: Path | None) -> None:
        if path is not None:
            app.desk.save_as(path)
            app.touch()

    path = app.desk.record.path or app.sessions / "session.jsonl"
    if app.desk.record.held:
        names = (path.with_stem(f"{path.stem}-copy{number}") for number in ("", *range(2, 100)))
        path = next((copy for copy in names if not copy.exists()), path)
    app.push_screen(PathForm("Save the session as", str(path)), take)


def export(app: "LabbenchApp") -> None:
    """Ask for a file, and write the model there."""

    def take(path: Path | None) -> None:
        if path is not None:
            app.say(f"writing {path.name}")
            app.desk.send(Export(path=text_of(path.expanduser().absolute())))

    snapshot = app.shown.session.snapshot
    words = (brief(snapshot.model), snapshot.dataset) if snapshot else ("model",)
    name = f"{'-'.join(map(file_name, words))}.safetensors"
    app.push_screen(PathForm("Export the model to", str(Path.cwd() / name), EXPORT_FORMATS), take)


def read(app: "LabbenchApp") -> None:
    """Show in full what the cursor is on: an operation, a layer, or, in a player, the latest note."""
    bench = app.bench
    done, row, words = bench.row(), bench.table.current, latest_note(app.shown.session)
    if done:
        note = bool(done.step and isinstance(done.step.operation, Note))
        app.push_screen(Reader(title(done), told_in_full(done, app.shown.session), note))
    elif app.playback and words:
        app.push_screen(Reader("Note", words, note=True))
    elif row:
        found = measures_of(app.shown.session)
        words = "\n".join([describe(row), *(measured(row, found) if row.prunable else [])])
        app.push_screen(Reader(row.name, words))
    else:
        app.say("nothing to read yet")


def groups(app: "LabbenchApp") -> None:
    """Ask the worker which layers change together; the answer is shown by `show_groups`."""
    app.desk.send(Groups())


def show_groups(app: "LabbenchApp", event: Grouped) -> None:
    """Show which layers change together, the one under the cursor first."""
    row = app.bench.table.current
    app.push_screen(Reader("Cut together", told(event.groups, row.name if row else "")))


def chapters(app: "LabbenchApp") -> None:
    """Ask where in the recording to go."""
    playback = app.playback
    assert playback is not None
    playback.player.pause()

    def take(step: int | None) -> None:
        if step is not None:
            playback.go(step)
            app.touch()

    app.push_screen(ChaptersScreen(playback.player.recording, len(playback.session.steps), playback.furthest), take)


def log(app: "LabbenchApp") -> None:
    """Show the log."""
    app.push_screen(LogScreen(app.log_path, app.shown.session))


def help_(app: "LabbenchApp") -> None:
    """Show the keys and the words."""
    app.push_screen(HelpScreen(in_help("player" if app.playback else "bench")))


def about(app: "LabbenchApp") -> None:
    """Show versions and paths."""
    paths = {"sessions": app.sessions, "data": app.data_dir, "checkpoints": folders.checkpoints(), "log": app.log_path}
    app.push_screen(AboutScreen(app.shown.session.environment, paths))


def _curves(kind: str) -> Doing:
    return lambda app: app.bench.choose_curves(kind)


DOING: dict[str, Doing] = {
    "freeze": freeze,
    "unfreeze": _at_once(lambda layers: Unfreeze(layers=layers)),
    "unprune": _form("unprune"),
    "go": go,
    "name": name,
    "compare": compare,
    "groups": groups,
    "prune": prune,
    "cluster": _form("cluster"),
    "finetune": _form("finetune"),
    "freeze_share": _form("freeze"),
    "recalibrate": _form("recalibrate"),
    "evaluate": lambda app: app.desk.perform(Evaluate()),
    "measure": lambda app: app.desk.perform(Measure()),
    "scan": scan,
    "time": _form("time"),
    "measures": measures,
    "undo": lambda app: app.desk.perform(Undo()),
    "redo": lambda app: app.desk.perform(Redo()),
    "stop": lambda app: app.desk.stop(),
    "mark": lambda app: app.bench.mark(),
    "mark_all": lambda app: app.bench.table.mark_all(),
    "mark_glob": lambda app: app.bench.ask("mark"),
    "filter": lambda app: app.bench.ask("filter"),
    "clear": lambda app: app.bench.clear(),
    "sort_left": lambda app: app.bench.table.sort_by(-1),
    "sort_right": lambda app: app.bench.table.sort_by(1),
    "reverse": lambda app: app.bench.table.reverse(),
    "others": lambda app: app.bench.table.toggle_others(),
    "loss": _curves("loss"),
    "accuracy": _curves("accuracy"),
    "sparsity": _curves("sparsity"),
    "histogram": _curves("histogram"),
    "log_axis": lambda app: app.bench.picture.toggle_log(),
    "pane_next": lambda app: app.bench.next_pane(1),
    "pane_previous": lambda app: app.bench.next_pane(-1),
    "open": open_,
    "note": note,
    "task": task,
    "save": save,
    "export": export,
    "recipe_next": lambda app: app.desk.step_recipe(onward=False),
    "recipe_all": lambda app: app.desk.step_recipe(onward=True),
    "pause": lambda app: app.play("pause"),
    "forward": lambda app: app.play("forward"),
    "back": lambda app: app.play("back"),
    "faster": lambda app: app.play("faster"),
    "slower": lambda app: app.play("slower"),
    "chapters": chapters,
    "notes": lambda app: app.play("notes"),
    "clock": lambda app: app.play("clock"),
    "take_over": lambda app: app.ask_to_take_over(),
    "big": lambda app: app.bench.toggle_big(),
    "read": read,
    "log": log,
    "restart": lambda app: app.desk.restore() if app.desk.worker == "unrestored" else app.start_worker(),
    "end_worker": lambda app: app.link.kill(),
    "suspend": lambda app: app.action_suspend_process(),
    "help": help_,
    "about": about,
    "palette": lambda app: app.action_command_palette(),
    "quit": lambda app: app.ask_to_quit(),
}
