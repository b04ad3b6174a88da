"""A choice in one line: all names side by side where they fit, else one at a time. Arrows, space, first letters and
clicks choose."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from labbench.session.operations import Value

GAP = "  "
ON, OFF = "● ", "○ "


class Choice(Widget, can_focus=True):
    """One of several values. Never blank; enter is left to the form around it."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; background: $surface; padding: 0 1; pointer: pointer; }
    Choice:focus { background-tint: $foreground 8%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,down,space", "move(1)", "Next choice", show=False),
        Binding("left,up", "move(-1)", "Previous choice", show=False),
        Binding("home", "move(-1000)", "First choice", show=False),
        Binding("end", "move(1000)", "Last choice", show=False),
    ]
    index: reactive[int] = reactive(0)

    class Changed(Message):
        """Another value was chosen."""

        def __init__(self, choice: "Choice") -> None:
            super().__init__()
            self.choice = choice

        @property
        def control(self) -> "Choice":
            """The choice that changed."""
            return self.choice

    def __init__(
        self, values: Sequence[Value], value: Value | None, labels: Sequence[str] = (), id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.values = tuple(values)
        self.labels = tuple(labels) or tuple(str(one) for one in values)
        self.set_reactive(Choice.index, self.values.index(value) if value is not None and value in self.values else 0)

    @property
    def value(self) -> Value:
        """What is chosen."""
        return self.values[self.index]

    def render(self) -> Content:
        """Every label with a mark on the chosen one, or the chosen one between arrows."""
        style = "reverse bold" if self.has_focus else "bold"
        chosen = Content.styled(ON + self.labels[self.index], style)
        if not self._fits:
            place = Content.styled(f" {self.index + 1} of {len(self.labels)}", "$text-muted")
            return Content.assemble("‹ ", chosen, " ›", place)
        return Content(GAP).join(
            chosen if number == self.index else Content(OFF + label) for number, label in enumerate(self.labels)
        )

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked; where only one is shown, the left end goes back and the rest goes on."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if not self._fits:
            self.action_move(-1 if offset.x < len("‹ ") else 1)
            return
        end = 0
        for number, label in enumerate(self.labels):
            end += Content(ON + label).cell_length + len(GAP)
            if offset.x < end:
                self.index = number
                return

    def on_key(self, event: events.Key) -> None:
        """A letter goes to the next label that begins with it."""
        letter = (event.character or "").lower()
        if not letter.strip() or not letter.isprintable():
            return
        order = [*range(self.index + 1, len(self.labels)), *range(self.index + 1)]
        for number in order:
            if self.labels[number].lower().startswith(letter):
                self.index = number
                event.stop()
                return

    def action_move(self, steps: int) -> None:
        """Go along the choices; single steps go around the ends."""
        if abs(steps) == 1:
            self.index = (self.index + steps) % len(self.values)
        else:
            self.index = min(max(self.index + steps, 0), len(self.values) - 1)

    def watch_index(self) -> None:
        """Tell whoever listens."""
        self.post_message(self.Changed(self))

    @property
    def _fits(self) -> bool:
        width = sum(Content(ON + label).cell_length for label in self.labels) + len(GAP) * (len(self.labels) - 1)
        return width <= self.content_size.width
