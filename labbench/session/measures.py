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
