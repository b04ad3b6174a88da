"""What a close look at a model finds: figures that cost seconds, so that no snapshot carries them."""

from msgspec import Struct


class LayerMeasures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts of one conv or linear layer's weights."""

    name: str
    weights: int
    """All of them, now."""
    connected: int
    """Not zero, and on a path of such weights from the input to the output. What reads only padding is on none."""
    idle: int
    """Got no gradient from any of the batches: exactly zero in each."""
    distinct: int
    """Different values."""


class Measures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `Measure` found."""

    layers: tuple[LayerMeasures, ...]
    """In forward order."""
    stored: int
    """Bytes of all tensors of the model, compressed with gzip."""
    stored_loaded: int | None
    """Of the model as it was loaded; null where its file of weights is no longer there."""

    def layer(self, name: str) -> LayerMeasures | None:
        """The layer of that name, or None."""
        return next((layer for layer in self.layers if layer.name == name), None)

    @property
    def connected(self) -> int:
        """Weights on a path, of all layers."""
        return sum(layer.connected for layer in self.layers)

    @property
    def idle_share(self) -> float:
        """Weights without a gradient as a fraction of all weights there are now."""
        weights = sum(layer.weights for layer in self.layers)
        return sum(layer.idle for layer in self.layers) / weights if weights else 0.0


class LayerScan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer, or layers that are cut together, tried alone."""

    layers: tuple[str, ...]
    """In forward order."""
    amounts: tuple[float, ...] = ()
    """Parts that were asked to be gone."""
    top1: tuple[float, ...] = ()
    """Validation accuracy at each, as a fraction."""
    refused: str = ""
    """Why it could not be tried, or ""."""

    @property
    def name(self) -> str:
        """The first of the layers."""
        return self.layers[0]


class Scanned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `Scan` found."""

    layers: tuple[LayerScan, ...]
    """In forward order."""
    top1: float
    """Validation accuracy of the model as it stands."""

    def plan(self, drop: float) -> dict[str, float]:
        """For each layer the largest amount up to which accuracy never falls by more than `drop` (a fraction).

        Layers that bear not even the smallest amount are left out.
        """
        found: dict[str, float] = {}
        for scan in self.layers:
            for amount, top1 in zip(scan.amounts, scan.top1, strict=True):
                if top1 < self.top1 - drop - 1e-12:
                    break
                found |= dict.fromkeys(scan.layers, amount)
        return found


class Timing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a forward pass takes, in milliseconds: medians, and the quartiles around them."""

    batch: int
    """Images at once."""
    loaded: float
    """The model as it was opened."""
    loaded_quartiles: tuple[float, float]
    now: float
    now_quartiles: tuple[float, float]

    @property
    def faster(self) -> float:
        """loaded / now; 1.0 where nothing was gained."""
        return self.loaded / self.now if self.now else float("inf")
