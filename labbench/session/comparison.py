"""Models side by side: points of one session or of several, in tables of what differs, and the curves that led to each.
Every change is against the first of them."""

import itertools
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from labbench.cells import cells, cut, left, right
from labbench.printable import printable
from labbench.session.figures import bits, class_figures, distinct_weights, frozen_share, macs_nonzero
from labbench.session.measures import Measures
from labbench.session.report import ABSENT, share, times
from labbench.session.session import Session
from labbench.session.snapshot import Accuracy, LayerRow, Snapshot
from labbench.session.training import Points, Training, training

UNEQUAL = "≠"
FLOAT_BYTES = 4
SPLITS = ("validation", "test")
LONGEST_HEAD = 14


class Subject(Struct, frozen=True):
    """One model of a comparison."""

    source: str
    """Name of its session's file, or ""."""
    number: int
    """Of the operation that made it."""
    name: str
    """What its point is called, or ""."""
    words: str
    """What made it."""
    snapshot: Snapshot
    """With all that was measured of it."""
    measures: Measures | None
    training: Training


class Cell(Struct, frozen=True):
    """One figure of one model."""

    text: str
    change: str = ""
    """Against the first model, with its sign."""
    differs: bool = False
    """Whether it is not that of the first model."""


class Line(Struct, frozen=True):
    """One figure of all models."""

    words: tuple[str, ...]
    """What it is: the figure, or the layer and the figure."""
    cells: tuple[Cell, ...]

    @property
    def differs(self) -> bool:
        """Whether the models differ in it."""
        return any(cell.differs for cell in self.cells)


# what is compared


def subject(session: Session, number: int, source: str = "") -> Subject:
    """The model at a point. Raises `ValueError`, for the user, where nothing is known of it."""
    step = session.tree.items[number]
    snapshot = session.snapshots.get(number) or step.snapshot
    if snapshot is None:
        raise ValueError(f"step {number} has no figures to compare")
    measured: dict[str, Accuracy] = {}
    measures = None
    for one in session.steps:
        then = one.event.snapshot or one.snapshot
        if then and then.fingerprint == snapshot.fingerprint and (then.fingerprint or one is step):
            measured |= then.accuracy
            measures = one.event.measures or measures
    return Subject(
        source=source,
        number=number,
        name=session.tree.name_of(number),
        words=step.operation.describe(),
        snapshot=replace(snapshot, accuracy=measured | snapshot.accuracy),
        measures=measures,
        training=training(session, number),
    )


# how they are called


