"""States as weights and a record that rebuilds structure, masks and clusters: in a file, a plain state_dict with the
record in its metadata; in the cache, tensor by tensor. None of it can run code."""

import json
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from safetensors.torch import save_file
from torch import Tensor, nn

from labbench.bench.errors import BenchError, clipped
from labbench.bench.states import foreign_weights, surgery, torch_file
from labbench.bench.states import paused as runs
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.paused import Paused
from labbench.bench.states.state import Kept, State
from labbench.bench.unkept import Unkept
from labbench.session.keys import UNKNOWN
from labbench.session.operations import Load
from labbench.session.snapshot import Accuracy
from labbench.session.store import RUN, Entry, Part, Piece, Store
from labbench.session.writing import whole

FORMAT = 1
RECORD = "labbench"  # the key in the metadata
VALUES = "labbench last values of "  # before the name of a layer; no module is called so
CLUSTERS = "labbench clusters of "
PICKLED = (".pth", ".pt")
SMALL = 4096  # bytes below which tensors share a file: each would take a block of the disk anyway


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a state_dict does not say of a state."""

    format: int = FORMAT
    load: Load
    """Model, options and data set: the loaded model."""
    shape: tuple[int, ...]
    """Of one image: channels, height, width."""
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    """Per channel, of pixels scaled to 0…1: images are normalized with it. Empty: floats as the data set gives them."""
    std: tuple[float, ...] = ()
    kept: dict[str, tuple[tuple[int, ...] | None, tuple[int, ...] | None]] = {}
    """Module, or tensor outside layers → remaining outputs and inputs, by their numbers in the loaded model."""
    masked: tuple[str, ...] = ()
    """Layers whose zeros are held."""
    loose_zeros: dict[str, tuple[int, ...]] = {}
    """Layer → flat positions of weights that are zero by chance, not by the mask."""
    clusters: dict[str, tuple[int, ...]] = {}
    """Layer → the cluster of each filter, or of each entry of the weight."""
    frozen: tuple[str, ...] = ()
    last: dict[str, str] = {}
    accuracy: dict[str, Accuracy] = {}


def record_of(state: State) -> str:
    """The record of a state, as JSON."""
    record = Record(
        load=state.load,
        shape=state.data.shape,
        classes=state.data.classes,
        mean=state.data.mean,
        std=state.data.std,
        kept={name: (kept.outputs, kept.inputs) for name, kept in state.kept.items()},
        masked=tuple(state.masks),
        loose_zeros=_loose_zeros(state),
        clusters={name: tuple(labels.flatten().tolist()) for name, labels in state.clusters.items()},
        frozen=tuple(sorted(state.frozen)),
        last=dict(state.last),
        accuracy=dict(state.accuracy),
    )
    return msgspec.json.encode(record).decode()


def save(state: State, path: Path) -> int:
    """Write a state, atomically; returns the bytes. Raises `BenchError` where the path cannot be written.

    .safetensors holds the record in its metadata, .pth and .pt hold it in the `_metadata` that torch gives a
    state_dict: whoever does not look for it finds names and tensors.
    """
    weights = state.model.state_dict()
    with replacing(path) as new:
        if path.suffix in PICKLED:
            metadata = {**getattr(weights, "_metadata", {}), RECORD: {RECORD: record_of(state)}}
            tensors = OrderedDict((name, tensor.detach().cpu()) for name, tensor in weights.items())
            tensors._metadata = metadata  # type: ignore[attr-defined]
            torch_file.write(tensors, new)
        else:
            plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            shared = Counter(tensor.untyped_storage().data_ptr() for tensor in plain.values())
            plain = {n: t.clone() if shared[t.untyped_storage().data_ptr()] > 1 else t for n, t in plain.items()}
            save_file(plain, new, {"format": "pt", RECORD: record_of(state)})
    return path.stat().st_size


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` if all goes well. Raises `BenchError` if it cannot."""
    try:
        with whole(path, named=True) as new:
            yield new
    except (OSError, SafetensorError) as error:
        raise BenchError(f"cannot write {path}: {error}") from error


