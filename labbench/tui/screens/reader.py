"""A text to be read in full: a note, or an entry of the history with its remarks."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button

from labbench.printable import printable_lines
from labbench.tui.screens.dialog import Buttons, Dialog
from labbench.tui.widgets.card import worded
from labbench.tui.widgets.hanging import Hanging


class Reader(ModalScreen[None]):
    """A title and a text."""

    DEFAULT_CSS = """
    Reader { align: center middle; }
    Reader VerticalScroll { height: auto; max-height: 100%; }
    Reader .text { height: auto; padding: 1 0; }
    Reader Dialog { max-width: 100; width: 96%; height: auto; max-height: 100%; padding-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "close", "Close")]

    def __init__(self, title: str, text: str, note: bool = False) -> None:
        """`note` says that the text is a note, which is Markdown."""
        super().__init__()
        self._title = title
        self._text = text
        self._note = note

    def compose(self) -> ComposeResult:
        """The text above one button."""
        with Dialog(self._title):
            with VerticalScroll():
                if self._note:
                    yield worded(self._text)
                else:
                    yield Hanging(map(Content, printable_lines(self._text).split("\n")), classes="text")
            yield Buttons(("close", "Close"), hint="↑↓ scroll · esc close")

    def on_mount(self) -> None:
        """Scroll at once."""
        self.query_one(VerticalScroll).focus()

    def action_close(self) -> None:
        """Enough."""
        self.dismiss(None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Enough."""
        event.stop()
        self.dismiss(None)
