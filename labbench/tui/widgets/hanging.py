"""Lines of words, each with a label perhaps; what does not fit a line goes on under the words, not under the label."""

import re
from collections.abc import Iterable

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from labbench.cells import cells

LABEL = re.compile(r"\s*(?:· )?(?:\S+(?: \S+)*\s{2,})?")
"""Blanks, a label and two blanks at least, or a remark's sign."""
FEWEST = 24  # cells of words; with less the label has a line of its own


class Hanging(Widget):
    """As high as its lines need at the width there is."""

    DEFAULT_CSS = "Hanging { height: auto; width: 100%; }"

    def __init__(self, lines: Iterable[Content] = (), classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self._lines = _split(lines)
        self._laid_out: tuple[int, list[Content]] = (-1, [])

    def update(self, lines: Iterable[Content]) -> None:
        """Show others."""
        self._lines, self._laid_out = _split(lines), (-1, [])
        self.refresh(layout=True)

    def _for(self, width: int) -> list[Content]:
        if self._laid_out[0] != width:
            self._laid_out = width, [part for line in self._lines for part in hanging(line, width)]
        return self._laid_out[1]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row a line."""
        return len(self._for(width))

    def render(self) -> Content:
        """All lines."""
        return Content("\n").join(self._for(self.content_size.width))


def _split(lines: Iterable[Content]) -> list[Content]:
    return [part for line in lines for part in line.split("\n", allow_blank=True)]


def hanging(line: Content, width: int) -> list[Content]:
    """A line in as many as it needs."""
    found = LABEL.match(line.plain)
    start = found.end() if found else 0
    indent = cells(line.plain[:start])
    if line.cell_length <= width or width - indent < FEWEST:
        return line.wrap(max(width, 1))
    first, *more = line[start:].wrap(width - indent)
    return [line[:start] + first, *(Content(" " * indent) + part for part in more)]
