"""A question with two answers."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from labbench.printable import printable_lines
from labbench.tui.screens.dialog import Buttons, Dialog


class Confirm(ModalScreen[bool]):
    """Dismisses with the answer; escape means no. Enter takes the focused button: yes, or no where safer."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm #question { padding: 1 0; height: auto; }
    Confirm Dialog { padding-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n", "answer(False)", "No"),
        Binding("escape", "answer(False)", "No", show=False),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, question: str, yes: str = "Yes", no: str = "No", safer: bool = False) -> None:
        super().__init__()
        self._question = question
        self._yes = yes
        self._no = no
        self._first = "#no" if safer else "#yes"

    def compose(self) -> ComposeResult:
        """The question above the answers."""
        with Dialog("", small=True):
            yield Static(printable_lines(self._question), id="question", markup=False)
            yield Buttons(("yes", self._yes), ("no", self._no), hint="y · n · enter · esc")

    def on_mount(self) -> None:
        """Enter gives the first answer."""
        self.query_one(self._first).focus()

    def action_answer(self, answer: bool) -> None:
        """Dismiss with it."""
        self.dismiss(answer)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")
