"""What a scan finds, growing as it is measured; a plan for pruning can be taken from it."""

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from labbench.session.operations import Scan
from labbench.session.scan_report import latest, of_another, table
from labbench.session.session import Session
from labbench.tui.screens.dialog import Buttons, Dialog
from labbench.tui.words import plural, rate

DROPS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
PERIOD = 0.25  # seconds between two looks for new points
NEW = "new"


class ScanScreen(ModalScreen[dict[str, float] | str | None]):
    """Dismisses with a plan (layer → amount), with "new" for another scan, or with None."""

    DEFAULT_CSS = """
    ScanScreen { align: center middle; }
    ScanScreen VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    ScanScreen #points { height: auto; text-wrap: nowrap; }
    ScanScreen .words { height: auto; color: $text-muted; }
    ScanScreen #plan { height: auto; padding: 1 0; color: $foreground; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "close", "Close"),
        Binding("plus,equals_sign,right", "drop(1)", "More"),
        Binding("minus,left", "drop(-1)", "Less"),
        Binding("p,enter", "plan", "Plan"),
        Binding("n", "new", "New scan"),
    ]

    def __init__(self, session: Callable[[], Session], can_prune: Callable[[], bool]) -> None:
        """`session` is asked again and again; `can_prune` whether a plan can be done now."""
        super().__init__()
        self._session = session
        self._can_prune = can_prune
        self._drop = DROPS.index(0.02)
        self._seen: object = None

    def compose(self) -> ComposeResult:
        """What is shown, the table, the plan, and the buttons."""
        with Dialog("Scan · accuracy with one layer pruned alone, in % of the validation images"):
            yield Static("", id="state", classes="words", markup=False)
            with VerticalScroll():
                yield Static("", id="points", markup=False)
            yield Static("", id="plan", markup=False)
            yield Buttons(
                ("take", "Prune by the plan"),
                ("new", "New scan"),
                ("close", "Close"),
                hint="- + drop · p plan · n · esc",
            )

    def on_mount(self) -> None:
        """Scroll at once, and look for what is new."""
        self.query_one(VerticalScroll).focus()
        self.set_interval(PERIOD, self._look)
        self._look()

    def on_resize(self) -> None:
        """Another width, another table."""
        self._seen = None
        self.call_after_refresh(self._look)

    def _look(self) -> None:
        session = self._session()
        seen = (len(session.steps), len(session.probed), session.running, self._drop, self.size)
        if seen == self._seen:
            return
        self._seen = seen
        found, drop = latest(session), DROPS[self._drop]
        if found is None or not found.layers:
            self.query_one("#state", Static).update("no answer yet: the first comes in a moment")
            return
        running = isinstance(session.running, Scan)
        coupled = "+1: one more layer is cut with it · " if any(len(layer.layers) > 1 for layer in found.layers) else ""
        whose = of_another(session) or "as it stands"
        state = f"{'measuring … ' if running else ''}{coupled}{whose} {rate(found.top1)}"
        self.query_one("#state", Static).update(state)
        width = self.query_one(VerticalScroll).scrollable_content_region.width
        self.query_one("#points", Static).update("\n".join(table(found, drop, max(width, 30))))
        plan = found.plan(drop)
        layers = f"{plural(len(plan), 'layer')} of {sum(len(layer.layers) for layer in found.layers)}"
        self.query_one("#plan", Static).update(
            f"plan: each layer to its [bracketed] amount, where accuracy alone falls by at most ‹ {100 * drop:g} › "
            f"points: {layers}"
        )

    def action_drop(self, step: int) -> None:
        """Allow a larger or smaller fall."""
        self._drop = min(max(self._drop + step, 0), len(DROPS) - 1)
        self._look()

    def action_plan(self) -> None:
        """Dismiss with the plan, if there is one and it can be done."""
        found = latest(self._session())
        plan = found.plan(DROPS[self._drop]) if found else {}
        if not plan:
            self.notify("no layer bears that: + allows a larger fall", severity="warning")
        elif not self._can_prune():
            self.notify("a plan can be taken when nothing is running", severity="warning")
        else:
            self.dismiss(plan)

    def action_new(self) -> None:
        """Dismiss for another scan."""
        self.dismiss(NEW)

    def action_close(self) -> None:
        """Enough."""
        self.dismiss(None)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        {"take": self.action_plan, "new": self.action_new}.get(event.button.id or "", self.action_close)()
