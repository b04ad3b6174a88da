"""The tensors of every data set in memory-mapped files: what was read once is there at once, without its library.

It is a cache. A file that is broken, cut short or outdated is as good as none: the data set is read again and the file
replaced. A folder that cannot be written costs only the time.
"""

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from msgspec.structs import replace
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from labbench.bench.data.dataset import Dataset, Images, Reading
from labbench.bench.errors import Stopped
from labbench.bench.unkept import Unkept
from labbench.session.events import Progress
from labbench.session.writing import whole

FORMAT = 1
FOLDER = "cached"
"""Under the data folder."""
RECORD = "labbench"  # the key in the metadata
CHUNK = 2**26  # bytes summed between two looks at the stop: some hundredths of a second

# What a broken file provokes: safetensors and msgspec say what is wrong, torch refuses flipped types and shapes.
BROKEN = (OSError, SafetensorError, msgspec.MsgspecError, KeyError, ValueError, TypeError, RuntimeError)


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the tensors do not say: whose they are, and whether they are still what was written."""

    format: int
    dataset: str
    options: dict[str, Any]
    version: str
    """Of the data set's reading."""
    files: str
    """Fingerprint of the files that the images were made of."""
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    """Type and shape of each tensor, in the order of the splits."""
    checksum: int = 0
    """CRC-32 of this record, with 0 here, and the bytes of the tensors after it."""
    remarks: tuple[str, ...] = ()
    """Not written where there are none: so caches that were made before there were any stay good."""


def fingerprint(dataset: Dataset, reading: Reading, options: Mapping[str, Any]) -> str:
    """Names, sizes and times of the files that the images are made of, in a word; "" where there are none.

    Raises what `dataset.sources` raises."""
    lines = []
    for path in dataset.sources(reading, **options):
        if reading.stopped():
            raise Stopped
        with suppress(OSError):
            status = path.stat()
            lines.append(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n")
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest() if lines else ""


def read(
    name: str, dataset: Dataset, reading: Reading, options: Mapping[str, Any], files: str, unkept: Unkept | None = None
) -> Images:
    """What `dataset.read` gives for checked options, from the cache where that is whole and `files` is as it was then.

    The tensors of the cache are views of its file: they may be gigabytes, and nobody may write into them. (A write
    would not reach the file: it is mapped privately.) Where it cannot be written, `unkept` knows why. Raises what
    `dataset.read` raises.
    """
    record = Record(format=FORMAT, dataset=name, options=dict(options), version=dataset.version, files=files)
    path = reading.data_dir / FOLDER / _file_name(name, options)
    with suppress(*BROKEN):
        if found := _opened(path, record, reading):
            return found
    images = dataset.read(reading, **options)
    now = fingerprint(dataset, reading, options)
    if files in ("", now):  # else they changed meanwhile
        with (unkept or Unkept()).tolerated("data sets"):
            _write(path, images, replace(record, files=now), reading)
    return images


def _file_name(name: str, options: Mapping[str, Any]) -> str:
    if not options:
        return f"{name}.safetensors"
    digest = hashlib.sha256(msgspec.json.encode(dict(options), order="sorted")).hexdigest()
    return f"{name}-{digest[:16]}.safetensors"


def _opened(path: Path, wanted: Record, reading: Reading) -> Images | None:
    with safe_open(path, framework="pt") as file:
        record = msgspec.json.decode(file.metadata()[RECORD], type=Record)
        if any(getattr(record, key) != getattr(wanted, key) for key in ("format", *_ORIGIN)):
            return None
        tensors = {name: file.get_tensor(name) for name in record.kinds}
    if _kinds(tensors) != record.kinds or _checksum(record, tensors, reading) != record.checksum:
        return None
    splits = [name.removesuffix(".images") for name in tensors if name.endswith(".images")]
    return Images(
        {split: (tensors[f"{split}.images"], tensors[f"{split}.labels"]) for split in splits},
        classes=record.classes,
        mean=record.mean,
        std=record.std,
        remarks=record.remarks,
    )


_ORIGIN = ("dataset", "options", "version", "files")


def _write(path: Path, images: Images, record: Record, reading: Reading) -> None:
    tensors = dict(_named(images))
    record = replace(
        record,
        classes=images.classes,
        mean=images.mean,
        std=images.std,
        kinds=_kinds(tensors),
        remarks=images.remarks,
    )
    record = replace(record, checksum=_checksum(record, tensors, reading))
    with whole(path) as part:
        save_file(tensors, part, {RECORD: _encoded(record).decode()})


def _encoded(record: Record) -> bytes:
    fields = msgspec.to_builtins(record)
    return msgspec.json.encode({key: value for key, value in fields.items() if key != "remarks" or value})


def _named(images: Images) -> Iterator[tuple[str, Tensor]]:
    for split, (x, y) in images.splits.items():
        yield f"{split}.images", x.contiguous()
        yield f"{split}.labels", y.contiguous()


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in tensors.items()}


def _checksum(record: Record, tensors: Mapping[str, Tensor], reading: Reading) -> int:
    total = sum(tensor.nbytes for tensor in tensors.values())
    done = 0
    checksum = zlib.crc32(_encoded(replace(record, checksum=0)))
    for tensor in tensors.values():
        for chunk in tensor.flatten().view(torch.uint8).split(CHUNK):
            if reading.stopped():
                raise Stopped
            checksum = zlib.crc32(chunk.numpy(), checksum)
            done += len(chunk)
            if total > CHUNK:
                reading.report(Progress(phase="check", fraction=done / total, note=record.dataset))
    return checksum
