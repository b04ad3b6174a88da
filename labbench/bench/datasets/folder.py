"""Any folder of images, one subfolder a class, as torchvision's ImageFolder takes it."""

import heapq
import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from labbench.bench.data.dataset import Dataset, Images, Reading
from labbench.bench.errors import BenchError, Stopped
from labbench.session.events import Progress

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
"""All that is opened, whatever a file is called: for others PIL starts programs (Ghostscript for PostScript)."""
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
HELD_OUT = 0.15  # of the training images of each class, for a split that has no folder
SEED = 1
PIXELS = 64_000_000  # of an image as it is decoded; a JPEG that has more can be decoded smaller
BYTES = 2**30  # of a file
COUNTED = 2**24  # values counted between two looks at the stop: a tenth of a second
GLANCE = 0.1  # seconds between two looks at the stop
NO_CLASSES = ("__MACOSX",)  # what macOS puts into zip files beside the folder
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
    left_out: tuple[str, ...] = ()
    """What could be meant as an image or a folder of images and is none, a sentence for each kind."""


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
    mean, std = _moments(reading, splits["train"][0])
    return Images(splits, listing.classes, mean, std, listing.left_out)


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
    found = {split: _Walk(reading, folder) for split, folder in folders.items()}
    classes = found["train"].classes
    for walk in found.values():
        walk.walk(classes)
    files = {split: walk.files for split, walk in found.items()}
    absent = [split for split in ("validation", "test") if split not in folders]
    _check(folders, classes, files, 1 + len(absent))
    files |= _parted(files["train"], absent)
    left_out = itertools.chain.from_iterable(walk.remarks() for walk in found.values())
    return Listing(tuple(classes), {split: files[split] for split in ("train", "validation", "test")}, tuple(left_out))


def _split_folders(top: Path) -> dict[str, Path]:
    """The folder of each split that has one. Without one to train with, the whole is that."""
    above = _above(top)
    names = [name for name in _subfolders(top) if _identity(top / name) not in above]
    found = {split: [name for name in names if name in known] for split, known in SPLIT_FOLDERS.items()}
    folders = {split: top / there[0] for split, there in found.items() if there}
    if "train" not in folders or (len(folders) == 1 and len(names) > 1):
        return {"train": top}
    if len(found["validation"]) > 1:
        raise BenchError(f"{top} has both {' and '.join(found['validation'])}; one of them is for validation")
    return folders


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if not _hidden(entry.name) and _holds(entry.is_dir))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in NO_CLASSES


def _holds(question: Callable[[], bool]) -> bool:
    """The answer to `is_dir` or `is_file`: no, where a link leads around in a circle."""
    try:
        return question()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _above(folder: Path) -> set[tuple[int, int]]:
    """The folder and all in which it lies."""
    real = folder.resolve()
    return {_identity(place) for place in (real, *real.parents)}


class _Walk:
    """The images of a split, at any depth under the subfolder of their class.

    Every folder is visited once, whatever links lead there; none in which the split itself lies.
    """

    def __init__(self, reading: Reading, folder: Path) -> None:
        """Look at the subfolders. Raises `OSError`."""
        self.files: Labelled = []
        self._reading = reading
        self._folder = folder
        self._known = _above(folder)
        self._again: list[Path] = []
        """Folders that were known already."""
        self._strange: list[Path] = []
        """What is called like an image and is no file."""
        names = sorted(_subfolders(folder), key=lambda name: (folder / name).is_symlink())
        self.classes = sorted(name for name in names if self._is_new(folder / name))

    def _is_new(self, folder: Path) -> bool:
        identity = _identity(folder)
        if identity in self._known:
            self._again.append(folder)
            return False
        self._known.add(identity)
        return True

    def walk(self, classes: Sequence[str]) -> None:
        """Find the files of these classes. Raises `BenchError` where there is another class, `OSError`, `Stopped`."""
        if strange := [name for name in self.classes if name not in classes]:
            raise BenchError(f"{self._folder / strange[0]} is a class that the training images do not have")
        waiting = [(label, self._folder / name) for label, name in enumerate(classes) if name in self.classes]
        links: list[tuple[int, Path]] = []
        found: list[tuple[int, str, list[str]]] = []
        while waiting or links:
            if not waiting:  # links last: an image has the class of the folder in which it really lies
                waiting = [heapq.heappop(links)]
                if not self._is_new(waiting[0][1]):
                    waiting = []
                continue
            label, folder = waiting.pop()
            names = []
            for entry in self._entries(folder):
                path = folder / entry.name
                if _holds(entry.is_dir):
                    if entry.is_symlink():
                        heapq.heappush(links, (label, path))
                    elif self._is_new(path):
                        waiting.append((label, path))
                elif entry.name.lower().endswith(EXTENSIONS):
                    if _holds(entry.is_file):
                        names.append(entry.name)
                    else:
                        self._strange.append(path)
            found.append((label, str(folder), sorted(names)))
        self.files = [(Path(folder, name), label) for label, folder, names in sorted(found) for name in names]

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if self._reading.stopped():
                    raise Stopped
                if not _hidden(entry.name):
                    yield entry

    def remarks(self) -> Iterator[str]:
        """What was left out, and why."""
        for why, paths in (("the same folder is there already", self._again), ("it is no file", self._strange)):
            if paths:
                first = os.fsencode(min(paths)).decode(errors="replace")
                more = f", and {len(paths) - 1:,} more like it" if len(paths) > 1 else ""
                yield f"left out {first}: {why}{more}"


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
    array, room = pixels.numpy(), _Room(2 * PIXELS)

    def convert(number: int) -> None:
        array[number] = _image(files[number], size, MODES[channels], room)

    def report(done: int) -> None:
        note = f"{done:,} of {len(files):,} images"
        reading.report(Progress(phase="convert", fraction=done / len(files), note=note))

    pool = ThreadPoolExecutor(os.cpu_count())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's, of files that are odd but readable
        try:
            for done, task in enumerate([pool.submit(convert, number) for number in range(len(files))]):
                while not task.done():
                    if reading.stopped():
                        raise Stopped
                    wait([task], GLANCE, FIRST_COMPLETED)
                task.result()
                if reading.stopped():
                    raise Stopped
                report(done)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # a slow disk may keep a thread; nobody needs it then
    return pixels


