"""The weights of one layer as upright bars."""

from rich.style import Style
from rich.text import Text

from labbench.cells import head
from labbench.printable import printable
from labbench.session.snapshot import LayerRow
from labbench.tui.words import count, figure, rate

EIGHTHS = " ▁▂▃▄▅▆▇█"


def histogram(row: LayerRow, size: tuple[int, int], style: Style) -> Text:
    """The non-zero weights of a layer in `size` (columns, rows), its zeros in words above."""
    width, height = size
    zeros = row.weights - row.nonzero
    heading = f"{printable(row.name)}: {count(row.nonzero)} weights, {count(zeros)} zeros ({rate(zeros / row.weights if row.weights else 0)} %)"  # noqa: E501
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(head(heading, width) + "\n")
    if not any(row.histogram) or height < 4:
        return text.append("no weight is left" if not row.nonzero else "not measured")
    rows = height - 3
    counts = row.histogram if width >= len(row.histogram) else _joined(row.histogram, width)
    bins = [counts[column * len(counts) // width] for column in range(width)] if width >= len(counts) else list(counts)
    top = max(counts)
    for line in range(rows, 0, -1):
        for value in bins:
            eighths = round(8 * rows * value / top) - 8 * (line - 1)
            if value and line == 1:
                eighths = max(eighths, 1)  # a few weights are not none
            text.append(EIGHTHS[min(max(eighths, 0), 8)], style)
        text.append("\n")
    across = len(bins)
    low, high = f"-{figure(row.limit)}", figure(row.limit)
    text.append(low + "0".center(across)[len(low) : across - len(high)] + high)
    text.append(f"\nhighest bar {count(top)}   L2 norm {figure(row.norm)}"[: width + 1])
    return text


def _joined(counts: tuple[int, ...], width: int) -> tuple[int, ...]:
    share = -(-len(counts) // max(width, 1))
    return tuple(sum(counts[start : start + share]) for start in range(0, len(counts), share))
