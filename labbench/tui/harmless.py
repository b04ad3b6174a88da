"""The last place that text passes on its way to the terminal: whatever widget it is of, nothing in it acts there."""

from rich.cells import set_cell_size
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from labbench import cells, printable


class Harmless(LineFilter):
    """Leaves out of every line of the screen what a terminal could act on; everything else stays in its cell.

    Whoever lays text out makes it `printable` before, which also shows that something was there.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, or others of the same widths."""
        if all(segment.text.isprintable() for segment in segments):  # nearly always
            return segments
        return [Segment(_harmless(segment.text), segment.style) for segment in segments]


def _harmless(text: str) -> str:
    return set_cell_size("".join(filter(printable.harmless, text)), cells.cells(text))
