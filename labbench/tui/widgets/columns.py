"""The columns of the layer table: what a cell says, how it sorts, and which columns go first where room is short."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from labbench.cells import cells, left, right
from labbench.printable import printable
from labbench.session.measures import Measures
from labbench.session.measures_report import layer_cells
from labbench.session.report import ABSENT
from labbench.session.snapshot import LayerRow, Snapshot
from labbench.tui.words import THIN, count, figure, middle, rate, short

GAP = 2
BAR = 5
LONGEST_NAME = 30
SHORTEST_NAME = 8

FROZEN, MASKED, CUT, CLUSTERED = "❄", "▒", "✂", "≡"
LEGEND = ((FROZEN, "frozen"), (MASKED, "masked"), (CUT, "cut"), (CLUSTERED, "clustered"))


class Column(Struct, frozen=True):
    """One column. `cell` gives its text, `order` what it sorts by."""

    name: str
    title: str
    cell: Callable[[LayerRow], str]
    order: Callable[[LayerRow], float | str]
    left: bool = False
    """Text stands left, numbers right."""
    live: bool = False
    """Whether a run changes it from epoch to epoch."""
    room: Callable[[LayerRow], str] | None = None
    """The widest text that a run can put there, where that may be wider than the cell."""


Changes = frozenset[tuple[str, str]]
"""Cells by layer and column."""


def state(row: LayerRow) -> str:
    """What was done to a layer, in signs that need no color; each has its place."""
    signs = (
        (FROZEN, row.frozen),
        (MASKED, row.masked),
        (CUT, row.channels < row.channels_loaded or row.inputs < row.inputs_loaded),
        (CLUSTERED, row.clusters > 0),
    )
    return "".join(sign if there else " " for sign, there in signs)


def bar(row: LayerRow) -> str:
    """The sparsity as a bar."""
    filled = round(row.sparsity * BAR)
    if 0 < row.sparsity < 1:
        filled = min(max(filled, 1), BAR - 1)
    return "▇" * filled + "▁" * (BAR - filled)


def _of(part: int, whole: int) -> str:
    return f"{part}/{whole}" if whole else THIN


def _kinds(row: LayerRow) -> int:
    return row.filters_unique if row.weights_unique is None else row.clusters


def unique(row: LayerRow) -> str:
    """Distinct filters of all; with clusters of places, values of as many at a place."""
    return _of(_kinds(row), row.channels) + ("" if row.weights_unique is None else " a place")


def _all_unique(row: LayerRow) -> str:
    return max(unique(row), _of(row.channels, row.channels), key=len)


def _prunable(text: Callable[[LayerRow], str]) -> Callable[[LayerRow], str]:
    return lambda row: text(row) if row.prunable else ""


NAME = Column("layer", "layer", lambda row: row.name, lambda row: row.name, left=True)
COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("type", "type", lambda row: row.kind, lambda row: row.kind, left=True),
    Column("shape", "shape", lambda row: "×".join(map(str, row.shape)), lambda row: row.weights, left=True),
    Column("params", "params", lambda row: count(row.parameters), lambda row: row.parameters),
    Column("zero", "zero %", _prunable(lambda row: rate(row.sparsity)), lambda row: row.sparsity, live=True),
    Column("state", "state", state, state, left=True),
    Column("bar", "", _prunable(bar), lambda row: row.sparsity, left=True, live=True),
    Column("unique", "unique", _prunable(unique), _kinds, live=True, room=_prunable(_all_unique)),
    Column("channels", "ch", lambda row: _of(row.channels, row.channels_loaded), lambda row: row.channels),
    Column("empty", "empty", _prunable(lambda row: str(row.filters_zero)), lambda row: row.filters_zero),
    Column("macs", "MACs", _prunable(lambda row: short(row.macs)), lambda row: row.macs),
    Column("norm", "norm", lambda row: figure(row.norm), lambda row: row.norm or 0.0),
    Column("last", "last change", lambda row: row.last, lambda row: row.last, left=True),
)
DROPPED: tuple[str, ...] = ("norm", "macs", "empty", "bar", "shape", "last", "type", "unique", "channels", "params")
"""Where room is short these columns go, in this order; the layer, its zeros and its state always stay."""

STRESSED = frozenset({"params", "shape", "zero", "state", "unique", "channels", "empty", "macs"})
"""Columns in which a change is news; norms change with every step of training."""


class Placed(Struct, frozen=True):
    """A column in its place."""

    column: Column
    x: int
    width: int

    def text(self, cell: str) -> str:
        """A cell, filled up to the column's width. Only a name is ever shortened."""
        cell = middle(cell, self.width) if self.column is NAME else printable(cell)
        return left(cell, self.width) if self.column.left else right(cell, self.width)


