"""Any folder of images, one subfolder a class, as torchvision's ImageFolder takes it."""

import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from labbench.bench.dataset import Dataset, Images, Reading
from labbench.bench.errors import BenchError, Stopped
from labbench.session.events import Progress

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
HELD_OUT = 0.15  # of the training images of each class, for a split that has no folder
SEED = 1
MODES = {3: "RGB", 1: "L"}
SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}

Labelled: TypeAlias = list[tuple[Path, int]]
"""Images with their labels, in the order of classes and names."""


@dataclass(frozen=True)
class Listing:
    """What lies in the folder, before any image is opened."""

    classes: tuple[str, ...]
    files: dict[str, Labelled]
    """By split."""


def sources(reading: Reading, *, path: str, **_: object) -> list[Path]:
    """The images."""
    return [file for part in _listing(reading, path).files.values() for file, _ in part]


def read(
    reading: Reading,
    *,
    path: Annotated[str, Meta(description="the folder: subfolders are classes, or train, val and test of them")] = "",
    size: Annotated[int, Meta(ge=8, le=512, description="pixels: the shorter side, then the middle square")] = 32,
    channels: Annotated[Literal[3, 1], Meta(description="3 is color, 1 is gray")] = 3,
) -> Images:
    """The images of a folder, all of one size. Raises `BenchError` for a broken one, and for too few."""
    listing = _listing(reading, path)
    pixels = _pixels(reading, [file for part in listing.files.values() for file, _ in part], size, channels)
    labels = torch.tensor([label for part in listing.files.values() for _, label in part])
    sizes = [len(part) for part in listing.files.values()]
    parts = zip(pixels.split(sizes), labels.split(sizes), strict=True)
    splits = dict(zip(listing.files, parts, strict=True))
    mean, std = _moments(splits["train"][0])
    return Images(splits, listing.classes, mean, std)


def _listing(reading: Reading, path: str) -> Listing:
    if not path.strip():
        raise BenchError("folder needs a path: that of a folder of images with one subfolder for each class")
    top = Path(os.path.expanduser(path)).absolute()
    try:
        if not top.is_dir():
            raise BenchError(f"there is no folder {top}; path is a folder of images with one subfolder for each class")
        return _listed(reading, top)
    except OSError as error:
        raise BenchError(f"cannot read {error.filename or top}: {error.strerror or error}") from error


def _listed(reading: Reading, top: Path) -> Listing:
    folders = _split_folders(top)
    classes = _subfolders(folders["train"])
    files = {split: list(_labelled(reading, folder, classes)) for split, folder in folders.items()}
    absent = [split for split in ("validation", "test") if split not in folders]
    _check(folders, classes, files, 1 + len(absent))
    files |= _parted(files["train"], absent)
    return Listing(tuple(classes), {split: files[split] for split in ("train", "validation", "test")})


def _split_folders(top: Path) -> dict[str, Path]:
    """The folder of each split that has one. Without one to train with, the whole is that."""
    names = _subfolders(top)
    found = {split: [name for name in names if name in known] for split, known in SPLIT_FOLDERS.items()}
    folders = {split: top / there[0] for split, there in found.items() if there}
    if "train" not in folders or (len(folders) == 1 and len(names) > 1):
        return {"train": top}
    if len(found["validation"]) > 1:
        raise BenchError(f"{top} has both {' and '.join(found['validation'])}; one of them is for validation")
    return folders


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _labelled(reading: Reading, folder: Path, classes: Sequence[str]) -> Iterator[tuple[Path, int]]:
    """The images of a split, at any depth under the subfolder of their class."""
    if strange := [name for name in _subfolders(folder) if name not in classes]:
        raise BenchError(f"{folder / strange[0]} is a class that the training images do not have")
    for label, name in enumerate(classes):
        walked = []
        for place, _, names in os.walk(folder / name, followlinks=True):
            if reading.stopped():
                raise Stopped
            walked.append((place, names))
        for place, names in sorted(walked):
            yield from ((Path(place, file), label) for file in sorted(names) if file.lower().endswith(EXTENSIONS))


