"""Figures that follow from what a session recorded: shares, ratios, comparisons. No model is needed for them."""

import math
from collections.abc import Iterable
from itertools import takewhile

from msgspec import Struct

from labbench.session.measures import Measures
from labbench.session.operations import Load
from labbench.session.session import Session, Step
from labbench.session.snapshot import Accuracy, LayerRow, Snapshot

FLOAT_BITS = 32


class Share(Struct, frozen=True):
    """A part of the conv and linear layers, counted twice: they differ wildly."""

    layers: int
    layers_all: int
    weights: int
    weights_all: int

    @property
    def of_layers(self) -> float:
        """As a fraction of the layers."""
        return self.layers / self.layers_all if self.layers_all else 0.0

    @property
    def of_weights(self) -> float:
        """As a fraction of their weights."""
        return self.weights / self.weights_all if self.weights_all else 0.0


def frozen_share(snapshot: Snapshot) -> Share:
    """How much of the conv and linear layers is frozen."""
    prunable = [row for row in snapshot.rows if row.prunable]
    frozen = [row for row in prunable if row.frozen]
    return Share(len(frozen), len(prunable), sum(r.weights for r in frozen), sum(r.weights for r in prunable))


def zero_shares(row: LayerRow) -> dict[str, float | None]:
    """Shares of the layer's parts, as it is now, that are all zero; None where there are none or none were counted.

    Parts of the weight: kernels W[o, i] (of convolutions with more than one entry), filters W[o], input channels
    W[:, i], and rows and columns of the matrix outputs × (inputs · kh · kw) that a convolution is multiplied as. A row
    is a filter; a column is one place of all filters (Wen et al. 2016, "Learning Structured Sparsity", section 3.1).
    """
    outputs, inputs, *kernel = (*row.shape, 1, 1)[: max(len(row.shape), 2)]
    places = math.prod(kernel)
    filters = _share(row.filters_zero, outputs)
    return {
        "kernel": _share(row.kernels_zero, outputs * inputs) if places > 1 else None,
        "filter": filters,
        "channel": _share(row.inputs_zero, inputs),
        "row": filters,
        "column": _share(row.columns_zero, inputs * places),
    }


def _share(part: int | None, whole: int) -> float | None:
    return None if part is None or not whole else part / whole


def macs_nonzero(snapshot: Snapshot) -> int:
    """The MACs of the weights that are not zero: what a machine that skips zeros would do."""
    return sum(row.macs_nonzero for row in snapshot.rows)


# shared weights


def filter_length(row: LayerRow) -> int:
    """d, the weights of one filter."""
    return row.weights // row.channels if row.channels else 0


def distinct_weights(row: LayerRow) -> int:
    """Weights that must be stored where each distinct filter is stored once; with clusters of places, each value."""
    return row.filters_unique * filter_length(row) if row.weights_unique is None else row.weights_unique


def unique_parameters(row: LayerRow) -> int:
    """Distinct weights of a layer with clusters: K·d, at most K·d with clusters of places; all of a layer without."""
    return distinct_weights(row) if row.clusters else row.weights


def saved_parameters(rows: Iterable[LayerRow]) -> int:
    """Σ d·(filters − K) over the clustered layers; with clusters of places, weights − unique."""
    return sum(row.weights - unique_parameters(row) for row in rows)


def bits(row: LayerRow) -> int:
    """Bits that the layer's weights take: n·log₂K + 32·K·d for n filters of K kinds, rounded up; else 32 a weight.

    With clusters of places each weight has a kind: n·d·log₂K.
    """
    alike, kinds = (row.channels, row.filters_unique) if row.weights_unique is None else (row.weights, row.clusters)
    index = math.ceil(alike * math.log2(kinds)) if row.clusters and kinds else 0
    return index + FLOAT_BITS * unique_parameters(row)


def trade_off(snapshot: Snapshot, split: str = "validation") -> float | None:
    """F(K) = accuracy / (unique / conv) over the weights of all convolutions: higher is better.

    None where there are no convolutions, or the split was not measured.
    """
    convolutions = [row for row in snapshot.rows if row.kind == "conv"]
    weights = sum(row.weights for row in convolutions)
    if split not in snapshot.accuracy or not weights:
        return None
    return snapshot.accuracy[split].top1 / (sum(unique_parameters(row) for row in convolutions) / weights)


# compression


