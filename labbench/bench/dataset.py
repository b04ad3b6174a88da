"""What a data set is to the bench: labelled uint8 images in three splits, and how they are shown to a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

Splits: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""By "train", "validation", "test": images uint8 N×C×H×W and labels int64 N, on the CPU."""


@dataclass(frozen=True)
class Dataset:
    """One entry of the catalogue. `read` does the work; the rest is known before anything is read."""

    doc: str
    """The first line is the menu entry."""
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    """Channels, height, width of the images as they are stored."""
    images: Mapping[str, int]
    """How many per split."""
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0…1."""
    std: tuple[float, ...]
    flip: bool
    """Whether a mirrored image is still of its class."""
    read: Callable[[Path], Splits]
    """From the data folder, downloading where needed. Raises `BenchError` where that cannot be."""
    download: bool = False
    """Whether the images have to be fetched once."""