def _check(folders: dict[str, Path], classes: Sequence[str], files: dict[str, Labelled], needed: int) -> None:
    """Raise `BenchError` where there are too few classes or images to learn and to measure."""
    if len(classes) < 2:
        there = f"one subfolder ({classes[0]})" if classes else "no subfolders"
        raise BenchError(f"{folders['train']} has {there}; at least two are needed, one for each class")
    for name in classes:
        if not name.isprintable():
            raise BenchError(f"{name!r} cannot be shown as the name of a class; rename that folder")
    for split, folder in folders.items():
        if not files[split]:
            raise BenchError(f"no images under {folder}; they end in {', '.join(EXTENSIONS)}")
    counts = np.bincount([label for _, label in files["train"]], minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < needed:
            what = "to train" if needed == 1 else "to have some to train and some to measure"
            raise BenchError(f"{folders['train'] / name} has {count} images; at least {needed} are needed {what}")


def _parted(files: Labelled, absent: Sequence[str]) -> dict[str, Labelled]:
    """The training files without those that are held out for each of the absent splits: as many of each class."""
    parts: dict[str, Labelled] = {split: [] for split in (*absent, "train")}
    for _, group in itertools.groupby(files, key=lambda file: file[1]):
        own = list(group)
        count = max(1, round(HELD_OUT * len(own)))
        # NumPy keeps the stream of RandomState frozen, so this split is the same with every version.
        order = np.random.RandomState(SEED).permutation(len(own))
        chosen = np.split(order, [count * turn for turn in range(1, len(parts))])
        for part, numbers in zip(parts.values(), chosen, strict=True):
            part += [own[number] for number in sorted(numbers)]
    return parts


def _pixels(reading: Reading, files: Sequence[Path], size: int, channels: int) -> Tensor:
    """The images of files, uint8 N×C×size×size, read by as many threads as there are processors."""
    pixels = torch.empty((len(files), channels, size, size), dtype=torch.uint8)
    array = pixels.numpy()

    def convert(number: int) -> None:
        array[number] = _image(files[number], size, MODES[channels])

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # PIL's, of files that are odd but readable
        try:
            for done, _ in enumerate(pool.map(convert, range(len(files)))):
                if reading.stopped():
                    raise Stopped
                note = f"{done:,} of {len(files):,} images"
                reading.report(Progress(phase="convert", fraction=done / len(files), note=note))
        finally:
            pool.shutdown(cancel_futures=True)
    return pixels


def _image(file: Path, size: int, mode: str) -> np.ndarray:
    from PIL import Image, ImageOps  # the worker is ready sooner without it

    try:
        with Image.open(file) as image:
            deep = image.mode.startswith("I;16")  # PIL would make white of all but the darkest
            plain = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if deep else image
            square = ImageOps.fit(plain.convert(mode), (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # PIL raises whatever the bytes provoke
        why = str(error) if isinstance(error, OSError) and error.strerror is None else type(error).__name__
        shown = os.fsencode(file).decode(errors="replace")
        raise BenchError(f"{shown} cannot be read as an image ({why}); remove it or put a whole one there") from error
    return np.asarray(square).reshape(size, size, -1).transpose(2, 0, 1)


def _moments(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 N×C×H×W, scaled to 0…1."""
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in pixels.unbind(1):
        shares = np.bincount(channel.numpy().ravel(), minlength=256) / channel.numel()
        mean.append(float(shares @ values))
        std.append(max(float(np.sqrt(shares @ (values - mean[-1]) ** 2)), 1 / 255))  # one gray all over has none
    return tuple(mean), tuple(std)


FOLDER = Dataset(
    doc="""Your own images: any folder, with one subfolder for each class

    The option path names it. Two classes or more; .jpg, .png, .bmp, .tif, .webp and so on, at any depth of a subfolder.
    Subfolders train, val (or validation) and test are the splits, with the classes in them; a split without a folder
    is 15 % of the training images of each class, always the same ones. Hidden subfolders are left out. The shorter
    side of an image is scaled to the option size and the middle square is taken. Training mirrors images at random,
    as is right for photographs: where left and right matter, finetune with augment off.""",
    read=read,
    flip=True,
    sources=sources,
)
