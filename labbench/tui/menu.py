"""A list of which one line is always chosen: the highlighted one, marked so that it is seen without colour."""

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct
from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from labbench.cells import cells
from labbench.printable import printable
from labbench.tui import words

ON, OFF = "● ", "  "
SHORTEST = 8  # cells of a name without which a figure is of no use


class Line(Struct, frozen=True):
    """One line of a menu: what it stands for, its name, and a figure at the right end."""

    value: str
    name: str
    figure: str = ""


class Menu(OptionList):
    """A titled list. Moving the highlight or a click chooses; enter says `Entered`."""

    DEFAULT_CSS = """
    Menu {
        border: round $foreground 30%; border-title-color: $text-muted; background: $background; padding: 0 1;
        max-height: 100%; scrollbar-size-vertical: 1;
    }
    Menu > .option-list--option { padding: 0; }
    Menu:focus {
        border: round $primary; border-title-color: $foreground; border-title-style: bold;
        background-tint: $foreground 0%;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("g", "first", "First", show=False),
        Binding("G", "last", "Last", show=False),
        Binding("enter", "enter", "Go", show=False),
    ]

    class Entered(Message):
        """Enter was pressed on the chosen line."""

        def __init__(self, menu: "Menu") -> None:
            super().__init__()
            self.menu = menu

        @property
        def control(self) -> "Menu":
            """The menu it was pressed in."""
            return self.menu

    def __init__(self, title: str, lines: Sequence[Line], chosen: str | None = None, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.border_title = Content(title)
        self.lines: tuple[Line, ...] = ()
        self._fill_with(lines, chosen)

    @property
    def value(self) -> str | None:
        """What is chosen; None in an empty menu."""
        return self.lines[self.highlighted].value if self.lines and self.highlighted is not None else None

    def fill(self, lines: Sequence[Line]) -> None:
        """Show other lines; what was chosen stays chosen if it is still there."""
        self._fill_with(lines, self.value)

    def action_enter(self) -> None:
        """Say that this one is meant."""
        self.post_message(self.Entered(self))

    def on_mount(self) -> None:
        """A scroll bar takes room of the figures as soon as it is there."""
        self.watch(self, "show_vertical_scrollbar", self._draw_soon, init=False)

    def on_resize(self) -> None:
        """The figures stand at the right end, wherever that is."""
        self._draw()

    def _draw_soon(self) -> None:
        self.call_after_refresh(self._draw)

    def _fill_with(self, lines: Sequence[Line], chosen: str | None) -> None:
        self.lines = tuple(lines)
        self.clear_options()
        self.add_options([Option(line.name) for line in self.lines])
        values = [line.value for line in self.lines]
        self.highlighted = values.index(chosen) if chosen in values else 0 if values else None
        self._draw()

    @on(OptionList.OptionHighlighted)
    def _draw(self) -> None:
        width = self.scrollable_content_region.width
        for number, line in enumerate(self.lines):
            mark = ON if number == self.highlighted else OFF
            figure = printable(line.figure)
            taken = len(mark) + cells(figure)
            if width <= taken + SHORTEST:
                figure, taken = "", len(mark)
            name = Content(words.middle(line.name, max(width - taken - bool(figure), 1)))
            room = width - taken - name.cell_length
            end = Content.styled(" " * max(room, 0) + figure, "$text-muted")
            self.replace_option_prompt_at_index(number, Content.assemble(mark, name, end))
