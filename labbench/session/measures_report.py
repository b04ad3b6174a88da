"""All measures of a session's model as lines of aligned text, part by part: for `labbench show --measures` and for the
screen that shows the same."""

import math
from collections.abc import Callable

from labbench.cells import cut
from labbench.printable import printable
from labbench.session import figures
from labbench.session.measures import Measures
from labbench.session.report import ABSENT, columns, frozen_words, share, times
from labbench.session.session import Session
from labbench.session.snapshot import Accuracy, LayerRow, Snapshot

LABEL = 20
UNMEASURED = "not looked at: measure (M) does"
PART_WORDS = {
    "kernel": "of the kernels W[o, i] are all zero",
    "filter": "of the filters W[o] are all zero",
    "channel": "of the input channels W[:, i] are all zero",
    "row": "of the rows of the weight as a matrix (its filters) are all zero",
    "column": "of the columns of that matrix (one place of all filters) are all zero",
}
PARTS = ("model", "layers", "classes", "confusion")


def lines(session: Session, part: str) -> list[str]:
    """One of `PARTS`, each line as long as it needs to be; a sentence where there is nothing to say."""
    snapshot = session.snapshot
    if snapshot is None:
        return ["no model is open"]
    measures = figures.measures_of(session)
    match part:
        case "model":
            return model_lines(snapshot, measures)
        case "layers":
            return layer_lines(snapshot, measures)
        case "classes":
            return _of_splits(session, snapshot, class_lines)
        case _:
            return _of_splits(session, snapshot, lambda shot, split, _: confusion_lines(shot, split))


def model_lines(snapshot: Snapshot, measures: Measures | None) -> list[str]:
    """What is counted over the whole model, each with what it counts."""
    prunable = [row for row in snapshot.rows if row.prunable]
    cut = [row for row in prunable if row.channels < row.channels_loaded]
    found = [("sparsity", f"{share(snapshot.prunable.sparsity)} of the loaded conv and linear weights are gone")]
    if measures:
        found += [
            ("effective", f"{share(figures.effective_sparsity(snapshot, measures))} with those that are on no path"),
            ("no gradient", f"{share(measures.idle_share)} of the weights now, from the batches looked at"),
        ]
    else:
        found += [("effective", UNMEASURED), ("no gradient", UNMEASURED)]
    found += [
        (f"fewer ({number})", f"{times(one.ratio)}  {one.counts}: {one.loaded:,} → {one.now:,}")
        for number, one in enumerate(figures.compressions(snapshot, measures), 1)
    ]
    if measures is None:
        found.append(("fewer (3)", f"bytes after gzip: {UNMEASURED}"))
    channels, loaded = sum(row.channels for row in prunable), sum(row.channels_loaded for row in prunable)
    found += [
        ("channels cut", f"{share(1 - channels / loaded if loaded else 0)} in {len(cut)} of {len(prunable)} layers"),
        ("MACs", f"{snapshot.macs:,} of {snapshot.macs_loaded:,}; FLOPs {2 * snapshot.macs:,}"),
        ("MACs not zero", f"{figures.macs_nonzero(snapshot):,}: only a machine that skips zeros saves them"),
        ("unique parameters", _unique(snapshot)),
        ("bits", f"{sum(map(figures.bits, prunable)):,} of weights; clustered: n·log₂K + 32·K·d"),
    ]
    for split in snapshot.accuracy:
        value = figures.trade_off(snapshot, split)
        words = "no convolutions" if value is None else f"{value:.4f} = accuracy / (unique / conv weights)"
        found.append((f"F(K) {split}", words))
    found.append(("frozen", frozen_words(figures.frozen_share(snapshot))))
    return [f"{name:<{LABEL}}{words}" for name, words in found]


def _unique(snapshot: Snapshot) -> str:
    prunable = [row for row in snapshot.rows if row.prunable]
    saved = figures.saved_parameters(prunable)
    unique = sum(map(figures.unique_parameters, prunable))
    return f"{unique:,}; clustering saves {saved:,} ({share(unique / (unique + saved) if unique else 0)} unique)"


