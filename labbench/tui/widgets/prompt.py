"""One line of input under the table: the filter, or a glob that marks."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

LABELS = {"filter": "/ layers with", "mark": "* mark"}


class Prompt(Horizontal):
    """Hidden until it is opened for a purpose; Enter takes the text, Escape does not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", show=False),
        Binding("up,down", "take", "Take", show=False),
    ]

    class Typed(Message):
        """The text changed."""

        def __init__(self, purpose: str, text: str) -> None:
            super().__init__()
            self.purpose = purpose
            self.text = text

    class Done(Typed):
        """The text was taken, or, with `accepted` false, not."""

        def __init__(self, purpose: str, text: str, accepted: bool) -> None:
            super().__init__(purpose, text)
            self.accepted = accepted

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.purpose = "filter"
        self.display = False

    def compose(self) -> ComposeResult:
        """What is asked, and the line."""
        yield Static("", markup=False)
        yield Input(compact=True, placeholder="part of a name, or a glob such as layer1.*")

    def open(self, purpose: str, text: str) -> None:
        """Ask for a "filter" or what to "mark"."""
        self.purpose, self.display = purpose, True
        self.query_one(Static).update(LABELS[purpose])
        line = self.query_one(Input)
        with line.prevent(Input.Changed):
            line.value = text
        line.cursor_position = len(text)
        line.focus()

    def action_leave(self) -> None:
        """Not this."""
        self._done(False)

    def action_take(self) -> None:
        """This; the next key goes to the table."""
        self._done(True)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._done(True)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Typed(self.purpose, event.value))

    def _done(self, accepted: bool) -> None:
        self.display = False
        self.post_message(self.Done(self.purpose, self.query_one(Input).value, accepted))
