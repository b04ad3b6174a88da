"""The layer table, drawn line by line: a `DataTable` costs 24–28 ms for one changed cell, this about one. So it has its
own cursor, marks, order and mouse."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import ClassVar

import msgspec
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from labbench.session.events import Sparsity
from labbench.session.snapshot import LayerRow
from labbench.tui.actions import list_bindings
from labbench.tui.widgets.columns import NAME, Changes, Placed, place

ALL = ("*",)
MARK = "●"
MARK_WIDTH = 2
HEAD = 1  # lines above the rows


def matches(name: str, pattern: str) -> bool:
    """Whether a name holds the text, or fits it as a glob."""
    name, pattern = name.lower(), pattern.lower()
    return pattern in name or fnmatchcase(name, pattern)


class LayerTable(ScrollView, can_focus=True, inherit_bindings=False):
    """One row a layer."""

    BINDINGS: ClassVar[list[BindingType]] = [*list_bindings()]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "layer-table--head",
        "layer-table--row",
        "layer-table--other",
        "layer-table--marked",
        "layer-table--cursor",
        "layer-table--changed",
    }

    class Changed(Message):
        """The cursor, the marks or the order changed."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.marks: frozenset[str] = frozenset()
        self.pattern = ""
        """What the filter says."""
        self.others = False
        """Whether rows that cannot be pruned are shown."""
        self.sort: str | None = None
        """Name of the column that sorts, or None for network order."""
        self.backwards = False
        self._empty = ""
        self._all: tuple[LayerRow, ...] = ()
        self._rows: list[LayerRow] = []
        self._live: Sparsity | None = None
        self._fresh: Changes = frozenset()
        self._cursor = 0
        self._anchor: tuple[int, frozenset[str]] | None = None
        self._placed: tuple[Placed, ...] = ()
        self._strips: dict[int, Strip] = {}

    # what is shown

    def show(self, rows: Sequence[LayerRow], live: Sparsity | None, fresh: Changes, empty: str) -> None:
        """Draw these layers; `live` replaces their counts during a run, `fresh` are the cells to stress.

        `empty` is what to say where there is no row.
        """
        if empty != self._empty:
            self._empty = empty
            self.refresh()
        told, self._live = self._live, live
        if tuple(rows) != self._all or fresh != self._fresh:
            self._all, self._fresh = tuple(rows), fresh
            self.marks &= {row.name for row in rows}
            self._arrange()
        elif live is not told:
            self._show_figures()

    @property
    def rows(self) -> Sequence[LayerRow]:
        """The rows shown, in their order; figures as the last operation left them."""
        return self._rows

    @property
    def current(self) -> LayerRow | None:
        """The row under the cursor, with its figures of this moment."""
        return self._now(self._rows[self._cursor]) if self._rows else None

    def _now(self, row: LayerRow) -> LayerRow:
        if self._live is None:
            return row
        return msgspec.structs.replace(
            row,
            nonzero=self._live.nonzero.get(row.name, row.nonzero),
            filters_unique=self._live.unique.get(row.name, row.filters_unique),
        )

    def _show_figures(self) -> None:
        """Draw the visible rows whose figures are others now; the others are drawn when they come into view."""
        if any(placed.column.live for placed in self._placed if placed.column.name == self.sort):
            self._arrange()
            return
        before, self._strips = self._strips, {}
        top = self.scroll_offset.y
        self._refresh_lines(
            [y for y in range(HEAD, self.size.height) if self.render_line(y) != before.get(y - HEAD + top)]
        )

    def _redraw_rows(self, numbers: set[int]) -> None:
        for number in numbers:
            self._strips.pop(number, None)
        top = self.scroll_offset.y
        self._refresh_lines([y for y in range(HEAD, self.size.height) if y - HEAD + top in numbers])
        self.post_message(self.Changed())

    def _refresh_lines(self, lines: Sequence[int]) -> None:
        if lines:  # in one region: Textual takes longer over many
            self.refresh(Region(0, lines[0], self.size.width, lines[-1] - lines[0] + 1))

    @property
    def chosen(self) -> tuple[str, ...]:
        """What operations mean: the marked layers in network order, or all layers when none is marked."""
        return tuple(row.name for row in self._all if row.name in self.marks) or ALL

    def filter(self, pattern: str) -> None:
        """Show only the layers that match."""
        self.pattern = pattern
        self._arrange()

    def toggle_others(self) -> None:
        """Show or hide what cannot be pruned."""
        self.others = not self.others
        self._arrange()

    def sort_by(self, step: int) -> None:
        """Sort by the column so many places to the right; network order stands left of the first."""
        names: list[str | None] = [None, *(placed.column.name for placed in self._placed if placed.column.title)]
        place_now = names.index(self.sort) if self.sort in names else 0
        self.sort, self.backwards = names[(place_now + step) % len(names)], False
        self._arrange()

    def reverse(self) -> None:
        """Turn the order round."""
        self.backwards = not self.backwards
        self._arrange()

    # marks

    def mark(self) -> None:
        """Mark or unmark the row under the cursor."""
        if self.current and self.current.prunable:
            self._set_marks(self.marks ^ {self.current.name})

    def mark_all(self) -> None:
        """Mark all rows shown, or none if all are marked."""
        shown = {row.name for row in self._rows if row.prunable}
        self._set_marks(self.marks - shown if shown <= self.marks else self.marks | shown)

    def unmark(self) -> None:
        """Mark none."""
        self._set_marks(frozenset())

    def mark_matching(self, pattern: str) -> int:
        """Mark what matches; returns how many layers that are."""
        found = {row.name for row in self._all if row.prunable and matches(row.name, pattern)}
        self._set_marks(self.marks | found)
        return len(found)

    def _set_marks(self, marks: frozenset[str]) -> None:
        turned, self.marks = self.marks ^ marks, marks
        self._redraw_rows({number for number, row in enumerate(self._rows) if row.name in turned})

    # moving

    def action_cursor(self, by: str, extend: bool = False) -> None:
        """Move the cursor: "up", "down", "page_up", "page_down", "top" or "bottom"; extending marks what it passes."""
        page = max(self.size.height - HEAD - 1, 1)
        last = len(self._rows) - 1
        to = {
            "up": self._cursor - 1,
            "down": self._cursor + 1,
            "page_up": self._cursor - page,
            "page_down": self._cursor + page,
            "top": 0,
            "bottom": last,
        }[by]
        self._go(min(max(to, 0), max(last, 0)), extend)

    def _go(self, to: int, extend: bool = False) -> None:
        if not self._rows:
            return
        if extend:
            start, marks = self._anchor or (self._cursor, self.marks)
            self._anchor = (start, marks)
            passed = self._rows[min(start, to) : max(start, to) + 1]
            self._set_marks(marks | {row.name for row in passed if row.prunable})
        else:
            self._anchor = None
        left, self._cursor = self._cursor, to
        self._show_cursor()
        self._redraw_rows({left, to})

    def _show_cursor(self) -> None:
        height = max(self.size.height - HEAD, 1)
        top = round(self.scroll_target_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False)

    # mouse

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; with ctrl or on the mark it marks; with shift it extends; the head sorts."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y < HEAD:
            self._click_head(offset.x)
            return
        row = offset.y - HEAD + self.scroll_offset.y
        if row < len(self._rows):
            self._go(row, extend=event.shift)
            if event.ctrl or (offset.x < MARK_WIDTH and not event.shift):
                self.mark()

    def _click_head(self, x: int) -> None:
        for placed in self._placed:
            if placed.x <= x < placed.x + placed.width and placed.column.title:
                if self.sort != placed.column.name:
                    self.sort, self.backwards = placed.column.name, False
                elif not self.backwards:
                    self.backwards = True
                else:
                    self.sort, self.backwards = None, False
                self._arrange()

    # drawing

    def on_mount(self) -> None:
        """A scrollbar takes room."""
        self.watch(self, "show_vertical_scrollbar", self._make_room, init=False)

    def _make_room(self) -> None:
        self.call_after_refresh(self._arrange)

    def on_resize(self) -> None:
        """Columns depend on the width."""
        self._arrange()
        self._show_cursor()

    def notify_style_update(self) -> None:
        """Another theme: every line is drawn again."""
        super().notify_style_update()
        self._strips.clear()

    def on_focus(self) -> None:
        """The cursor shows whether keys go here."""
        self._strips.clear()

    def on_blur(self) -> None:
        """The cursor shows whether keys go here."""
        self._strips.clear()

    def _arrange(self) -> None:
        kept = self.current.name if self.current else ""
        rows = [
            row
            for row in self._all
            if (row.prunable or self.others) and (not self.pattern or matches(row.name, self.pattern))
        ]
        width = self.scrollable_content_region.width
        self._placed = place(rows, width, MARK_WIDTH)
        sorting = next((placed.column for placed in self._placed if placed.column.name == self.sort), None)
        if sorting is None:
            self.sort = None
        else:
            rows.sort(key=lambda row: sorting.order(self._now(row)))
        if self.backwards:
            rows.reverse()
        self._rows = rows
        self._cursor = next(
            (n for n, row in enumerate(rows) if row.name == kept), min(self._cursor, max(len(rows) - 1, 0))
        )
        self._anchor = None
        self.virtual_size = Size(width, len(rows) + HEAD)
        self._redraw()

    def _redraw(self) -> None:
        self._strips.clear()
        self.refresh()
        self.post_message(self.Changed())

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the head stands still, the rows scroll under it."""
        width = self.size.width
        number = -1 if y < HEAD else y - HEAD + self.scroll_offset.y
        if number >= len(self._rows):
            if not self._rows and y == HEAD + 1:
                words = f"no layer fits {self.pattern}: Escape in the filter shows all" if self._all else self._empty
                return Strip([Segment(f"  {words}", self.rich_style)]).adjust_cell_length(width, self.rich_style)
            return Strip.blank(width, self.rich_style)
        if number not in self._strips:
            segments = self._head() if number < 0 else self._row(number)
            self._strips[number] = Strip(segments).adjust_cell_length(width, segments[0].style)
        return self._strips[number]

    def _head(self) -> list[Segment]:
        style = self.get_component_rich_style("layer-table--head")
        segments = [Segment(" " * MARK_WIDTH, style)]
        for placed in self._placed:
            arrow = ("▼" if self.backwards else "▲") if placed.column.name == self.sort else ""
            segments.append(Segment(placed.text(placed.column.title + arrow) + "  ", style))
        return segments

    def _row(self, number: int) -> list[Segment]:
        row = self._now(self._rows[number])
        marked = row.name in self.marks
        kind = "marked" if marked else "row" if row.prunable else "other"
        style = self.get_component_rich_style(f"layer-table--{kind}")
        if number == self._cursor:
            cursor = self.get_component_rich_style("layer-table--cursor")
            style = cursor if self.has_focus else style + Style(underline=True)
        segments, text = [], (MARK if marked else " ").ljust(MARK_WIDTH)
        for placed in self._placed:
            cell = placed.text(placed.column.cell(row))
            if placed.column is not NAME and (row.name, placed.column.name) in self._fresh:
                stress = self.get_component_rich_style("layer-table--changed", partial=True)
                segments += [Segment(text, style), Segment(cell, style + stress)]
                text = "  "
            else:
                text += f"{cell}  "  # the fewer segments, the less Textual has to do
        return [*segments, Segment(text, style)]
