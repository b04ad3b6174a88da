"""A session in lines of aligned text: one a step, one a layer, and the sums. Words of a file are made printable before
they are measured; columns are cells of a terminal."""

import math
from collections.abc import Sequence

from labbench.cells import cells, left, right
from labbench.printable import printable
from labbench.session.events import Exported
from labbench.session.figures import Share, frozen_share
from labbench.session.history import Row, rows
from labbench.session.operations import Note, Operation
from labbench.session.prose import plain
from labbench.session.session import Session, Step
from labbench.session.snapshot import Snapshot, Total

ABSENT = "–"  # a figure that was not measured
STEP_COLUMNS = (8, 17, 10, 7, 8)  # widths of the figures behind an operation; "269,722/269,722" fits
STEP_HEADS = ("sparsity", "non-zero/all", "validation", "test", "seconds")
LAYER_HEAD = (
    *("layer", "kind", "shape", "non-zero", "loaded", "sparsity"),
    *("filters", "unique", "k", "inputs", "MACs", "frozen", "last operation"),
)
TEXT_COLUMNS = {"layer", "kind", "shape", "frozen", "last operation"}


def share(fraction: float | None) -> str:
    """A fraction for a column: "97.8 %"; two decimals where one would hide that something is left."""
    if fraction is None:
        return ABSENT
    return f"{min(100 * fraction, 99.99):.2f} %" if 0.99 < fraction < 1 else f"{100 * fraction:.1f} %"


def times(ratio: float) -> str:
    """A ratio: ×1.65."""
    return f"×{ratio:.2f}" if math.isfinite(ratio) else "×∞"


def exported(event: Exported) -> tuple[str, tuple[str, ...]]:
    """What was written: its bytes in words, and remarks."""
    size, remarks = f"{event.size:,} bytes", []
    if event.gzipped:
        size += f", {event.gzipped:,} gzipped"
    if event.gzipped and event.loaded:
        part = 100 * event.gzipped / event.loaded
        remarks.append(f"gzipped {part:.1f} % of the parameters as they were loaded ({event.loaded:,} bytes)")
    if event.deviation is not None:
        differ = f"differ from the bench's model by {event.deviation:.1e} at most"
        remarks.append(f"run once: its answers {differ if event.deviation else 'are those of the model at the bench'}")
    return size, (*remarks, *event.remarks)


def operations_width(operations: Sequence[Operation]) -> int:
    """The width of the column that these operations need."""
    return max((cells(printable(operation.describe())) for operation in operations), default=0)


def step_head(width: int) -> str:
    """The head over `step_line`."""
    return _step("#", "operation", STEP_HEADS, width)


def step_line(step: Step, width: int) -> str:
    """A finished operation: number, words, sparsity of the prunable weights, parameters, accuracies, seconds."""
    return _step(str(step.number), printable(step.operation.describe()), _figures(step), width)


def _figures(step: Step) -> tuple[str, ...]:
    snapshot = step.event.snapshot
    figures = (ABSENT,) * 4 if snapshot is None else snapshot_figures(snapshot)
    return (*figures, f"{step.event.seconds:.1f}")


def snapshot_figures(snapshot: Snapshot) -> tuple[str, str, str, str]:
    """Sparsity, parameters and the two accuracies of a model, as words."""
    whole = snapshot.whole
    top1 = {split: accuracy.top1 for split, accuracy in snapshot.accuracy.items()}
    return (
        share(snapshot.prunable.sparsity),
        f"{whole.nonzero:,}/{whole.now:,}",
        share(top1.get("validation")),
        share(top1.get("test")),
    )


def history(session: Session) -> list[str]:
    """The tree of points, a line each; notes in full, remarks below their operation; ▸ is where the session stands."""
    found = [(row, _lines(row)) for row in rows(session)]
    width = max((cells(said) for row, (said, *_) in found if row.step and not _is_note(row)), default=0)
    lines = [_step("#", _with_ratio("operation", "fewer", width), STEP_HEADS, 0, " ")]
    for row, (first, *more) in found:
        if row.step and not _is_note(row):
            ratio = ABSENT if row.compression is None else times(row.compression)
            lines.append(_step(str(row.number), _with_ratio(first, ratio, width), _figures(row.step), 0, row.sign))
        else:
            lines.append(f"{row.number:>3}{row.sign} {first}")
        lines += [f"     {line}".rstrip() for line in more]
        lines += [f"     {row.below}· {printable(remark)}" for remark in row.remarks]
    return lines


def _with_ratio(words: str, ratio: str, width: int) -> str:
    return f"{left(words, width)}  {ratio:>7}"


