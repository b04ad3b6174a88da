"""One curve of several models over each other, each with a sign of its own, so that no color is needed."""

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from labbench.session.comparison import Subject, heads, parting
from labbench.tui.widgets.plot import Series, plot
from labbench.tui.words import figure

SIGNS = ("○", "+", "×", "△")
KINDS = ("accuracy", "loss")


class Overlay(Widget):
    """The curves on validation that led to each model. Those of a common past lie on each other."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *("overlay--first", "overlay--second", "overlay--third", "overlay--fourth"),
        *("overlay--border", "overlay--quiet"),
    }

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.kind = KINDS[0]
        self._subjects: Sequence[Subject] = ()
        self._later = False

    def show(self, subjects: Sequence[Subject], kind: str, later: bool) -> None:
        """Draw these; with `later`, only from where they part."""
        self._subjects, self.kind, self._later = subjects, kind, later
        self.refresh()

    def render(self) -> Text:
        """The legend over the picture."""
        width, height = self.content_size
        left = parting(self._subjects, self._metric) if self._later else 0.0
        series = self._series(left)
        if not any(one.points for one in series):
            return Text(f"no {self.kind} on validation was recorded on the way to these models", overflow="ellipsis")
        unit = " %" if self.kind == "accuracy" else ""
        legend = Text(no_wrap=True, overflow="ellipsis")
        for one in series:
            legend.append(f"⠒{one.marker} {one.name}", one.style)
            legend.append(f" {figure(one.last)}{unit}  " if one.points else " not trained  ")
        words = f"validation {self.kind} · epochs →"
        if legend.cell_len + len(words) <= width:
            legend.append(words, self.get_component_rich_style("overlay--quiet"))  # muted against the background
        drawn = sorted((one for one in series if one.points), key=lambda one: -one.points[-1][0])  # the shortest on top
        picture = plot(drawn, borders(self._subjects), (width, height - 1), self._style("border"), left=left)
        return legend.append("\n").append_text(picture)

    @property
    def _metric(self) -> str:
        return f"validation/{self.kind}"

    def _series(self, left: float) -> list[Series]:
        factor = 100.0 if self.kind == "accuracy" else 1.0
        styles = [self._style(name) for name in ("first", "second", "third", "fourth")]
        found = zip(self._subjects, heads(self._subjects), SIGNS, styles, strict=False)
        return [
            Series(head, [p for p in one.training.curves.get(self._metric, ()) if p[0] >= left], sign, style, factor)
            for one, head, sign, style in found
        ]

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"overlay--{name}", partial=True)


def borders(subjects: Sequence[Subject]) -> list[float]:
    """Where runs begin and no curve goes on: a line would say that all of them begin one there."""
    trained = [one.training for one in subjects]
    return sorted(
        {
            border
            for one in trained
            for border in one.runs
            if all(border in other.runs or border >= other.epochs for other in trained)
        }
    )