class _Room:
    """How many pixels may be decoded at once by all threads together: any one image, however large, or several."""

    def __init__(self, pixels: int) -> None:
        self._pixels, self._taken = pixels, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many, and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + pixels <= self._pixels)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


def _image(file: Path, size: int, mode: str, room: _Room) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError  # the worker is ready sooner without it

    try:
        if (length := file.stat().st_size) > BYTES:
            raise OSError(f"{length:,} bytes; at most {BYTES:,} are read")
        with Image.open(file, formats=FORMATS) as image:
            whole = image.width * image.height
            if whole > PIXELS:
                image.draft(None, (size, size))  # does nothing but with JPEGs
            if image.width * image.height > PIXELS:
                raise OSError(f"{image.width:,}×{image.height:,} pixels; at most {PIXELS // 10**6} million are read")
            with room.taken(whole):  # a progressive JPEG takes as much memory when it is decoded smaller
                deep = image.mode.startswith("I;16")  # PIL would make white of all but the darkest
                plain = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if deep else image
                square = ImageOps.fit(plain.convert(mode), (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # PIL raises whatever the bytes provoke
        match error:
            case UnidentifiedImageError():
                why = f"it is none of {', '.join(FORMATS)}"
            case Image.DecompressionBombError():
                why = f"too many pixels; at most {PIXELS // 10**6} million are read"
            case OSError(strerror=None):
                why = str(error)
            case _:
                why = type(error).__name__
        shown = os.fsencode(file).decode(errors="replace")
        raise BenchError(f"{shown} cannot be read as an image ({why}); remove it or put a whole one there") from error
    return np.asarray(square).reshape(size, size, -1).transpose(2, 0, 1)


def _moments(reading: Reading, pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 N×C×H×W, scaled to 0…1."""
    values = np.arange(256) / 255
    counts = np.zeros((pixels.shape[1], 256), dtype=np.int64)
    for part in pixels.split(max(1, COUNTED // pixels[0].numel())):  # counting takes eight bytes for each of them
        if reading.stopped():
            raise Stopped
        for channel, there in enumerate(part.unbind(1)):
            counts[channel] += np.bincount(there.numpy().ravel(), minlength=256)
    mean, std = [], []
    for shares in counts / (pixels.numel() // pixels.shape[1]):
        mean.append(float(shares @ values))
        std.append(max(float(np.sqrt(shares @ (values - mean[-1]) ** 2)), 1 / 255))  # one gray all over has none
    return tuple(mean), tuple(std)


FOLDER = Dataset(
    doc="""Your own images: any folder, with one subfolder for each class

    The option path names it. Two classes or more; .jpg, .png, .bmp, .tif, .webp and so on, at any depth of a subfolder.
    Subfolders train, val (or validation) and test are the splits, with the classes in them; a split without a folder
    is 15 % of the training images of each class, always the same ones. Hidden files and folders are left out, and
    links to folders that are there already. An image may have 64 million pixels, a JPEG more. The shorter side of an
    image is scaled to the option size and the middle square is taken. Training mirrors images at random, as is right
    for photographs: where left and right matter, finetune with augment off.""",
    read=read,
    flip=True,
    sources=sources,
)