def _loose_zeros(state: State) -> dict[str, tuple[int, ...]]:
    loose = {name: (state.weight(name) == 0) & mask for name, mask in state.masks.items()}
    return {name: tuple(zeros.flatten().nonzero().flatten().tolist()) for name, zeros in loose.items() if zeros.any()}


def read(path: Path, room: int | None = None) -> tuple[dict[str, Tensor], Record | None]:
    """Tensors and record of a weights file: .safetensors, or a state_dict in .pth/.pt. No code of it is run.

    A .pth may be a checkpoint such as {'state_dict': …}. Raises `BenchError` with what was wrong; before anything is
    allocated where that would take more than `room` bytes.
    """
    text: str | None
    if path.exists() and not path.is_file():
        raise BenchError(f"{path} is no file of plain weights: it is a folder, a pipe or a device")
    try:
        if room is not None and (size := _unpacked(path)) > room:
            raise BenchError(f"{path} unpacks to {_megabytes(size)}, and no file for this model needs more than "
                             f"{_megabytes(room)}: nothing of it was read")  # fmt: skip
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
                text = (file.metadata() or {}).get(RECORD)
            return tensors, _decoded(text)
        content = foreign_weights.unwrapped(torch.load(path, map_location="cpu", weights_only=True))
        text = getattr(content, "_metadata", {}).get(RECORD, {}).get(RECORD)
        record = _decoded(text)
    except BenchError:
        raise
    except FileNotFoundError:
        raise BenchError(f"no such file of weights: {path}") from None
    except msgspec.DecodeError as error:
        raise BenchError(f"{path}: its labbench record cannot be read: {error}") from error
    except Exception as error:  # torch.load raises whatever the bytes provoke
        raise BenchError(
            f"{path} is no file of plain weights; a state_dict in .pth, .pt or .safetensors is. Nothing of it was run "
            f"({clipped(_reason(error))})"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BenchError(f"{path} holds no state_dict: names and tensors were expected")
    for name, tensor in content.items():
        if not isinstance(name, str):
            raise BenchError(f"{path} has a key that is no name: {clipped(repr(name))}")
        if kind := _kind(tensor):
            raise BenchError(f"{path}: {clipped(name)} is {kind}; plain tensors of numbers were expected")
    return dict(content), record


def _unpacked(path: Path) -> int:
    """Bytes that a file of weights takes in memory by what it says itself: a .pth is a zip, and may be deflated."""
    size = path.stat().st_size
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return size
    with zipfile.ZipFile(path) as archive:
        return max(size, sum(entry.file_size for entry in archive.infolist()))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _kind(tensor: Tensor) -> str:
    """What a tensor is that holds no plain numbers, in words."""
    if tensor.is_meta:
        return "a tensor without numbers (on the device meta)"
    if tensor.is_quantized:
        return "quantized (dequantize() makes it plain)"
    if tensor.is_nested:
        return "a nested tensor"
    return "" if tensor.layout == torch.strided else "sparse (to_dense() makes it plain)"


def _decoded(text: str | None) -> Record | None:
    return msgspec.json.decode(text, type=Record) if text else None


def _reason(error: Exception) -> str:
    """Why a file could not be read, without torch's advice on how to run what is in it."""
    text = str(error)
    if wanted := re.search(r"GLOBAL (\S+)", text):
        return f"it wants to run {wanted[1]}"
    return text.splitlines()[0].partition(". ")[0] if text else type(error).__name__


def fill(state: State, tensors: Mapping[str, Tensor], record: Record | None, path: Path) -> State:
    """The freshly loaded state with these weights, and with the structure, masks and clusters of the record.

    Raises `BenchError` that lists the first tensors that do not fit.
    """
    tensors, values = _apart(tensors, VALUES, state.device)
    tensors, labels = _apart(tensors, CLUSTERS, state.device)
    model = filled(state.copy_model().cpu(), tensors, record, path).to(state.device)
    made = replace(state, model=model)
    if record is None:
        return made
    with _fitting(path):
        masks = {name: made.weight(name) != 0 for name in record.masked}
        for name, places in record.loose_zeros.items():
            masks[name].view(-1)[list(places)] = True
        clusters = {name: torch.tensor(listed, device=state.device) for name, listed in record.clusters.items()}
        clusters |= {name: found.long() for name, found in labels.items()}
        for name, found in clusters.items():
            weight = made.weight(name)
            if found.numel() not in (len(weight), weight.numel()):
                raise IndexError(f"{name} has {len(weight)} filters, not {found.numel()}")
            flat = found.dim() == 1 and len(found) == len(weight)
            clusters[name] = found if flat else found.view_as(weight)
    return replace(made, kept=_kept(record), masks=masks, values=values, clusters=clusters, last=dict(record.last))


def _apart(
    tensors: Mapping[str, Tensor], prefix: str, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors whose names do not begin so, and those whose names do: without it, on the device."""
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
    return rest, {name.removeprefix(prefix): tensors[name].to(device) for name in tensors if name not in rest}


def filled(model: nn.Module, tensors: Mapping[str, Tensor], record: Record | None, path: Path) -> nn.Module:
    """The freshly built model with these weights, in place, cut as the record says.

    Raises `BenchError` that lists the first tensors that do not fit.
    """
    if record:
        with _fitting(path):
            surgery.rebuild(model, _kept(record))
    _check_fit(model.state_dict(), tensors, path)
    model.load_state_dict(dict(tensors))
    return model


def _kept(record: Record) -> dict[str, Kept]:
    return {name: Kept(*sides) for name, sides in record.kept.items()}


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    try:
        yield
    except (AttributeError, IndexError, KeyError) as error:
        raise BenchError(f"{path}: its labbench record does not fit this model: {error}") from error


def _check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    wrong = [f"{clipped(name)} {_shape(expected.get(name))} in the model, {_shape(given.get(name))} in the file"
             for name in {**expected, **given}
             if _shape(expected.get(name)) != _shape(given.get(name))]  # fmt: skip
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BenchError(f"{path} does not fit the model: {'; '.join(wrong[:3])}{more}")


def _shape(tensor: Tensor | None) -> Any:
    return "absent" if tensor is None else "×".join(str(n) for n in tensor.shape) or "one number"


class Cache:
    """Checkpoints on disk by key, each tensor once; a cache: what is missing can be computed again."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` in bytes: the states that were used longest ago go first."""
        self.store, self.limit = Store(folder), limit
        self.unkept = Unkept()
        """What could not be written here."""
        self._last: dict[str, tuple[Tensor, Piece]] = {}
        """The large tensors of what was kept last, by name, and where they are: most of the next state are the same."""

    def put(self, key: str, state: State) -> None:
        """Keep a state. A folder that cannot be written costs recomputing, not the run."""
        if state.paused:
            self.put_run(key, state.paused)
        values = {f"{VALUES}{name}": value for name, value in state.values.items()}
        labels = {f"{CLUSTERS}{name}": _narrow(labels) for name, labels in state.clusters.items()}
        self._put(key, record_of(replace(state, clusters={})), {**state.model.state_dict(), **values, **labels})

    def get(self, key: str, fresh: Callable[[], State]) -> State | None:
        """The state of a key on the device and data of a freshly loaded one, or None if it is not there or broken.

        One that was computed on another machine must have the fingerprint in its key.
        """
        entry = self.store.get(key)
        if entry is None:
            return None
        try:
            tensors, record = self._tensors(entry), msgspec.json.decode(entry.text, type=Record)
            state = fresh()
        except (BenchError, OSError, ValueError, SafetensorError):
            return None
        try:
            filled = fill(state, tensors, record, self.store.path(key))
        except Exception:  # noqa: BLE001  # whatever the numbers of a stranger's record provoke
            return None
        filled = replace(filled, frozen=frozenset(record.frozen), accuracy=dict(record.accuracy))
        mark = key.rpartition("-")[2]
        if not entry.here and mark not in (UNKNOWN, fingerprint(filled)):
            return None
        self.store.use(key)
        return replace(filled, paused=self.get_run(key, filled))

    def put_run(self, key: str, paused: Paused) -> None:
        """Keep a run that was stopped, or is under way, by the name of a state, which need not be there."""
        tensors: dict[str, Tensor] = {}
        nest = runs.without_tensors(runs.content_of(paused), tensors)
        self._put(f"{key}{RUN}", json.dumps(nest), tensors)

    def get_run(self, key: str, state: State | None = None) -> Paused | None:
        """The run of a name; None if it is not there or broken.

        One that was stopped on another machine must be the one that left `state`.
        """
        entry = self.store.get(f"{key}{RUN}")
        if entry is None:
            return None
        try:
            found = runs.from_content(runs.with_tensors(json.loads(entry.text), self._tensors(entry)))
            if not entry.here and not (state and left(found, state)):
                return None
        except Exception:  # noqa: BLE001  # whatever a stranger's nest provokes
            return None
        self.store.use(f"{key}{RUN}")
        return found

    def _put(self, key: str, text: str, tensors: Mapping[str, Tensor]) -> None:
        done = False
        with self.unkept.tolerated("checkpoints"):
            entry, _ = self.store.put(key, text, self._parts(tensors))
            done = True
            if not key.endswith(RUN):
                self._last = {p.names[0]: (tensors[p.names[0]], p) for p in entry.pieces if len(p.names) == 1}
            self.store.hold(self.limit, key.removesuffix(RUN))
        if not done:
            with self.unkept.tolerated("checkpoints"):
                # what was written of it before the disk was full goes: the session needs the room
                self.store.shrink(self.limit, wait=0)

    def _parts(self, tensors: Mapping[str, Tensor]) -> Iterator[Piece | Part]:
        """Each tensor as the bytes of a .safetensors file that depends on nothing else; the small ones are one file."""
        small: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            before, piece = self._last.get(name, (None, None))
            if tensor.nbytes < SMALL:
                # views of one tensor cannot lie in one file
                small[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            elif before is not None and piece and same_bits(before, tensor) and self.store.has(piece):
                yield piece
            else:
                yield (name,), serialized({"0": tensor.detach().cpu().contiguous()})
        if small:
            yield tuple(small), serialized({str(number): tensor for number, tensor in enumerate(small.values())})

    def _tensors(self, entry: Entry) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for piece in entry.pieces:
            with safe_open(self.store.checked(piece), framework="pt") as file:
                found |= {name: file.get_tensor(str(number)) for number, name in enumerate(piece.names)}
        return found


def left(paused: Paused, state: State) -> bool:
    """Whether a state is what a stopped run left: the weights of its best epoch, or of its last step, to the last bit,
    and the best epoch's figures."""
    weights, figures = paused.weights, None
    if paused.best and paused.operation.keep == "best":
        figures, weights = paused.best[0], paused.best[1]
    there = state.model.state_dict()
    same = there.keys() == weights.keys() == paused.weights.keys()
    same = same and all(torch.equal(tensor.cpu(), weights[name]) for name, tensor in there.items())
    return same and (figures is None or state.accuracy.get("validation", figures) == figures)


def _narrow(labels: Tensor) -> Tensor:
    """The same numbers in fewer bytes."""
    largest = int(labels.max())
    return labels.to(next(kind for kind in (torch.uint8, torch.int16, torch.int32) if largest <= torch.iinfo(kind).max))


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same to the last bit, the signs of their zeros too. False where that takes long."""
    if (one.device, one.dtype, one.shape) != (other.device, other.dtype, other.shape):
        return False
    if not (one.is_contiguous() and other.is_contiguous()):
        return False
    words = torch.int32 if one.element_size() == 4 else torch.uint8  # as numbers, 0 and −0 would be equal
    return torch.equal(*(tensor.detach().view(-1).view(words) for tensor in (one, other)))
