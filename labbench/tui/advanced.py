"""The rarely used fields of a form, behind one line that names them."""

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from labbench.tui.fields import Field


class More(Static, can_focus=True):
    """The line that shows and hides: space, enter or a click. None of them does what the form is for."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space,enter", "turn", "More settings", show=False)]

    class Turned(Message):
        """Show what is hidden, or hide it."""

    def action_turn(self) -> None:
        """Say so."""
        self.post_message(self.Turned())

    def on_click(self, event: events.Click) -> None:
        """The same."""
        event.stop()
        self.action_turn()


class Advanced(Vertical):
    """Fields that are hidden at first."""

    DEFAULT_CSS = """
    Advanced { height: auto; }
    Advanced > Vertical { height: auto; display: none; }
    Advanced.-open > Vertical { display: block; }
    Advanced More {
        height: 1; width: 100%; color: $text-muted; pointer: pointer; text-wrap: nowrap; text-overflow: ellipsis;
    }
    Advanced More:focus { text-style: bold reverse; }
    """

    def __init__(self, *fields: Field) -> None:
        super().__init__()
        self.fields = fields
        self._more = More("", markup=False)

    def compose(self) -> ComposeResult:
        """The line, then the fields."""
        yield self._more
        yield Vertical(*self.fields)

    def on_mount(self) -> None:
        """Name what is hidden."""
        self.summarize()

    @on(More.Turned)
    def turn(self) -> None:
        """Show the fields and go to the first, or hide them."""
        self.toggle_class("-open")
        if self.has_class("-open"):
            next(field for field in self.fields if field.display).take_focus()
        else:
            self._more.focus()
        self.summarize()

    def reveal(self, field: Field) -> None:
        """Make sure that this field can be seen, if it is one of these."""
        if field in self.fields:
            self.add_class("-open")
            self.summarize()

    @on(Field.Changed)
    def summarize(self) -> None:
        """Name the fields that mean something now; a sign marks those that are not at their default."""
        names = ", ".join(
            field.knob.name.replace("_", " ")
            + ("" if field.problem or field.value in (field.knob.default, {}) else "*")
            for field in self.fields
            if field.display
        )
        sign = "▾" if self.has_class("-open") else "▸"
        self._more.update(Content(f"{sign} advanced: {names}"))
