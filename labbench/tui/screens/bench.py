"""The bench: layers, curves and history of one session, live or recorded. Keys and clicks become actions by name; what
is shown is handed in by the app."""

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Static

from labbench.session.chapters import chapters
from labbench.session.history import Row, rows
from labbench.session.session import Session
from labbench.tui.actions import bindings, footer
from labbench.tui.situation import Situation
from labbench.tui.widgets.big_figures import BigFigures
from labbench.tui.widgets.caption import strip
from labbench.tui.widgets.card import Card, Guess
from labbench.tui.widgets.columns import LEGEND, Changes
from labbench.tui.widgets.curves import KINDS, Curves
from labbench.tui.widgets.heading import heading
from labbench.tui.widgets.history import History
from labbench.tui.widgets.key_line import Key, KeyLine
from labbench.tui.widgets.layer_table import MARK, LayerTable
from labbench.tui.widgets.lines import Lines
from labbench.tui.widgets.pane import Pane
from labbench.tui.widgets.prompt import Prompt
from labbench.tui.widgets.status import status
from labbench.tui.widgets.tasks import tasks
from labbench.tui.widgets.totals import totals

SMALLEST = (40, 12)
PANES = ("layers", "curves", "history")
FOCUS = {"layers": "#table", "curves": "#picture", "history": "#steps"}
SEEN = "-see-{}"  # the class of the screen, of which a small terminal shows one pane
FIGURES = "× fewer parameters · % validation"
HELP = Key("?", "help", "help")


