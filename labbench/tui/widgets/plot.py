"""Curves as text: plotext draws, this keeps it from what it cannot draw and gives its colors to the theme."""

import bisect
import math
from collections.abc import Sequence
from itertools import groupby
from types import ModuleType

from msgspec import Struct
from rich.style import Style
from rich.text import Text

Point = tuple[float, float]
TAGS = ("red", "green", "yellow", "blue")  # plotext's colors 1 to 4 stand for the series and become the theme's
BORDER_TAG, BORDER_NUMBER = "magenta", 5
SIGNS = 12  # signs along a curve, where there are more points than that: enough to tell it from another


class Series(Struct, frozen=True):
    """One curve: a line, and, so that no color is needed to tell it, a sign along it."""

    name: str
    points: Sequence[tuple[float, float | None]]
    marker: str
    """"" for a bare line."""
    style: Style
    factor: float = 1.0

    @property
    def last(self) -> float | None:
        """The latest value."""
        value = self.points[-1][1] if self.points else None
        return None if value is None else value * self.factor


def drawable(series: Series, log: bool) -> tuple[list[Point], list[float]]:
    """The points that can be drawn, and where on the axis the others would be."""
    points, lost = [], []
    for x, y in series.points:
        if y is None or not math.isfinite(y) or not math.isfinite(x) or (log and y <= 0):
            lost.append(x)
        else:
            points.append((x, y * series.factor))
    return points, lost


def thin(points: list[Point], columns: int) -> list[Point]:
    """At most two points a column, its lowest and its highest, so that no spike is lost."""
    if len(points) <= 2 * columns or not columns:
        return points
    low = points[0][0]
    width = (points[-1][0] - low) / columns or 1.0
    buckets: dict[int, list[Point]] = {}
    for point in points:
        buckets.setdefault(int((point[0] - low) / width), []).append(point)
    kept = []
    for bucket in buckets.values():
        ends = {min(bucket, key=lambda point: point[1]), max(bucket, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def runs(points: Sequence[Point], borders: Sequence[float]) -> list[tuple[list[float], list[float]]]:
    """The points of each run, as x and y: no line leads from the end of one to the beginning of the next."""
    parts = (list(part) for _, part in groupby(points, key=lambda point: bisect.bisect_left(borders, point[0])))
    return [([x for x, _ in part], [y for _, y in part]) for part in parts]


def steps(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers that divide a range into at most `most` parts."""
    span = high - low
    if span <= 0 or most < 1:
        return [low]
    rough = span / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    if whole:
        step = max(step, 1.0)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def plot(
    series: Sequence[Series],
    borders: Sequence[float],
    size: tuple[int, int],
    border: Style,
    log: bool = False,
    left: float = 0.0,
) -> Text:
    """Draw curves over epochs from `left` on into `size` (columns, rows); `borders` are where runs begin."""
    import plotext  # when there is something to draw: the first picture of the bench has no curve

    width, height = size
    drawn = [thin(drawable(one, log)[0], 2 * width) for one in series]
    values = [y for points in drawn for _, y in points]
    if not values or width < 16 or height < 4:
        return Text("")
    right = max([x for points in drawn for x, _ in points] + [left + 1.0])
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1.0) * 0.05, high + (abs(high) or 1.0) * 0.05
    _prepare(plotext, width, height, (left, right), (low, high), log)
    for place in borders:
        if left < place < right:
            plotext.vline(place, BORDER_TAG)
    for one, points, tag in zip(series, drawn, TAGS, strict=False):
        for x, y in runs(points, borders):
            if len(x) > 1:
                plotext.plot(x, y, marker="braille", color=tag)
            elif not one.marker:
                plotext.scatter(x, y, marker="•", color=tag)
        if one.marker:
            signs = points[:: -(-len(points) // SIGNS) or 1]
            plotext.scatter([x for x, _ in signs], [y for _, y in signs], marker=one.marker, color=tag)
    return _themed(plotext.build(), [one.style for one in series], border)


def _prepare(
    plotext: ModuleType, width: int, height: int, across: tuple[float, float], up: tuple[float, float], log: bool
) -> None:
    (left, right), (low, high) = across, up
    plotext.clear_figure()
    plotext.limitsize(False, False)
    plotext.plotsize(width, height)
    plotext.theme("clear")
    plotext.xaxes(True, False)
    plotext.yaxes(True, False)
    plotext.xlim(left, right)
    ticks = steps(left, right, max(width // 9, 1), whole=right - left >= 2)
    plotext.xticks(ticks, [f"{tick:g}" for tick in ticks])
    if log:
        plotext.yscale("log")
        marks = _powers(low, high)
    else:
        marks = steps(low, high, max(height // 3, 2))
        plotext.ylim(low, high)
    plotext.yticks(marks, [f"{mark:.6g}" for mark in marks])


def _powers(low: float, high: float) -> list[float]:
    marks = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factor in (1, 2, 5)
    ]
    inside = [mark for mark in marks if low <= mark <= high]
    return inside if len(inside) > 1 else [low, high]


def _themed(picture: str, styles: Sequence[Style], border: Style) -> Text:
    text = Text.from_ansi(picture.rstrip("\n"))
    spans = []
    for span in text.spans:
        color = span.style.color if isinstance(span.style, Style) else None
        number = color.number if color else None
        style = border if number == BORDER_NUMBER else styles[((number or 1) - 1) % len(styles)]
        if number is not None:
            spans.append(span._replace(style=style))
    return Text(text.plain, spans=spans, no_wrap=True)
