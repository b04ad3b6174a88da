"""Where work begins: a model on a data set on a device, or a file to go on with."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static

from labbench.session.catalogue import Catalogue, Entry, Knob, knobs_of
from labbench.session.check import BadInput
from labbench.session.events import Environment, Ready
from labbench.session.operations import Load, Value
from labbench.session.options import options_from, options_text
from labbench.session.own import EXAMPLES, is_own, place_of, problem_of
from labbench.tui import sources, words
from labbench.tui.advanced import Advanced
from labbench.tui.fields import Field
from labbench.tui.last_figures import last_figures
from labbench.tui.menu import Line, Menu
from labbench.tui.screens.dialog import Buttons, Dialog

FIRST_MODEL, FIRST_DATASET = "lenet-5", "digits"
"""What stands first and is chosen on a fresh start: it works offline and trains in seconds."""
OWN = ":"
"""The line of a model that is in no catalogue."""
OWN_TITLE = "Your own: a function or class that makes a model; opening it runs its code"
OWN_FACTORY = Knob(name="factory", kind="text", default="", help="net.py:build (a file) or package.module:build")
OWN_OPTIONS = Knob(name="arguments", kind="text", default="", help="of the factory: NAME=VALUE NAME=VALUE")
AUTO = "auto"
STAMP = re.compile(r"^\d{4}-\d{2}-\d{2}-\d{6}-")  # in the names that the app gives; the date is told beside them


class OpenScreen(ModalScreen[Load | Path | None]):
    """Dismisses with a load, with the path of a session or recipe, or with None."""

    AUTO_FOCUS = "#sessions, #model"
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (76, "-narrow"), (112, "-wide")]
    DEFAULT_CSS = """
    OpenScreen { align: center middle; }
    OpenScreen Dialog { max-height: 34; }
    OpenScreen #parts { height: 1fr; }
    OpenScreen #new { height: auto; }
    OpenScreen #old { height: auto; }
    OpenScreen #menus { height: 8; }
    OpenScreen #model { width: 28; height: 100%; }
    OpenScreen #dataset { width: 1fr; height: 100%; }
    OpenScreen #device { width: 14; height: 100%; }
    OpenScreen #about { height: auto; padding: 0 1; color: $text-muted; }
    OpenScreen .options { height: auto; padding: 0 1; }
    OpenScreen Advanced { padding: 0 1; }
    OpenScreen #sessions { height: 6; }
    OpenScreen #empty { height: auto; padding: 0 1; color: $text-muted; margin-top: 1; }
    OpenScreen #path { background: $surface; margin: 0 1; width: 1fr; }
    OpenScreen #path.-textual-compact { padding: 0 1; }
    OpenScreen #path:focus { background-tint: $foreground 8%; }
    OpenScreen #problem { height: auto; padding: 0 2; color: $text-error; text-style: bold; display: none; }
    OpenScreen.-tiny #menus Menu { width: 1fr; }
    OpenScreen.-narrow #parts, OpenScreen.-tiny #parts {
        overflow-y: auto; scrollbar-gutter: stable; scrollbar-size-vertical: 1;
    }
    OpenScreen.-wide #parts { layout: horizontal; }
    OpenScreen.-wide #new { width: 1fr; height: 100%; overflow-y: auto; scrollbar-gutter: stable; }
    OpenScreen.-wide #menus { height: 12; }
    OpenScreen.-wide #old { width: 36%; height: 100%; }
    OpenScreen.-wide #sessions { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,ctrl+o", "load", "Open"),
        Binding("ctrl+t", "toggle_rare", "More settings"),
        Binding("left", "neighbour(-1)", show=False),
        Binding("right", "neighbour(1)", show=False),
        Binding("escape", "cancel", "Cancel"),
    ]

    def __init__(
        self,
        catalogue: Catalogue,
        environment: Environment | None,
        sessions: Path,
        last: Load | None,
        data_dir: Path,
        here: Path | None = None,
    ) -> None:
        """`here` is the session that is open already: it is not offered again."""
        super().__init__()
        self._catalogue = catalogue
        self._environment = environment
        self._sessions = [session for session in sources.recent(sessions) if session.path != here]
        self._folder = sessions
        self._last = last
        self._data_dir = data_dir

    def compose(self) -> ComposeResult:
        """Sessions; three menus and what they mean, with options; a path."""
        with Dialog("Open a model on a data set, or go on with a session"):
            with Container(id="parts"):
                yield from self._parts()
            yield Input(placeholder="or a path: session.jsonl, recipe.toml", id="path", compact=True)
            yield Static("", id="problem", markup=False)
            yield Buttons(
                ("load", "Open model"),
                ("file", "Open file"),
                ("cancel", "Cancel"),
                hint="enter · esc · tab next · ctrl+t more",
            )

    def _parts(self) -> Iterator[Vertical]:
        """Sessions first: whoever has some goes on with one more often than not."""
        last, knobs = self._last, {knob.name: knob for knob in knobs_of(Load)}
        menus = Horizontal(
            Menu("model", self._models(), _line_of(last.model) if last else FIRST_MODEL, id="model"),
            Menu("data", self._datasets(), last.dataset if last else FIRST_DATASET, id="dataset"),
            Menu("device", self._devices(), last.device if last else AUTO, id="device"),
            id="menus",
        )
        new = Vertical(
            menus,
            Static("", id="about", markup=False),
            Vertical(id="options", classes="options"),
            Vertical(id="data-options", classes="options"),
            Advanced(
                Field(knobs["weights"], last.weights if last else None, judge=_judge_weights),
                Field(knobs["seed"], last.seed if last else None),
            ),
            id="new",
        )
        if self._sessions:
            lines = [_session_line(session) for session in self._sessions]
            yield Vertical(Menu("recent sessions", lines, id="sessions"), id="old")
            yield new
        else:
            sentence = f"No session yet: everything you do is recorded in {self._folder}"
            yield new
            yield Vertical(Static(sentence, id="empty", markup=False), id="old")

    async def on_mount(self) -> None:
        """Describe what is chosen."""
        self._say_state()
        await self._describe_model()
        await self._describe_dataset()

    def set_ready(self, ready: Ready) -> None:
        """The worker is there: take its devices and its catalogue. What is chosen stays chosen."""
        self._environment = ready.environment
        self._catalogue = ready.catalogue or self._catalogue
        if self.is_mounted:
            self.query_one("#model", Menu).fill(self._models())
            self.query_one("#dataset", Menu).fill(self._datasets())
            self.query_one("#device", Menu).fill(self._devices())
            self._say_state()
            self._describe()

    @property
    def chosen(self) -> Load | None:
        """The load that the menus and fields mean, or None where a field is wrong."""
        model, dataset, device = (self.query_one(f"#{name}", Menu).value for name in ("model", "dataset", "device"))
        fields = list(self.query(Field))
        if not model or not dataset or any(field.problem for field in fields):
            return None
        weights, seed = (field.value for field in self.query_one(Advanced).fields)
        options = self._options("#options")
        if model == OWN:
            model, options = str(options.get("factory", "")), options_from(str(options.get("arguments", "")))
            if problem_of(model):
                return None
        return Load(
            model=model,
            dataset=dataset,
            options=options,
            data_options=self._options("#data-options"),
            weights=weights,
            seed=seed,
            device=device or AUTO,
        )

    def _options(self, where: str) -> dict[str, Value]:
        fields = self.query_one(where).query(Field)
        return {field.knob.name: field.value for field in fields if field.value != field.knob.default}

    @on(Menu.Entered, "#model, #dataset, #device")
    def action_load(self) -> None:
        """Dismiss with the load; with something wrong, go there instead."""
        load = self.chosen
        if load is not None:
            self.dismiss(load)
            return
        wrong = next((field for field in self.query(Field) if field.problem), None)
        if wrong:
            self.query_one(Advanced).reveal(wrong)
            wrong.attend()
        self.app.bell()

    @on(Input.Submitted, "#path")
    @on(Menu.Entered, "#sessions")
    def action_file(self) -> None:
        """Dismiss with the typed path, else with the chosen session; one that cannot be opened is refused."""
        path = self._path()
        problem = sources.problem_of(path) if path else "type the path of a session or a recipe"
        if path and not problem:
            self.dismiss(path)
            return
        self._refuse(f"{path}: {problem}" if path else problem)
        self.app.bell()

    def action_cancel(self) -> None:
        """Dismiss with nothing."""
        self.dismiss(None)

    def action_toggle_rare(self) -> None:
        """Show or hide weights and seed."""
        self.query_one(Advanced).turn()

    def action_neighbour(self, steps: int) -> None:
        """From one of the three menus to the next."""
        menus = list(self.query_one("#menus").query(Menu))
        here = next((number for number, menu in enumerate(menus) if menu.has_focus), None)
        if here is not None:
            menus[(here + steps) % len(menus)].focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        {"load": self.action_load, "file": self.action_file}.get(event.button.id or "", self.action_cancel)()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        if event.input.id != "path":
            self.action_load()

    @on(OptionList.OptionHighlighted, "#model")
    async def _describe_model(self) -> None:
        name = self.query_one("#model", Menu).value or ""
        last = self._last if self._last and _line_of(self._last.model) == name else None
        if name == OWN:
            if any(field.knob is OWN_FACTORY for field in self.query("#options Field").results(Field)):
                return  # what is typed there stays when the worker is ready
            factory = Field(OWN_FACTORY, last.model if last else None, judge=_judge_factory)
            arguments = Field(OWN_OPTIONS, options_text(last.options) if last else None, judge=_judge_arguments)
            await self._fill("#options", [factory, arguments])
        else:
            await self._ask("#options", self._catalogue.entry("models", name), last.options if last else {})

    @on(OptionList.OptionHighlighted, "#dataset")
    async def _describe_dataset(self) -> None:
        name = self.query_one("#dataset", Menu).value or ""
        known = self._last.data_options if self._last and self._last.dataset == name else {}
        await self._ask("#data-options", self._catalogue.entry("datasets", name), known)

    async def _ask(self, where: str, entry: Entry | None, known: Mapping[str, Value]) -> None:
        """Fields for the options of what is chosen, with what was chosen for it before."""
        await self._fill(where, [Field(knob, known.get(knob.name)) for knob in (entry.knobs if entry else ())])

    async def _fill(self, where: str, fields: Sequence[Field]) -> None:
        options = self.query_one(where)
        await options.remove_children()
        await options.mount_all(fields)
        self._describe()

    @on(OptionList.OptionHighlighted, "#device")
    def _describe(self) -> None:
        model = self._catalogue.entry("models", self.query_one("#model", Menu).value or "")
        dataset = self._catalogue.entry("datasets", self.query_one("#dataset", Menu).value or "")
        lines = []
        if self.query_one("#model", Menu).value == OWN:
            lines.append(OWN_TITLE)
        if model:
            lines.append(_sentence(model, _parameters(model)))
        if dataset:
            there = "" if sources.present(dataset, self._data_dir) else f"will be downloaded into {self._data_dir}"
            lines.append(_sentence(dataset, _images(dataset), _shape(dataset), there))
        if self._environment and self.query_one("#device", Menu).value == AUTO:
            lines.append(f"device auto is {self._environment.device} here")
        self.query_one("#about", Static).update(Content("\n".join(lines)))

    @on(OptionList.OptionSelected, "#sessions")
    def _clicked(self) -> None:
        self.query_one("#path", Input).value = self.query_one("#sessions", Menu).value or ""

    @on(Input.Changed, "#path")
    def _typed(self) -> None:
        self._refuse("")

    def _refuse(self, problem: str) -> None:
        line = self.query_one("#problem", Static)
        line.display = bool(problem)
        line.update(Content(f"✗ {problem}"))
        if problem:
            line.scroll_visible(animate=False)

    def _path(self) -> Path | None:
        typed = self.query_one("#path", Input).value.strip()
        if not typed or self._in_sessions():
            typed = next((menu.value or "" for menu in self.query("#sessions").results(Menu)), "")
        return Path(typed).expanduser() if typed else None

    def _in_sessions(self) -> bool:
        return any(menu.has_focus for menu in self.query("#sessions").results(Menu))

    def _say_state(self) -> None:
        state = "ready" if self._environment else "warming up: choose meanwhile"
        self.query_one(Dialog).border_subtitle = Content(state)

    def _models(self) -> list[Line]:
        known = [
            Line(one.name, one.name, _parameters(one, short=True))
            for one in _first(self._catalogue.models, FIRST_MODEL)
        ]
        return [*known, Line(OWN, "my model", "your code")]

    def _datasets(self) -> list[Line]:
        return [
            Line(one.name, one.name, sources.whereabouts(one, self._data_dir))
            for one in _first(self._catalogue.datasets, FIRST_DATASET)
        ]

    def _devices(self) -> list[Line]:
        names = [AUTO, *(self._environment.devices if self._environment else ())]
        if self._last and self._last.device not in names and not self._environment:
            names.append(self._last.device)
        return [Line(name, name) for name in names]