def _is_note(row: Row) -> bool:
    return row.step is not None and isinstance(row.step.operation, Note)


def _lines(row: Row) -> list[str]:
    words = (plain(row.full, "\n") if _is_note(row) else row.words).splitlines() or [""]
    name = f"«{printable(row.name)}» " if row.name else ""
    return [row.lines + name + printable(words[0]), *(row.below + printable(line) for line in words[1:])]


def layer_table(snapshot: Snapshot) -> list[str]:
    """The prunable layers, a line each, under a head."""
    rows = [
        (
            printable(row.name),
            printable(row.kind),
            "×".join(map(str, row.shape)),
            f"{row.nonzero:,}",
            f"{row.weights_loaded:,}",
            share(row.sparsity),
            f"{row.channels - row.filters_zero}/{row.channels_loaded}",
            str(row.filters_unique) if row.weights_unique is None else f"{row.clusters} a place",
            str(row.clusters or ABSENT),
            f"{row.inputs}/{row.inputs_loaded}",
            f"{row.macs:,}",
            "frozen" if row.frozen else "",
            printable(row.last),
        )
        for row in snapshot.rows
        if row.prunable
    ]
    return columns([LAYER_HEAD, *rows], [name in TEXT_COLUMNS for name in LAYER_HEAD])


def totals(snapshot: Snapshot) -> list[str]:
    """What the model is and how well it does, in a few lines."""
    lines = [
        f"{printable(snapshot.model)} on {printable(snapshot.dataset)} ({printable(snapshot.device)})",
        f"prunable weights  {_total(snapshot.prunable)}",
        f"all parameters    {_total(snapshot.whole)}",
        f"distinct weights  {snapshot.unique:,} to be stored",
        f"MACs an image     {snapshot.macs:,} of {snapshot.macs_loaded:,}",
    ]
    if (frozen := frozen_share(snapshot)).layers:
        lines.append(f"frozen            {frozen_words(frozen)}")
    for split, found in snapshot.accuracy.items():
        loss = ABSENT if found.loss is None else f"{found.loss:.4f}"
        lines.append(
            f"{left(printable(split), 17)} {share(found.top1)} of {found.images:,} images (mean of classes "
            f"{share(found.macro)}, worst {printable(found.worst_class)} {share(found.worst)}, loss {loss})"
        )
    return lines


def frozen_words(frozen: Share) -> str:
    """How much is frozen, of the layers and of the weights; two decimals where that is next to nothing."""
    decimals = 2 if 0 < frozen.of_weights < 0.01 else 1
    weights = f"{100 * frozen.of_weights:.{decimals}f} % of their weights"
    return f"{frozen.layers} of {frozen.layers_all} layers ({share(frozen.of_layers)}), {weights}"


def curve_table(session: Session) -> list[str]:
    """The figures of all training: of each curve the first, lowest, highest and last value.

    Of the sparsity what was done between the runs counts, too: it ends with that of the model now.
    """
    rows: list[tuple[str, ...]] = [("curve", "first", "lowest", "highest", "last", "points")]
    for name, curve in session.curves.items():
        curve = session.gone if name == "sparsity" else curve
        values = [value for _, value in curve.points if value is not None]
        if name != "step/loss" and values:
            figures = (values[0], min(values), max(values), values[-1])
            rows.append((printable(name), *(f"{value:.4f}" for value in figures), str(len(curve.points))))
    return columns(rows, [True, *[False] * 5]) if len(rows) > 1 else []


def columns(rows: Sequence[Sequence[str]], text: Sequence[bool]) -> list[str]:
    """Rows as aligned lines: text to the left, figures to the right."""
    widths = [max(cells(row[place]) for row in rows) for place in range(len(text))]
    return [
        "  ".join(
            left(cell, width) if is_text else right(cell, width)
            for cell, width, is_text in zip(row, widths, text, strict=True)
        ).rstrip()
        for row in rows
    ]


def _total(total: Total) -> str:
    ratio = f"{total.ratio:.1f}×" if total.nonzero else "∞"
    return (
        f"{total.nonzero:,} not zero of {total.now:,} now, {total.loaded:,} loaded: "
        f"{share(total.sparsity)} gone, {ratio} fewer"
    )


def _step(number: str, words: str, figures: Sequence[str], width: int, sign: str = "") -> str:
    found = [figure.rjust(space) for figure, space in zip(figures, STEP_COLUMNS, strict=True)]
    between = f"{sign} " if sign else "  "
    return "  ".join([number.rjust(3) + between + left(words, width), *found])