def layer_lines(snapshot: Snapshot, measures: Measures | None) -> list[str]:
    """Every measure of every conv and linear layer, a line each under a head."""
    rows = [row for row in snapshot.rows if row.prunable]
    cells = [(row, layer_cells(row, measures)) for row in rows]
    if not cells:
        return ["no conv or linear layer"]
    heads = ("layer", *(head for head, _, _ in cells[0][1]))
    table = [heads, *((printable(row.name), *(short for _, short, _ in found)) for row, found in cells)]
    return columns(table, [name == "layer" for name in heads])


def layer_cells(row: LayerRow, measures: Measures | None) -> list[tuple[str, str, str]]:
    """Head, figure and sentence of each measure of a layer; where nothing was looked at, those are dashes."""
    zero = figures.zero_shares(row)
    found = measures.layer(row.name) if measures else None
    effective = 1 - found.connected / row.weights_loaded if found and row.weights_loaded else None
    idle = found.idle / found.weights if found and found.weights else None
    return [
        ("zero", share(row.sparsity), "gone of the loaded weights"),
        ("cut", share(row.channels_cut), "of the loaded filters cut away"),
        *((part, share(zero[part]), PART_WORDS[part]) for part in zero),
        ("MACs≠0", f"{row.macs_nonzero:,}", "multiply-accumulates with weights that are not zero"),
        ("unique", f"{figures.unique_parameters(row):,}", _unique_words(row)),
        ("bits", f"{figures.bits(row):,}", "to store them"),
        ("values", f"{found.distinct:,}" if found else ABSENT, "different values"),
        ("effective", share(effective), "gone, or on no path from input to output"),
        ("idle", share(idle), "of the weights now never got a gradient"),
    ]


def _unique_words(row: LayerRow) -> str:
    return f"weights, each distinct {'filter' if row.weights_unique is None else 'value of a place'} counted once"


def class_lines(snapshot: Snapshot, split: str, dense: Accuracy | None) -> list[str]:
    """The figures of a split, and each class with its change against the dense model, the worst losses first."""
    now = snapshot.accuracy[split]
    found = figures.class_figures(snapshot, split, dense)
    loss = ABSENT if now.loss is None else f"{now.loss:.4f}"
    top5 = "" if now.top5 is None else f", top-5 {share(now.top5)}"
    head = [
        f"{printable(split)}: {now.images:,} images, top-1 {share(now.top1)}{top5}, loss {loss}",
        f"mean of classes {share(now.macro)}, worst {printable(now.worst_class)} {share(now.worst)}",
    ]
    if dense:
        head.append(f"the dense model had top-1 {share(dense.top1)}, mean of classes {share(dense.macro)}")
    order = sorted(found, key=lambda one: (one.change if one.change is not None else math.inf, one.recall or 0.0))
    rows = [
        (
            printable(c.name),
            f"{c.images:,}",
            share(c.recall),
            share(c.dense),
            points(c.change),
            printable(c.mistaken) or ABSENT,
        )
        for c in order
    ]
    table = columns([("class", "images", "recall", "dense", "change", "taken for"), *rows], [True, *[False] * 4, True])
    return [*head, "", *table]


def points(change: float | None) -> str:
    """A change of a share in percentage points, with its sign."""
    return ABSENT if change is None else f"{100 * change:+.1f}"


def confusion_lines(snapshot: Snapshot, split: str) -> list[str]:
    """The confusion matrix: a row is the true class, a column the answer; what never happened is a dot."""
    matrix = snapshot.accuracy[split].confusion
    names = [printable(name) for name in snapshot.classes[: len(matrix)]]
    rows = [(name, *(f"{count:,}" if count else "·" for count in row)) for name, row in zip(names, matrix, strict=True)]
    heads = ("", *(cut(name, 6) for name in names))
    return [
        f"{printable(split)}: row true class, column answer",
        *columns([heads, *rows], [True, *[False] * len(names)]),
    ]


def _of_splits(
    session: Session, snapshot: Snapshot, make: Callable[[Snapshot, str, Accuracy | None], list[str]]
) -> list[str]:
    found: list[str] = []
    for split in snapshot.accuracy:
        made = make(snapshot, split, figures.dense_accuracy(session, split))
        found += ["", *made] if found else made
    return found or ["accuracy was not measured since the last change"]