class BenchScreen(Screen[None]):
    """Everything of one session at a glance."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("bench")]
    AUTO_FOCUS = "#table"
    HORIZONTAL_BREAKPOINTS = [(0, "-small"), (110, "-normal"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-high"), (34, "-tall")]

    def __init__(self, do: Callable[[str], None]) -> None:
        """`do` does an action of the registry, at once: the next key may already be for what it opens."""
        super().__init__(classes=SEEN.format("layers"))  # styles are looked up once
        self._do = do
        self.pane = "layers"
        self.table = LayerTable(id="table")
        self.picture = Curves(id="picture")
        self.big = BigFigures(id="big")
        self.card = Card(id="card")
        self._history = History(id="steps")
        self._prompt = Prompt(id="prompt")
        self._layers = Pane(id="layers", classes="pane")
        self._lines = {name: Lines(id=name) for name in ("heading", "totals", "tasks", "strip", "status")}
        self._keys = {name: KeyLine(id=name) for name in ("tabs", "kinds", "keys")}
        self._session = Session()
        self._situation = Situation()
        self._version: object = None
        self._title = ""
        self._training = False
        self._left = ""
        """The pane that made room for the curves while it trains."""

    def compose(self) -> ComposeResult:
        """Heading, panes, strip, status, keys."""
        yield Static(f"labbench needs {SMALLEST[0]}×{SMALLEST[1]} cells", id="tiny")
        yield self._lines["heading"]
        yield self._keys["tabs"]
        with Horizontal(id="body"):
            with self._layers:
                yield self.table
                yield self._prompt
                yield self._lines["totals"]
            with Vertical(id="right"):
                with Vertical(id="curves", classes="pane"):
                    yield self._keys["kinds"]
                    yield self.picture
                with Vertical(id="history", classes="pane"):
                    yield self._history
        yield self.big
        yield self.card
        yield self._lines["tasks"]
        yield self._lines["strip"]
        yield self._lines["status"]
        yield self._keys["keys"]

    # what is shown

    def show(self, session: Session, situation: Situation, fresh: Changes) -> None:
        """Show a session as it is now; `fresh` are the cells to stress."""
        self._session, self._situation = session, situation
        snapshot = session.snapshot
        empty, self._history.hint, self.picture.hint = hints(session, situation)
        self.table.show(snapshot.rows if snapshot else (), session.live, fresh, empty)
        version = (id(session), len(session.steps), len(session.undone), session.running)
        if version != self._version:
            self._version = version
            self._history.show(rows(session))
        self._show_large(session, situation)
        self._lines["heading"].show(lambda width: heading(session, situation, width))
        self._lines["totals"].show(lambda width: totals(session, width))
        self._lines["tasks"].show(lambda width: tasks(session, width))
        self._lines["strip"].show(lambda width: strip(session, situation, width))
        self._lines["status"].show(lambda width: status(session, situation, width))
        self._show_choices()
        self._bring_curves(situation)

    def _bring_curves(self, situation: Situation) -> None:
        """In a small terminal, show the curves while it trains; then what was shown before, unless one left them."""
        training = situation.running == "finetune"
        if training and not self._training and self.has_class("-small") and not self._busy:
            self._left = self.pane
            self.show_pane("curves")
        elif self._left and not situation.running:
            if self.pane == "curves" and not self._busy:
                self.show_pane(self._left)
            self._left = ""
        self._training = training

    @property
    def _busy(self) -> bool:
        """Whether the panes are hidden, or something is being typed."""
        return self.has_class("-big") or self.card.asking or isinstance(self.focused, Input)

    def _show_large(self, session: Session, situation: Situation) -> None:
        if self.has_class("-big"):
            self.big.show(session)
        if (playing := situation.playing) is None:
            return
        found = chapters(session)
        title = f"{len(found)} · {found[-1].title}" if found else "Note"
        self.card.show(playing, title)
        self.set_class(self.card.told, "-told")

    @on(LayerTable.Changed)
    def _show_choices(self) -> None:
        """What depends on the pane, the cursor, the marks, the filter and the chosen curves."""
        self._keys["keys"].show(*self._footer())
        table, picture = self.table, self.picture
        picture.show(self._session.curves, self._session.runs, table.current, self._session.gone)
        kinds = [Key(str(n), kind, kind, on=picture.kind == kind) for n, kind in enumerate(KINDS, 1)]
        self._keys["kinds"].show(kinds)
        tabs = [Key("", pane.capitalize(), f"pane:{pane}", on=self.pane == pane) for pane in PANES]
        self._keys["tabs"].show(tabs)
        title = f"Layers {len(table.rows)}" if table.rows else "Layers"
        title += f" · {MARK} {len(table.marks)} marked" if table.marks else ""
        title += f" · filter {table.pattern}" if table.pattern else ""
        if title != self._title:
            self._title = title
            self._layers.entitle(title)

    def _footer(self) -> tuple[list[Key], list[Key]]:
        """The keys that work now; where a line is typed, letters are none."""
        keys = [Key(action.key, action.title, action.name) for action in footer(self._situation, self.pane)]
        match self.focused:
            case Guess():
                return [key for key in keys if key.action in Guess.PASSED], [
                    Key("esc", "all keys", f"pane:{self.pane}")
                ]
            case Input():
                return [Key("⏎", "take", ""), Key("esc", "cancel", "")], []
        return keys, [HELP]

    # parts

    def toggle_big(self) -> None:
        """A few figures in large instead of the panes, or the panes again."""
        self.toggle_class("-big")
        self.card.fit()
        if self.has_class("-big"):
            self.big.show(self._session)
        elif not self.card.asking:
            self.call_after_refresh(self.show_pane, self.pane)

    @on(Guess.Left)
    def _answered(self) -> None:
        if self.has_class("-big"):
            self.set_focus(None)
        else:
            self.show_pane(self.pane)

    @on(Guess.Passed)
    def _passed(self, event: Guess.Passed) -> None:
        self._do(event.action)

    def choose_curves(self, kind: str) -> None:
        """Show another picture; in a small terminal, its pane."""
        self.picture.choose(kind)
        if self.has_class("-small"):
            self.show_pane("curves")
        self._show_choices()

    def ask(self, purpose: str) -> None:
        """Open the line that filters or marks."""
        self.show_pane("layers")
        self._prompt.open(purpose, self.table.pattern if purpose == "filter" else "")

    def mark(self) -> None:
        """Mark what the cursor is on: a point of the history where that has the focus, else a layer."""
        if self._history.has_focus:
            self._history.mark()
        else:
            self.table.mark()

    def clear(self) -> None:
        """End the filter, else unmark all."""
        if self._history.has_focus:
            self._history.unmark()
        elif self.table.pattern:
            self.table.filter("")
        else:
            self.table.unmark()

    def row(self) -> Row | None:
        """The row under the cursor of the history, where that has the focus."""
        return self._history.current if self._history.has_focus else None

    @property
    def points(self) -> tuple[int, ...]:
        """The marked points of the history, else the one under its cursor; what is running has made none yet."""
        current = self._history.current
        here = (current.point,) if current and current.step and current.point else ()
        return tuple(sorted(self._history.marks)) or here

    # panes

    def next_pane(self, step: int) -> None:
        """Go to another pane."""
        self.show_pane(PANES[(PANES.index(self.pane) + step) % len(PANES)])

    def show_pane(self, pane: str) -> None:
        """Give a pane the focus; in a small terminal it is the one that is seen."""
        self.set_focus(self.query_one(FOCUS[pane]))
        self._see(pane)

    def _see(self, pane: str) -> None:
        self.pane = pane
        for name in PANES:
            self.set_class(name == pane, SEEN.format(name))
        self._show_choices()

    @on(events.DescendantFocus)
    def _focused(self, event: events.DescendantFocus) -> None:
        pane = next((pane for pane in PANES for one in event.widget.ancestors_with_self if one.id == pane), None)
        if pane and pane != self.pane:
            self._see(pane)
        else:
            self._show_choices()

    # keys and clicks

    def action_do(self, name: str) -> None:
        """A key of the registry."""
        self._do(name)

    @on(KeyLine.Chosen)
    def _chosen(self, event: KeyLine.Chosen) -> None:
        kind, _, pane = event.action.partition(":")
        if kind == "pane":
            self.show_pane(pane)
        else:
            self._do(event.action)

    @on(Curves.Moved)
    def _moved(self, event: Curves.Moved) -> None:
        self.table.action_cursor(event.by, event.extend)

    @on(History.Asked)
    def _read(self) -> None:
        self._do("read")

    @on(Prompt.Typed)
    def _typed(self, event: Prompt.Typed) -> None:
        if event.purpose == "filter":
            self.table.filter(event.text)

    @on(Prompt.Done)
    def _asked(self, event: Prompt.Done) -> None:
        if event.purpose == "filter" and not event.accepted:
            self.table.filter("")
        elif event.purpose == "mark" and event.accepted and event.text:
            found = self.table.mark_matching(event.text)
            if not found:
                self.notify(f"no layer fits {event.text}", severity="warning", markup=False)
        self.table.focus()

    def on_resize(self, event: events.Resize) -> None:
        """Too small for anything: a sentence."""
        self.set_class(event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1], "-tiny")

    def on_mount(self) -> None:
        """Titles, and the keys of what is seen first."""
        self._show_choices()
        self.query_one("#curves").border_title = "Curves"
        self.query_one("#history").border_title = "History"
        self.query_one("#history").border_subtitle = FIGURES
        legend = "  ".join(f"{sign} {word}" for sign, word in LEGEND)
        self._layers.border_subtitle = Content(legend)


def hints(session: Session, situation: Situation) -> tuple[str, str, str]:
    """What layers, history and curves say while they are empty: what fills them. "": the curves know themselves."""
    if situation.playing:
        return "no model yet: space plays", "nothing yet: space plays", "nothing to draw so far"
    if session.snapshot is None:
        layers = "opening …" if situation.running else "no model yet: o opens one"
        return layers, "nothing yet: o opens a model", "no curve yet: o opens a model, t trains it"
    return "", "nothing yet", "the first figures come in a moment" if situation.running == "finetune" else ""


class PlayerScreen(BenchScreen, inherit_bindings=False):
    """The same with the keys of a player."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("player")]