def letters() -> Iterator[str]:
    """A, B … Z, AA, AB …: what the models of a comparison are called."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_uppercase, repeat=length))


def heads(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """A letter and the number or name of each: the heads of the columns."""
    short = (cut(printable(one.name or str(one.number)), LONGEST_HEAD) for one in subjects)
    return tuple(f"{letter} {name}" for letter, name in zip(letters(), short, strict=False))


def legend(subjects: Sequence[Subject]) -> list[str]:
    """A line for each: its letter, number, name, what made it, and where it is from."""
    several = len({one.source for one in subjects}) > 1
    lines = []
    for letter, one in zip(letters(), subjects, strict=False):
        named = f" «{one.name}»" if one.name else ""
        source = f" · {one.source}" if one.source and several else ""
        lines.append(printable(f"{letter}  step {one.number}{named}{source} · {one.words}"))
    return lines


# tables


def totals(subjects: Sequence[Subject]) -> list[Line]:
    """What each model is over all its layers, and how well it does."""
    shots = [one.snapshot for one in subjects]
    wide = len(subjects) == 2
    lines = [
        line
        for line in (
            _line(("model",), [printable(shot.model) for shot in shots]),
            _line(("data set",), [printable(shot.dataset) for shot in shots]),
        )
        if line.differs
    ]
    lines += [
        _counts("parameters", [shot.whole.now for shot in shots], wide),
        _counts("non-zero", [shot.whole.nonzero for shot in shots], wide),
        _line(("compression",), [shot.whole.ratio for shot in shots], times),
        _line(("conv+linear",), [shot.prunable.ratio for shot in shots], times),
        _shares(("sparsity",), [shot.prunable.sparsity for shot in shots]),
        _counts("distinct weights", [shot.unique for shot in shots], wide),
        _counts("bits of weights", [sum(bits(row) for row in shot.rows if row.prunable) for shot in shots], wide),
        _counts("MACs", [shot.macs for shot in shots], wide),
        _counts("MACs not zero", [macs_nonzero(shot) for shot in shots], wide),
        _counts("bytes (float32)", [FLOAT_BYTES * shot.whole.now for shot in shots], wide),
        _counts("bytes (gzip)", [one.measures.stored if one.measures else None for one in subjects], wide),
        _shares(("frozen weights",), [frozen_share(shot).of_weights for shot in shots]),
    ]
    for split in SPLITS:
        found = [shot.accuracy.get(split) for shot in shots]
        if any(found):
            lines += [
                _shares((split,), [one.top1 if one else None for one in found]),
                _shares(("  mean of classes",), [one.macro if one else None for one in found]),
                _shares(("  worst class",), [one.worst if one else None for one in found]),
                _line(("  loss",), [one.loss if one else None for one in found], "{:.4f}".format),
            ]
    lines.append(_line(("epochs trained",), [one.training.epochs for one in subjects], "{:g}".format))
    return lines


LAYER_FIGURES: Mapping[str, Callable[[LayerRow], Any]] = {
    "type": lambda row: row.kind,
    "sparsity": lambda row: row.sparsity,
    "non-zero": lambda row: row.nonzero,
    "channels": lambda row: f"{row.channels}/{row.channels_loaded}",
    "inputs": lambda row: f"{row.inputs}/{row.inputs_loaded}",
    "clusters": lambda row: row.clusters or "none",
    "distinct": distinct_weights,
    "frozen": lambda row: "yes" if row.frozen else "no",
    "held at zero": lambda row: "yes" if row.masked else "no",
}
"""What is compared of each layer; distinct are the weights that must be stored, held at zero is a mask."""


def layers(subjects: Sequence[Subject], everything: bool = False) -> list[Line]:
    """The conv and linear layers and what differs in them; with `everything`, what does not, too."""
    known = [{row.name: row for row in one.snapshot.rows if row.prunable} for one in subjects]
    wide = len(subjects) == 2
    lines = []
    for name in dict.fromkeys(name for rows in known for name in rows):
        for words, of in LAYER_FIGURES.items():
            values = [of(rows[name]) if name in rows else None for rows in known]
            if words == "sparsity":
                line = _shares((printable(name), words), values, absent=True)
            elif words in ("non-zero", "distinct"):
                line = _counts((printable(name), words), values, wide, absent=True)
            else:
                line = _line((printable(name), words), values, absent=True)
            if line.differs or everything:
                lines.append(line)
    return lines


def classes(subjects: Sequence[Subject], split: str) -> list[Line]:
    """The accuracy of every class on a split, where it was measured of at least one model."""
    recalls = [
        {one.name: one.recall for one in class_figures(each.snapshot, split, None)}
        if split in each.snapshot.accuracy
        else {}
        for each in subjects
    ]
    names = dict.fromkeys(name for found in recalls for name in found)
    return [_shares((printable(name),), [found.get(name) for found in recalls]) for name in names]


def trained(subjects: Sequence[Subject]) -> list[Line]:
    """The finetuning on the way to each model in a few figures: the highest accuracy, the lowest loss."""
    curves = [one.training.curves for one in subjects]
    best = [max(_values(found, "validation/accuracy"), default=None) for found in curves]
    least = [min(_values(found, "validation/loss"), default=None) for found in curves]
    return [
        _line(("epochs",), [one.training.epochs for one in subjects], "{:g}".format),
        _line(("runs",), [len(one.training.runs) for one in subjects]),
        _shares(("best validation",), best),
        _line(("lowest loss",), least, "{:.4f}".format),
    ]


def parting(subjects: Sequence[Subject], metric: str) -> float:
    """Up to where the curves of all models are the same, in epochs: their common past."""
    found = 0.0
    for points in zip(*(one.training.curves.get(metric, ()) for one in subjects), strict=False):
        if any(point != points[0] for point in points):
            break
        found = points[0][0]
    return found


def _values(curves: Mapping[str, Points], metric: str) -> list[float]:
    return [y for _, y in curves.get(metric, ()) if y is not None]


def _line(
    words: tuple[str, ...],
    values: Sequence[Any],
    show: Callable[[Any], str] = str,
    change: Callable[[Any, Any], str] = lambda first, value: "",
    absent: bool = False,
) -> Line:
    """A line of these values. None was not measured, which is no difference; where `absent`, it is not there.

    What is the same as far as it is shown does not differ.
    """
    first = values[0]
    cells = []
    for value in values:
        both = first is not None and value is not None
        text = ABSENT if value is None else show(value)
        said = change(first, value) if both and value != first else ""
        differs = bool(said) or text != show(first) if both else absent and value != first
        cells.append(Cell(text, said, differs))
    return Line(words, tuple(cells))


def _shares(words: tuple[str, ...], values: Sequence[float | None], absent: bool = False) -> Line:
    def change(first: float, value: float) -> str:
        points = f"{100 * (value - first):+.1f}"
        return "" if points in ("+0.0", "-0.0") else points

    return _line(words, values, share, change, absent)


def _counts(words: str | tuple[str, ...], values: Sequence[int | None], wide: bool, absent: bool = False) -> Line:
    """Counts; how much they changed is told where there is room for it."""
    known = (words,) if isinstance(words, str) else words
    return _line(known, values, "{:,}".format, (lambda a, b: f"{b - a:+,}") if wide else (lambda a, b: ""), absent)


# as text


Piece = tuple[str, bool]
"""A text, and whether it is a figure that differs."""


def table(subjects: Sequence[Subject], lines: Sequence[Line], width: int | None = None) -> list[list[Piece]]:
    """A head and the lines, aligned; a word that is said in the line before is left out, what differs has a sign.

    A head ends where the figures under it end; the changes stand behind. Where that is wider than `width`, the changes
    are left out, then what follows the letters of the heads.
    """
    if not lines:
        return []
    bare = [replace(line, cells=tuple(replace(cell, change="") for cell in line.cells)) for line in lines]
    tops = heads(subjects)
    found: list[list[Piece]] = []
    for which, called in ((lines, tops), (bare, tops), (bare, [top.split()[0] for top in tops])):
        found = _aligned(called, which)
        if width is None or all(sum(cells(text) for text, _ in line) <= width for line in found):
            break
    return found


def _aligned(tops: Sequence[str], lines: Sequence[Line]) -> list[list[Piece]]:
    names = [max(cells(line.words[place]) for line in lines) for place in range(len(lines[0].words))]
    columns = list(zip(*(line.cells for line in lines), strict=True))
    figures = [
        max(cells(top), *(cells(_figure(cell)) for cell in column)) for top, column in zip(tops, columns, strict=True)
    ]
    changes = [max((1 + len(cell.change) for cell in column if cell.change), default=0) for column in columns]
    indent = sum(width + 2 for width in names)
    head = (right(top, width) + " " * change for top, width, change in zip(tops, figures, changes, strict=True))
    found: list[list[Piece]] = [[("", False), (" " * indent + "  ".join(head).rstrip(), False)]]
    said: tuple[str, ...] = ()
    for line in lines:
        shown = [
            "" if place + 1 < len(names) and line.words[: place + 1] == said[: place + 1] else word
            for place, word in enumerate(line.words)
        ]
        pieces = [("".join(left(word, width + 2) for word, width in zip(shown, names, strict=True)), False)]
        for number, (cell, width, change) in enumerate(zip(line.cells, figures, changes, strict=True)):
            figure = _figure(cell)
            pieces.append((("  " if number else "") + " " * (width - cells(figure)), False))
            pieces.append((figure + cell.change.rjust(change), cell.differs))
        found.append(pieces)
        said = line.words
    return found


def _figure(cell: Cell) -> str:
    return f"{UNEQUAL if cell.differs else ''}{cell.text}"


def text_of(pieces: Iterable[Iterable[Piece]]) -> list[str]:
    """A table as plain lines."""
    return ["".join(text for text, _ in line).rstrip() for line in pieces]


PARTS = ("totals", "layers", "classes", "curves")


def part(
    subjects: Sequence[Subject], which: str, everything: bool = False, width: int | None = None
) -> list[list[Piece]]:
    """One of `PARTS` as a table, or a sentence where there is nothing to say. Of the curves it is a few figures."""
    match which:
        case "totals":
            return table(subjects, totals(subjects), width)
        case "layers":
            return table(subjects, layers(subjects, everything), width) or _sentence("no layer differs")
        case "classes":
            found: list[list[Piece]] = []
            for split in SPLITS:
                if rows := table(subjects, classes(subjects, split), width):
                    found += [*([[("", False)]] if found else []), [(split, False)], *rows]
            return found or _sentence("no accuracy was measured of these models")
        case _:
            return table(subjects, trained(subjects), width)


def _sentence(words: str) -> list[list[Piece]]:
    return [[(words, False)]]
