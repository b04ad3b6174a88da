"""The curves pane: loss, accuracy and sparsity over all finetuning, or the weights of one layer. Draws a few times a
second at most, and only what is seen."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from labbench.session.session import Curve
from labbench.session.snapshot import LayerRow
from labbench.tui.actions import list_bindings
from labbench.tui.widgets.histogram import histogram
from labbench.tui.widgets.outline import Outline
from labbench.tui.widgets.plot import Series, drawable, plot
from labbench.tui.words import figure

KINDS = ("loss", "accuracy", "sparsity", "histogram")
FINE = 30  # epochs from which on their means are the curve; before that, the loss of a few steps
INTERVAL = 0.5  # seconds between two pictures while a run goes on: each takes cores from the training


class Curves(Widget, can_focus=True):
    """One picture. The keys of a list move the table's cursor from here too, for the weights of layer after layer."""

    BINDINGS: ClassVar[list[BindingType]] = [*list_bindings()]

    class Moved(Message):
        """The table's cursor shall move."""

        def __init__(self, by: str, extend: bool) -> None:
            super().__init__()
            self.by = by
            self.extend = extend

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "curves--first",
        "curves--second",
        "curves--third",
        "curves--border",
        "curves--quiet",
    }

    hint: reactive[str] = reactive("")
    """What is said in place of a picture while there is nothing to draw."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.kind = "loss"
        self.log_axis = False
        self._curves: Mapping[str, Curve] = {}
        self._outlines: dict[str, Outline] = {}
        self._runs: Sequence[float] = ()
        self._row: LayerRow | None = None
        self._version: object = None
        self._stale = True

    def action_cursor(self, by: str, extend: bool = False) -> None:
        """Pass it on."""
        self.post_message(self.Moved(by, extend))

    def on_mount(self) -> None:
        """Look a few times a second whether there is something new."""
        self.set_interval(INTERVAL, self._draw)

    def show(
        self, curves: Mapping[str, Curve], runs: Sequence[float], row: LayerRow | None, gone: Curve | None = None
    ) -> None:
        """Take what there is to draw; it is drawn at the next look. `gone` is the sparsity, also between the runs."""
        drawn = {**curves, "sparsity": gone} if gone else curves
        points = {name: len(curve.points) for name, curve in drawn.items()}
        version = (id(curves), points, len(runs), row if self.kind == "histogram" else None)
        self._curves, self._runs, self._row = drawn, runs, row
        if version != self._version:
            self._version, self._stale = version, True

    def choose(self, kind: str) -> None:
        """Show another picture, at once."""
        self.kind = kind
        self.refresh()

    def toggle_log(self) -> None:
        """Logarithmic or linear."""
        self.log_axis = not self.log_axis
        self.refresh()

    def _draw(self) -> None:
        if self._stale and self.is_attached and self.region.area:
            self._stale = False
            self.refresh()

    def render(self) -> Text:
        """The picture."""
        width, height = self.content_size
        if self.kind == "histogram":
            style = self._style("curves--first")
            empty = Text(self.hint or "no layer under the cursor", overflow="ellipsis")
            return histogram(self._row, (width, height), style) if self._row else empty
        series = self._series()
        if not series:
            return Text(self.hint or EMPTY[self.kind], overflow="ellipsis")
        log = self.log_axis and self.kind == "loss"
        picture = plot(series, self._runs, (width, height - 1), self._style("curves--border"), log)
        return self._legend(series, log, width).append("\n").append_text(picture)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=True)

    def _series(self) -> list[Series]:
        factor = 1.0 if self.kind == "loss" else 100.0
        named = {"train": f"train/{self.kind}", "validation": f"validation/{self.kind}", "prunable weights": self.kind}
        if self.kind == "loss" and len(self._points("train/loss")) < FINE:
            named["train"] = "step/loss"
        if self.kind == "loss":
            named["penalty"] = "train/penalty"
        looks = {
            "validation": ("○", self._style("curves--second")),
            "penalty": ("+", self._style("curves--third")),
        }
        first = ("", self._style("curves--first"))
        return [
            Series(name, self._outline(metric), *looks.get(name, first), factor)
            for name, metric in named.items()
            if self._points(metric)
        ]

    def _outline(self, metric: str) -> Sequence[tuple[float, float | None]]:
        points, known = self._points(metric), self._outlines.get(metric)
        if known is None or known.points is not points:
            known = self._outlines[metric] = Outline(points)
        return known.drawn()

    def _points(self, metric: str) -> Sequence[tuple[float, float | None]]:
        return self._curves[metric].points if metric in self._curves else ()

    def _legend(self, series: Sequence[Series], log: bool, width: int) -> Text:
        unit = "" if self.kind == "loss" else " %"
        legend = Text(no_wrap=True, overflow="ellipsis")
        for one in series:
            legend.append(f"⠒{one.marker or '⠒'} {one.name}", one.style)
            legend.append(f" {figure(one.last)}{unit}  ")
        lost = sorted({place for one in series for place in drawable(one, log)[1]})
        if lost:
            places = ", ".join(f"{place:g}" for place in lost[:3])
            words = f"∞ at epoch {places}{' …' if len(lost) > 3 else ''}"
        else:
            words = "log axis" if log else "epochs →"
        if legend.cell_len + len(words) <= width:
            legend.append(words, self.get_component_rich_style("curves--quiet"))  # muted against the background
        return legend


EMPTY = {
    "loss": "no curve yet: t finetunes",
    "accuracy": "no curve yet: t finetunes",
    "sparsity": "no curve yet: p prunes, t finetunes",
}