class Compression(Struct, frozen=True):
    """One count of a model, when loaded and now. A ratio without what it counts means nothing."""

    counts: str
    loaded: int
    now: int

    @property
    def ratio(self) -> float:
        """Loaded / now; infinite where nothing is left."""
        return self.loaded / self.now if self.now else math.inf


def compressions(snapshot: Snapshot, measures: Measures | None) -> tuple[Compression, ...]:
    """Three ways to count: prunable weights and all parameters that are not zero; once measured, bytes after gzip."""
    found = [
        Compression("conv+linear non-zero", snapshot.prunable.loaded, snapshot.prunable.nonzero),
        Compression("parameters non-zero", snapshot.whole.loaded, snapshot.whole.nonzero),
    ]
    if measures and measures.stored_loaded is not None:
        found.append(Compression("bytes after gzip", measures.stored_loaded, measures.stored))
    return tuple(found)


def effective_sparsity(snapshot: Snapshot, measures: Measures) -> float:
    """1 − weights on a path / loaded: what is zero, cut, or cut off."""
    return 1 - measures.connected / snapshot.prunable.loaded if snapshot.prunable.loaded else 0.0


# a session's own comparisons


def measures_of(session: Session) -> Measures | None:
    """What a close look found of exactly the model now, or None."""
    now = session.snapshot.fingerprint if session.snapshot else ""
    for step in reversed(session.steps):
        if now and step.event.measures and step.snapshot and step.snapshot.fingerprint == now:
            return step.event.measures
    return None


def dense_step(session: Session, split: str) -> Step | None:
    """The last measured model before anything was pruned, cut or clustered since the load, or None.

    A model that was loaded with layers cut is its own dense model.
    """
    loads = [number for number, step in enumerate(session.done) if isinstance(step.operation, Load)]
    if not loads:
        return None
    first, *later = session.done[loads[-1] :]
    whole = [first, *takewhile(lambda step: step.snapshot is not None and not reduced(step.snapshot), later)]
    for change in reversed(whole):
        for step in reversed(session.steps):
            if _same(step, change) and step.snapshot and split in step.snapshot.accuracy:
                return step
    return None


def _same(step: Step, change: Step) -> bool:
    """Whether the model after a step is the one that a change made; one without a fingerprint is only its own."""
    if step is change or step.snapshot is None or change.snapshot is None:
        return step is change
    return step.snapshot.fingerprint == change.snapshot.fingerprint != ""


def dense_accuracy(session: Session, split: str) -> Accuracy | None:
    """Figures of the dense model on a split; None where there are none, or the model now is the dense one."""
    step, now = dense_step(session, split), session.snapshot
    if step is None or step.snapshot is None or now is None or step.snapshot is now:
        return None
    if step.snapshot.fingerprint == now.fingerprint != "":
        return None
    return step.snapshot.accuracy[split]


def reduced(snapshot: Snapshot) -> bool:
    """Whether something of the model is held at zero, cut away or shared."""
    return any(
        row.masked or row.clusters or row.channels < row.channels_loaded or row.inputs < row.inputs_loaded
        for row in snapshot.rows
    )


class ClassFigures(Struct, frozen=True):
    """One class of a split."""

    name: str
    images: int
    recall: float | None
    """Share of its images that were named right; None where it has no image."""
    dense: float | None
    """Of the dense model; None where that was not measured, or is this one."""
    mistaken: str
    """The class that it is most often taken for, or ""."""

    @property
    def change(self) -> float | None:
        """Recall now − of the dense model."""
        return None if self.recall is None or self.dense is None else self.recall - self.dense


def class_figures(snapshot: Snapshot, split: str, dense: Accuracy | None) -> tuple[ClassFigures, ...]:
    """Every class of a split that was measured; `dense` are the figures to compare with."""
    now = snapshot.accuracy[split].confusion
    then = dense.confusion if dense and len(dense.confusion) == len(now) else None
    found = []
    for number, row in enumerate(now):
        wrong = [0 if other == number else count for other, count in enumerate(row)]
        found.append(
            ClassFigures(
                name=snapshot.classes[number],
                images=sum(row),
                recall=_recall(row, number),
                dense=_recall(then[number], number) if then else None,
                mistaken=snapshot.classes[wrong.index(max(wrong))] if any(wrong) else "",
            )
        )
    return tuple(found)


def _recall(row: tuple[int, ...], number: int) -> float | None:
    return row[number] / sum(row) if sum(row) else None
