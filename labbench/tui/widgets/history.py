"""The history pane: what was done, in words; what is in effect, what was taken back, and the notes."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from labbench.session.operations import Evaluate, Note, Standing, Walk
from labbench.session.session import Session, Step
from labbench.tui.actions import list_bindings
from labbench.tui.words import rate

NOW, UNDONE, LEFT, NOTE, RUNNING = "▸", "↶", "✗", "✎", "…"
INDENT = 6
SHORT = {"validation": "val", "test": "test"}


@dataclass(frozen=True)
class Entry:
    """One operation of the history."""

    sign: str
    number: int
    words: str
    figure: str = ""
    """Accuracy after it, at the right."""
    remarks: tuple[str, ...] = ()
    full: str = ""
    """A note's whole text."""

    @property
    def quiet(self) -> bool:
        """Whether it is not in effect."""
        return self.sign in (UNDONE, LEFT)


def entries(session: Session) -> list[Entry]:
    """The history of a session, the running operation last."""
    done = {step.number for step in session.done}
    undone = {step.number for step in session.undone}
    now = session.done[-1].number if session.done else 0
    found = [_entry(step, _sign(step, done, undone, now)) for step in session.steps]
    if session.running:
        found.append(Entry(RUNNING, len(session.steps) + 1, session.running.describe()))
    return found


def _sign(step: Step, done: set[int], undone: set[int], now: int) -> str:
    if isinstance(step.operation, Note):
        return NOTE
    if isinstance(step.operation, Standing | Walk):
        return " "
    if step.number == now:
        return NOW
    return " " if step.number in done else UNDONE if step.number in undone else LEFT


def _entry(step: Step, sign: str) -> Entry:
    measured = step.snapshot.accuracy if step.snapshot else {}
    order = ("test", "validation") if isinstance(step.operation, Evaluate) else ("validation", "test")
    split = next((split for split in order if split in measured), None)
    words = step.operation.describe()
    full = ""
    if isinstance(step.operation, Note):
        words, split, full = words.removeprefix("note: "), None, step.operation.text
    figure = f"{SHORT[split]} {rate(measured[split].top1)} %" if split else ""
    return Entry(sign, step.number, words, figure, step.event.remarks, full)


class History(ScrollView, can_focus=True, inherit_bindings=False):
    """The operations, one or more lines each, with a cursor; follows the end unless the cursor was moved away."""

    BINDINGS: ClassVar[list[BindingType]] = [*list_bindings()]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"history--quiet", "history--now", "history--cursor", "history--remark"}

    class Asked(Message):
        """An entry was clicked twice: it shall be read."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries: list[Entry] = []
        self._cursor = 0
        self._lines: list[tuple[int, str, str]] = []
        """(entry, kind, text) of every line."""

    def show(self, found: Sequence[Entry]) -> None:
        """Show these."""
        if list(found) == self._entries:
            return
        follow = self._cursor >= len(self._entries) - 1
        self._entries = list(found)
        self._cursor = len(found) - 1 if follow else min(self._cursor, len(found) - 1)
        self._cursor = max(self._cursor, 0)
        self._lay_out()

    @property
    def current(self) -> Entry | None:
        """The entry under the cursor."""
        return self._entries[self._cursor] if self._entries else None

    def action_cursor(self, by: str, extend: bool = False) -> None:
        """Move the cursor by one of the words of `MOVES`; there is nothing to extend here."""
        page = max(self.size.height // 2, 1)
        last = len(self._entries) - 1
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page, "top": -last - 1, "bottom": last + 1}
        self._cursor = max(min(self._cursor + steps[by], last), 0)
        self._show_cursor()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one reads."""
        offset = event.get_content_offset(self)
        line = offset.y + self.scroll_offset.y if offset else len(self._lines)
        if line < len(self._lines):
            self._cursor = self._lines[line][0]
            self.refresh()
            if event.chain == 2:
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
        self._lines = [line for number, entry in enumerate(self._entries) for line in _wrapped(number, entry, width)]
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
            words = "  nothing yet: o opens a model" if y == 0 and not self._entries else ""
            return Strip([Segment(words, self.rich_style)]).adjust_cell_length(width, self.rich_style)
        entry, kind, text = self._lines[number]
        style = self.rich_style
        if kind != "plain":
            style = self.get_component_rich_style(f"history--{kind}")
        if entry == self._cursor and self.has_focus:
            style = self.get_component_rich_style("history--cursor")
        elif entry == self._cursor:
            style += Style(underline=kind != "remark")
        return Strip([Segment(text, style)]).adjust_cell_length(width, style)


def _wrapped(number: int, entry: Entry, width: int) -> list[tuple[int, str, str]]:
    kind = "quiet" if entry.quiet else "now" if entry.sign == NOW else "plain"
    room = max(width - INDENT, 8)
    figure = f"  {entry.figure}" if entry.figure else ""
    words = textwrap.wrap(entry.words, max(room - len(figure), 8), max_lines=2, placeholder="…") or [""]
    first = f"{entry.sign} {entry.number:>3} {words[0]}"
    lines = [(number, kind, first.ljust(width - len(figure)) + figure)]
    lines += [(number, kind, " " * INDENT + line) for line in words[1:]]
    for remark in entry.remarks:
        wrapped = textwrap.wrap(remark, max(room - 2, 8), max_lines=2, placeholder="…")
        lines += [
            (number, "remark", " " * INDENT + ("· " if n == 0 else "  ") + text) for n, text in enumerate(wrapped)
        ]
    return lines
