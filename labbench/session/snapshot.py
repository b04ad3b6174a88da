"""What a screen may know of a model: figures and names, no tensor."""

from msgspec import Struct


class LayerRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer with parameters. Counts named `loaded` are those of the model as it was opened."""

    name: str
    kind: str
    """conv, linear, norm or other."""
    shape: tuple[int, ...]
    """Of the weight, now: out × in × kh × kw, or out × in."""
    parameters: int
    """Of the whole layer now, bias included."""
    weights: int
    """Of the weight tensor now."""
    weights_loaded: int
    nonzero: int
    """Non-zero entries of the weight tensor."""
    prunable: bool = True
    """Conv and linear layers are; norms are shown on demand and count in no sparsity."""
    masked: bool = False
    """Whether zeros of this layer are held at zero through finetuning."""
    filters_zero: int = 0
    """All-zero filters, W[o]: rows of the weight as a matrix of outputs × (inputs · kh · kw)."""
    inputs_zero: int | None = None
    """Input channels that no filter reads, W[:, i]; null here and below: recorded before it was counted."""
    kernels_zero: int | None = None
    """All-zero slices W[o, i]; of a linear layer these are its single weights."""
    columns_zero: int | None = None
    """All-zero columns of that matrix: one place of all filters."""
    filters_unique: int = 0
    """Distinct filters; all of them unless the layer was clustered or emptied."""
    weights_unique: int | None = None
    """Distinct values at each place of the filters, summed; only where clusters are of places. Null: of filters."""
    clusters: int = 0
    """K of the last clustering that still stands, 0 for none."""
    channels: int = 0
    channels_loaded: int = 0
    inputs: int = 0
    inputs_loaded: int = 0
    frozen: bool = False
    last: str = ""
    """The last operation that changed this layer, in a few words: "magnitude 30 %", "k 8 of 16"."""
    macs: int = 0
    """Multiply-accumulates for one image; convolutions and linear layers only."""
    norm: float | None = None
    """L2 norm of the weight; null when it is not finite."""
    histogram: tuple[int, ...] = ()
    """Counts of the non-zero weights in equal bins from -limit to limit."""
    limit: float = 0.0
    """Largest absolute weight: the end of the histogram."""

    @property
    def sparsity(self) -> float:
        """1 − nonzero / loaded: what is gone, masked and cut alike, as a fraction."""
        return 1 - self.nonzero / self.weights_loaded if self.weights_loaded else 0.0

    @property
    def channels_cut(self) -> float:
        """Structured prune ratio, 1 − channels / loaded, as a fraction: what is cut away leaves no zero to count."""
        return 1 - self.channels / self.channels_loaded if self.channels_loaded else 0.0

    @property
    def macs_nonzero(self) -> int:
        """The MACs of the weights that are not zero: each takes part in equally many. All where no weight is known."""
        return self.macs // self.weights * self.nonzero if self.weights else self.macs


class Total(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sums over layers: how many when loaded, how many now, how many of those are not zero."""

    loaded: int
    now: int
    nonzero: int

    @property
    def sparsity(self) -> float:
        """1 − nonzero / loaded, as a fraction."""
        return 1 - self.nonzero / self.loaded if self.loaded else 0.0

    @property
    def ratio(self) -> float:
        """Compression ratio loaded / nonzero; infinite when nothing is left."""
        return self.loaded / self.nonzero if self.nonzero else float("inf")


class Accuracy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well the model does on one split. Fractions, not percent."""

    images: int
    top1: float
    macro: float
    """Mean of the per-class recalls."""
    worst: float
    """Recall of the worst class."""
    worst_class: str
    loss: float | None
    """Mean cross entropy; null when it is not finite."""
    confusion: tuple[tuple[int, ...], ...]
    """Row = true class, column = answer."""
    top5: float | None = None
    """Share of images whose class is among the five best answers; null where there are no more than five classes."""


class Snapshot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model between two operations."""

    model: str
    dataset: str
    device: str
    classes: tuple[str, ...]
    rows: tuple[LayerRow, ...]
    """In forward order, prunable layers and the others."""
    prunable: Total
    """Weights of the conv and linear layers, without biases."""
    whole: Total
    """All parameters: biases and norms too."""
    unique: int
    """Distinct prunable weights that must be stored: each distinct filter once, or each value of a place."""
    macs: int
    macs_loaded: int
    accuracy: dict[str, Accuracy] = {}
    """By split: "validation", "test". What was not measured since the last change is absent."""
    fingerprint: str = ""
    """Hash of every weight and buffer; equal only for bit-identical states. Empty in a preview."""

    def row(self, name: str) -> LayerRow | None:
        """The row of that name, or None."""
        return next((row for row in self.rows if row.name == name), None)
