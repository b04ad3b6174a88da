"""The history pane: the tree of points with a cursor and marks; each step in words, with what it left of the model."""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from labbench.cells import left, wrapped
from labbench.printable import printable
from labbench.session.history import Row
from labbench.tui.actions import list_bindings
from labbench.tui.words import rate, times

MARK = "●"
LEAD = 2  # cells of the sign and the mark
FEWEST = 10  # cells of words; where there are not so many, the compression goes
DEEPEST = 3  # the lines of the branches take a third of the room at most
UNBROKEN = "\N{NO-BREAK SPACE}"
Line = tuple[int, str, str]
"""Row, kind and text."""


class History(ScrollView, can_focus=True, inherit_bindings=False):
    """The rows of a history, one or more lines each. The cursor stays where one stands unless it was moved away."""

    BINDINGS: ClassVar[list[BindingType]] = [*list_bindings()]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"history--quiet", "history--now", "history--cursor", "history--remark"}

    class Asked(Message):
        """A row was clicked twice: it shall be read."""

    hint: reactive[str] = reactive("nothing yet: o opens a model")
    """What is said while there is no row."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.marks: frozenset[int] = frozenset()
        """Points that shall be compared."""
        self._rows: list[Row] = []
        self._cursor = 0
        self._lines: list[Line] = []

    def show(self, found: Sequence[Row]) -> None:
        """Show these."""
        if list(found) == self._rows:
            return
        before, follow = self.current, self._cursor == self._home
        self._rows = list(found)
        self.marks &= {row.point for row in found}
        there = [place for place, row in enumerate(found) if before and row.number == before.number]
        self._cursor = self._home if follow or not there else there[0]
        self._lay_out()

    @property
    def _home(self) -> int:
        """The last row of where one stands."""
        return max((place for place, row in enumerate(self._rows) if row.standing == "now"), default=0)

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    def mark(self) -> None:
        """Mark or unmark the point under the cursor."""
        if self.current and self.current.point and self.current.step:
            self.marks ^= {self.current.point}
            self._lay_out()

    def unmark(self) -> None:
        """Mark none."""
        self.marks = frozenset()
        self._lay_out()

    def action_cursor(self, by: str, extend: bool = False) -> None:
        """Move the cursor by one of the words of `MOVES`; there is nothing to extend here."""
        page = max(self.size.height // 2, 1)
        last = len(self._rows) - 1
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page, "top": -last - 1, "bottom": last + 1}
        self._cursor = max(min(self._cursor + steps[by], last), 0)
        self._show_cursor()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, on the mark it marks; a second one reads."""
        offset = event.get_content_offset(self)
        line = offset.y + self.scroll_offset.y if offset else len(self._lines)
        if line < len(self._lines):
            self._cursor = self._lines[line][0]
            self.refresh()
            if event.ctrl or (offset and offset.x < LEAD):
                self.mark()
            elif event.chain == 2:
                self.post_message(self.Asked())

    def on_mount(self) -> None:
        """A scrollbar takes room."""
        self.watch(self, "show_vertical_scrollbar", self._make_room, init=False)

    def _make_room(self) -> None:
        self.call_after_refresh(self._lay_out)

    def on_resize(self) -> None:
        """Lines depend on the width."""
        self._lay_out()

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width
        self._lines = _laid_out(self._rows, self.marks, width)
        self.virtual_size = Size(width, len(self._lines))
        self._show_cursor()
        self.refresh()

    def _show_cursor(self) -> None:
        mine = [number for number, line in enumerate(self._lines) if line[0] == self._cursor]
        if not mine:
            return
        top, height = round(self.scroll_target_y), max(self.size.height, 1)
        if mine[0] < top:
            self.scroll_to(y=mine[0], animate=False)
        elif mine[-1] >= top + height:
            self.scroll_to(y=min(mine[-1] - height + 1, mine[0]), animate=False)

    def render_line(self, y: int) -> Strip:
        """One line."""
        width, number = self.size.width, y + self.scroll_offset.y
        if number >= len(self._lines):
            words = f"  {self.hint}" if y == 0 and not self._rows else ""
            return Strip([Segment(words, self.rich_style)]).adjust_cell_length(width, self.rich_style)
        row, kind, text = self._lines[number]
        style = self.rich_style
        if kind != "plain":
            style = self.get_component_rich_style(f"history--{kind}")
        if row == self._cursor and self.has_focus:
            style = self.get_component_rich_style("history--cursor")
        elif row == self._cursor:
            style += Style(underline=kind != "remark")
        return Strip([Segment(text, style)]).adjust_cell_length(width, style)


def figures(row: Row) -> tuple[str, str]:
    """Compression and accuracy after a row, or ""; of an accuracy that is not of validation, the split with it."""
    compression = "" if row.compression is None else times(row.compression)
    if row.accuracy is None:
        return compression, ""
    split, top1 = row.accuracy
    return compression, f"{'' if row.is_point and split == 'validation' else f'{split} '}{rate(top1)} %"


def _laid_out(rows: Sequence[Row], marks: frozenset[int], width: int) -> list[Line]:
    digits = max(3, len(str(max((row.number for row in rows), default=0))))
    return [line for place, row in enumerate(rows) for line in _wrapped(place, row, row.point in marks, digits, width)]


def _wrapped(place: int, row: Row, marked: bool, digits: int, width: int) -> list[Line]:
    kind = "quiet" if row.quiet else "now" if row.standing == "now" and row.is_point else "plain"
    indent = LEAD + digits + 1
    most = max(width - indent, 0) // DEEPEST
    lines, below = _shortened(row.lines, most), _shortened(row.below, most)
    room = max(width - indent - len(lines), 8)
    compression, accuracy = figures(row)
    right = "  ".join(filter(None, (compression, accuracy.rjust(6) if accuracy else "")))
    if room - len(right) - 2 < FEWEST:
        right = accuracy
    first, second = _folded((f"«{row.name}» " if row.name else "") + row.words, room - len(right) - 2, room)
    lead = f"{row.sign}{MARK if marked and row.is_point else ' '}{row.number:>{digits}} {lines}{first}"
    found = [(place, kind, left(lead, width - len(right)) + right)]
    found += [(place, kind, " " * indent + below + second)] if second else []
    for remark in row.remarks:
        found += [
            (place, "remark", " " * indent + below + ("  " if n else "· ") + text)
            for n, text in enumerate(_folded(remark, room - 2, room - 2))
            if text
        ]
    return found


def _shortened(lines: str, most: int) -> str:
    return lines if len(lines) <= most else f"…{lines[len(lines) - most + 1 :]}" if most else ""


def _whole(words: str) -> str:
    """Words in which a number and its percent sign stay together."""
    return " ".join(printable(words).split()).replace(" %", f"{UNBROKEN}%")


@lru_cache(maxsize=4096)
def _folded(words: str, first: int, second: int) -> tuple[str, str]:
    """Words in two lines of these widths; what does not fit ends in a sign."""
    words = _whole(words)
    one = (wrapped(words, max(first, 8)) or [""])[0]
    rest = wrapped(words[len(one) :].strip(" "), max(second, 8), max_lines=1, placeholder="…") or [""]
    return one.replace(UNBROKEN, " "), rest[0].replace(UNBROKEN, " ")
