"""What is in the published files of MNIST and CIFAR: idx, packed or not, and pickles, of which only data is taken."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from labbench.bench.errors import Stopped

MOST = 2**28  # bytes of an unpacked file: the largest published one has 155 million
CHUNK = 2**22  # bytes read between two looks at the stop
SIDE, PIXELS = 32, 3 * 32 * 32

# What broken files provoke in gzip, tarfile, pickle and here. A network that fails is an OSError, too.
FAILURES = (OSError, EOFError, zlib.error, tarfile.TarError, pickle.UnpicklingError, ValueError, KeyError, TypeError)


def _nothing() -> np.ndarray:
    return np.empty(0, np.uint8)


@dataclass(frozen=True)
class Part:
    """Images, labels, or both."""

    images: np.ndarray = field(default_factory=_nothing)
    """uint8 N×H×W or N×C×H×W."""
    labels: np.ndarray = field(default_factory=_nothing)
    """int64 N."""


def idx(path: Path, stopped: Callable[[], bool]) -> Part:
    """A file of http://yann.lecun.com/exdb/mnist: a magic number, the sizes (big-endian), the bytes.

    Raises one of `FAILURES`, or `Stopped`.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = _content(file, stopped)
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise ValueError(f"{path.name} is no file of bytes in the idx format")
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start].ljust(4 * content[3], b"\0"))
    if len(content) != start + int(np.prod(shape, dtype=object)):
        raise ValueError(f"{path.name} has {len(content):,} bytes, not as many as its head says")
    values = np.frombuffer(bytearray(content), np.uint8, offset=start).reshape(shape)
    match values.ndim:
        case 1:
            return Part(labels=values.astype(np.int64))
        case 3:
            return Part(images=values)
    raise ValueError(f"{path.name} has neither images nor labels")


def pickles(path: Path, md5: Mapping[str, str], stopped: Callable[[], bool]) -> dict[str, Part]:
    """The files of CIFAR with these names, from a tar archive or, where `path` is one of them, that one.

    Only bytes with these MD5s are looked into, and of these only arrays, numbers and names are taken.
    Raises one of `FAILURES`, or `Stopped`.
    """
    if path.name in md5:
        with path.open("rb") as single:
            return {path.name: _part(path.name, _content(single, stopped), md5[path.name])}
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name in md5 and (file := archive.extractfile(member)):
                found[name] = _part(name, _content(file, stopped), md5[name])
    if absent := [name for name in md5 if name not in found]:
        raise ValueError(f"{path.name} has no {absent[0]}")
    return found


def _content(file: io.BufferedIOBase | IO[bytes], stopped: Callable[[], bool]) -> bytes:
    content = bytearray()
    while chunk := file.read(CHUNK):
        content += chunk
        if stopped():
            raise Stopped
        if len(content) > MOST:
            raise ValueError(f"more than {MOST:,} bytes come out of it")
    return bytes(content)


def _part(name: str, content: bytes, md5: str) -> Part:
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{name} is not the published file: the MD5 differs")
    # NumPy 2.4.0 to 2.4.4 warn of how a pickle of 2009, as CIFAR is, spells its dtype (numpy#31177).
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        value = _OnlyData(io.BytesIO(content), encoding="latin1").load()
    if "data" not in value:  # the names of the classes
        return Part()
    labels = value["labels"] if "labels" in value else value["fine_labels"]
    images = np.asarray(value["data"], np.uint8).reshape(-1, PIXELS // SIDE**2, SIDE, SIDE)
    return Part(images, np.asarray(labels, np.int64))


class _OnlyData(pickle.Unpickler):
    """Knows arrays and their types, and no other thing that a pickle could call."""

    def find_class(self, module: str, name: str) -> Any:
        """What these names stand for."""
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy.core.multiarray", "_reconstruct":
                return np.empty(0).__reduce__()[0]
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return np.dtype
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no data")
