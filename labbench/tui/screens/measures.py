"""Every measure of the model, part by part: what `labbench show --measures` prints, to be looked at."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from labbench.session.measures_report import PARTS, lines
from labbench.session.session import Session
from labbench.tui.screens.dialog import Buttons, Dialog
from labbench.tui.widgets.key_line import Key, KeyLine


class MeasuresScreen(ModalScreen[None]):
    """One part at a time; numbers and ← → choose it, the other moving keys scroll."""

    DEFAULT_CSS = """
    MeasuresScreen { align: center middle; }
    MeasuresScreen ScrollableContainer { height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    MeasuresScreen .lines { width: auto; height: auto; }
    MeasuresScreen KeyLine { height: 1; margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,m,enter", "close", "Close"),
        *(Binding(str(number), f"choose('{part}')", part) for number, part in enumerate(PARTS, 1)),
        Binding("tab,right_square_bracket", "step(1)", "Next part"),
        Binding("shift+tab,left_square_bracket", "step(-1)", "Part before"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.part = PARTS[0]
        self._keys = KeyLine()
        self._lines = Static("", classes="lines", markup=False)

    def compose(self) -> ComposeResult:
        """The parts' names, the lines of one of them, a button."""
        with Dialog("Measures"):
            yield self._keys
            with ScrollableContainer():
                yield self._lines
            yield Buttons(("close", "Close"), hint="1–4, tab part · ←→↑↓ scroll · esc close")

    def on_mount(self) -> None:
        """The first part."""
        self.query_one(ScrollableContainer).focus()
        self.action_choose(self.part)

    def action_choose(self, part: str) -> None:
        """Show another part from its beginning."""
        self.part = part
        self._keys.show([Key(str(n), name, name, on=name == part) for n, name in enumerate(PARTS, 1)])
        self._lines.update("\n".join(lines(self._session, part)))
        self.query_one(ScrollableContainer).scroll_home(animate=False)

    def action_step(self, step: int) -> None:
        """Show the part so many further."""
        self.action_choose(PARTS[(PARTS.index(self.part) + step) % len(PARTS)])

    def action_close(self) -> None:
        """Enough."""
        self.dismiss(None)

    @on(KeyLine.Chosen)
    def _chosen(self, event: KeyLine.Chosen) -> None:
        event.stop()
        self.action_choose(event.action)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Enough."""
        event.stop()
        self.dismiss(None)