def place(rows: Sequence[LayerRow], width: int, start: int) -> tuple[Placed, ...]:
    """The columns that fit `width` cells from `start` on, wide enough for every cell of `rows`."""
    widths = {
        column.name: max(
            [len(column.title) + 1, *(cells(printable((column.room or column.cell)(row))) for row in rows)]
        )
        if column.title
        else BAR
        for column in COLUMNS
    }
    widths[NAME.name] = min(widths[NAME.name], LONGEST_NAME)
    shown = [column for column in COLUMNS if column.name != "last" or any(row.last for row in rows)]
    for name in DROPPED:
        if _sum(shown, widths) <= width - start:
            break
        shown = [column for column in shown if column.name != name]
    over = _sum(shown, widths) - (width - start)
    if over > 0:
        widths[NAME.name] = max(widths[NAME.name] - over, SHORTEST_NAME)
    placed, x = [], start
    for column in shown:
        placed.append(Placed(column, x, widths[column.name]))
        x += widths[column.name] + GAP
    return tuple(placed)


def changed(before: Snapshot | None, after: Snapshot | None) -> Changes:
    """The cells that another snapshot changed, of columns that say what was done to a layer."""
    if before is None or after is None:
        return frozenset()
    old = {row.name: row for row in before.rows}
    return frozenset(
        (row.name, column.name)
        for row in after.rows
        for column in COLUMNS
        if column.name in STRESSED and row.name in old and column.cell(row) != column.cell(old[row.name])
    )


def describe(row: LayerRow) -> str:
    """Every figure of a layer, in words, for where the columns have no room."""
    facts = [
        ("type", f"{row.kind}, weight {'×'.join(map(str, row.shape))}"),
        ("parameters", count(row.parameters)),
        (
            "weights",
            f"{count(row.weights_loaded)} when opened, {count(row.weights)} now, {count(row.nonzero)} not zero",
        ),
    ]
    if row.prunable:
        facts += [
            ("sparsity", f"{rate(row.sparsity)} % of the weights that were opened"),
            (
                "filters",
                f"{row.channels} of {row.channels_loaded}; {row.filters_unique} distinct, {row.filters_zero} all zero",
            ),
            *(
                [("places", f"at most {row.clusters} values at each: {count(row.weights_unique)} distinct weights")]
                if row.weights_unique is not None
                else []
            ),
            ("inputs", f"{row.inputs} of {row.inputs_loaded}"),
            ("MACs", f"{count(row.macs)} for one image"),
        ]
    facts.append(("L2 norm", figure(row.norm)))
    done = [word for sign, word in LEGEND if sign in state(row)]
    facts += [("state", ", ".join(done) or "as opened"), ("last change", row.last or "none")]
    return "\n".join(f"{name:<13}{words}" for name, words in facts)


def measured(row: LayerRow, found: Measures | None) -> list[str]:
    """The measures of a conv or linear layer that no column has room for."""
    cells = [cell for cell in layer_cells(row, found) if cell[0] != "zero"]
    lines = [f"{head:<13}{figure} {words}" for head, figure, words in cells if figure != ABSENT]
    return ["", *lines, *([] if found else [f"{'closely':<13}not looked at yet: M does"])]


def _sum(shown: Sequence[Column], widths: dict[str, int]) -> int:
    return sum(widths[column.name] for column in shown) + GAP * (len(shown) - 1)