def _first(entries: Iterable[Entry], name: str) -> Sequence[Entry]:
    return sorted(entries, key=lambda entry: entry.name != name)


def _parameters(entry: Entry, short: bool = False) -> str:
    count = entry.facts.get("parameters")
    if not isinstance(count, int):
        return ""
    return words.short(count) if short else f"{words.count(count)} parameters"


def _images(entry: Entry) -> str:
    count = entry.facts.get("images")
    return f"{words.count(count)} images" if isinstance(count, int) else ""


def _shape(entry: Entry) -> str:
    shape = str(entry.facts.get("shape", ""))
    return "" if shape.partition("×")[2] in entry.title else shape


def _sentence(entry: Entry, *facts: str) -> str:
    """The title, and what it does not say itself."""
    said = entry.title.casefold()
    new = [fact for fact in facts if fact and fact.split()[0].casefold() not in said]
    return " · ".join((entry.title, *new))


def _session_line(session: sources.Recent) -> Line:
    name = session.title or STAMP.sub("", session.path.stem)
    if session.problem:
        return Line(str(session.path), f"{session.path.name}: {session.problem}", session.date)
    what = last_figures(session.path) or f"{session.size / 1000:,.0f} kB"
    return Line(str(session.path), name, f"{'cut off' if session.cut_off else session.date} · {what}")


def _line_of(model: str) -> str:
    return OWN if is_own(model) else model


def _judge_factory(text: str) -> tuple[str, str]:
    if problem := problem_of(text):
        return problem if text else f"type where it is, such as {EXAMPLES}", ""
    if text.rpartition(":")[0].endswith(".py") and not place_of(text):
        return f"there is no file {text.rpartition(':')[0]} in {Path.cwd()}", ""
    return "", ""


def _judge_arguments(text: str) -> tuple[str, str]:
    try:
        options_from(text)
    except BadInput as error:
        return str(error), ""
    return "", ""


def _judge_weights(text: str) -> tuple[str, str]:
    if text and not Path(text).expanduser().is_file():
        return f"there is no file {text}", ""
    return "", ""
