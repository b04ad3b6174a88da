"""What a data set is to the bench: labelled images in three splits, and how they are shown to a model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from labbench.bench.errors import never
from labbench.session.events import Progress

Splits: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""By "train", "validation", "test": images N×C×H×W and labels int64 N, on the CPU.

The images are uint8 pixels, or floats that already are what a model takes (spectrograms)."""


def nobody(_: Progress) -> None:
    """The `report` of whoever does not listen."""


def no_files(_: "Reading") -> Iterable[Path]:
    """The `sources` of images that are made of no file."""
    return ()


@dataclass(frozen=True)
class Reading:
    """What a data set is read with: where, who hears how far it is, and whether to go on."""

    data_dir: Path
    """The data folder. What is downloaded goes there."""
    report: Callable[[Progress], None] = nobody
    """Of the phases "download", "convert" and "check"."""
    stopped: Callable[[], bool] = never
    """Looked at several times a second; then `Stopped` is raised and nothing half-written stays."""


@dataclass(frozen=True)
class Images:
    """What reading gives."""

    splits: Splits
    """Views of a read-only cache as a rule: nobody writes into them."""
    classes: tuple[str, ...]
    """By label."""
    mean: tuple[float, ...] = ()
    """Per channel, of pixels scaled to 0…1; of no meaning for floats."""
    std: tuple[float, ...] = ()
    remarks: tuple[str, ...] = ()
    """What the user should know: what was left out, or found elsewhere."""


@dataclass(frozen=True)
class Dataset:
    """One entry of the catalogue. `read` does the work; the rest is known before anything is read."""

    doc: str
    """The first line is the menu entry."""
    read: Callable[..., Images]
    """(Reading, **options) → Images. Its keyword-only arguments are the data set's options.

    Raises `BenchError` where the images cannot be had, `Stopped`."""
    flip: bool
    """Whether a mirrored image is still of its class."""
    vertical: bool = True
    """Whether an image moved up or down is still of its class: not where rows are frequencies."""
    classes: int = 0
    """How many; 0 where that depends on the options."""
    shape: tuple[int, int, int] | None = None
    """Channels, height, width of the images as they are stored; None where that depends on the options."""
    images: Mapping[str, int] = field(default_factory=dict)
    """How many per split; empty where that depends on the options."""
    download: bool = False
    """Whether the images have to be fetched once."""
    sources: Callable[..., Iterable[Path]] = no_files
    """(Reading, **options) → the files that the images are made of, as far as they are known, there or not.

    While none of them changes, what was read is taken from the cache. Raises as `read` does."""
    version: str = "1"
    """Of `read`: whoever makes it give something else for the same files changes this, and no old cache is taken."""
