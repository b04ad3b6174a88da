"""States as files of weights: a plain state_dict with a record in the metadata that rebuilds structure, masks and
clusters. Exports and checkpoints are the same kind of file; none of them can run code."""

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from labbench.bench import foreign, surgery
from labbench.bench import paused as runs
from labbench.bench.errors import BenchError
from labbench.bench.paused import Paused
from labbench.bench.state import Kept, State
from labbench.session.operations import Load
from labbench.session.snapshot import Accuracy

FORMAT = 1
RECORD = "labbench"  # the key in the metadata
VALUES = "labbench last values of "  # before the name of a layer; no module is called so
PICKLED = (".pth", ".pt")
RUNS = 8  # interrupted runs that are kept for whoever comes back


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
    """Module → remaining outputs and inputs, by their numbers in the loaded model."""
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


def save(state: State, path: Path, *, values: bool = False) -> int:
    """Write a state, atomically; returns the bytes. Raises `BenchError` where the path cannot be written.

    With `values` a .safetensors also holds the last values of pruned weights, and is no plain state_dict then.

    .safetensors holds the record in its metadata, .pth and .pt hold it in the `_metadata` that torch gives a
    state_dict: whoever does not look for it finds names and tensors.
    """
    weights = state.model.state_dict()
    with replacing(path) as new:
        if path.suffix in PICKLED:
            metadata = {**getattr(weights, "_metadata", {}), RECORD: {RECORD: record_of(state)}}
            tensors = OrderedDict((name, tensor.detach().cpu()) for name, tensor in weights.items())
            tensors._metadata = metadata  # type: ignore[attr-defined]
            torch.save(tensors, new)
        else:
            plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            shared = Counter(tensor.untyped_storage().data_ptr() for tensor in plain.values())
            plain = {n: t.clone() if shared[t.untyped_storage().data_ptr()] > 1 else t for n, t in plain.items()}
            if values:
                plain |= {f"{VALUES}{name}": value.cpu().contiguous() for name, value in state.values.items()}
            save_file(plain, new, {"format": "pt", RECORD: record_of(state)})
    return path.stat().st_size


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` if all goes well. Raises `BenchError` if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            new = Path(folder) / path.name
            new.touch()
            mode = new.stat().st_mode
            yield new
            new.chmod(mode)  # safetensors lets nobody else read what it writes
            os.replace(new, path)
    except (OSError, SafetensorError) as error:
        raise BenchError(f"cannot write {path}: {error}") from error


def _loose_zeros(state: State) -> dict[str, tuple[int, ...]]:
    loose = {name: (state.weight(name) == 0) & mask for name, mask in state.masks.items()}
    return {name: tuple(zeros.flatten().nonzero().flatten().tolist()) for name, zeros in loose.items() if zeros.any()}


def read(path: Path) -> tuple[dict[str, Tensor], Record | None]:
    """Tensors and record of a weights file: .safetensors, or a state_dict in .pth/.pt. No code of it is run.

    A .pth may be a checkpoint such as {'state_dict': …}. Raises `BenchError` with what was wrong.
    """
    text: str | None
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
                text = (file.metadata() or {}).get(RECORD)
            return tensors, _decoded(text)
        content = foreign.unwrapped(torch.load(path, map_location="cpu", weights_only=True))
        text = getattr(content, "_metadata", {}).get(RECORD, {}).get(RECORD)
        record = _decoded(text)
    except FileNotFoundError:
        raise BenchError(f"no such file of weights: {path}") from None
    except msgspec.DecodeError as error:
        raise BenchError(f"{path}: its labbench record cannot be read: {error}") from error
    except Exception as error:  # torch.load raises whatever the bytes provoke
        raise BenchError(
            f"{path} is no file of plain weights; a state_dict in .pth, .pt or .safetensors is. Nothing of it was run "
            f"({_reason(error)})"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BenchError(f"{path} holds no state_dict: names and tensors were expected")
    return dict(content), record


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
    values = {name.removeprefix(VALUES): tensors[name].to(state.device) for name in tensors if name.startswith(VALUES)}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(VALUES)}
    model = filled(state.copy_model().cpu(), tensors, record, path).to(state.device)
    made = replace(state, model=model)
    if record is None:
        return made
    with _fitting(path):
        masks = {name: made.weight(name) != 0 for name in record.masked}
        for name, places in record.loose_zeros.items():
            masks[name].view(-1)[list(places)] = True
        clusters = {name: torch.tensor(labels, device=state.device) for name, labels in record.clusters.items()}
        for name, labels in clusters.items():
            weight = made.weight(name)
            if len(labels) not in (len(weight), weight.numel()):
                raise IndexError(f"{name} has {len(weight)} filters, not {len(labels)}")
            clusters[name] = labels if len(labels) == len(weight) else labels.view_as(weight)
    return replace(made, kept=_kept(record), masks=masks, values=values, clusters=clusters, last=dict(record.last))


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
    wrong = [f"{name} {_shape(expected.get(name))} in the model, {_shape(given.get(name))} in the file"
             for name in {**expected, **given}
             if _shape(expected.get(name)) != _shape(given.get(name))]  # fmt: skip
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BenchError(f"{path} does not fit the model: {'; '.join(wrong[:3])}{more}")


def _shape(tensor: Tensor | None) -> Any:
    return "absent" if tensor is None else "×".join(str(n) for n in tensor.shape) or "one number"


class Cache:
    """Checkpoints on disk by key; a cache: what is missing can be computed again."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` in bytes: the files that were used longest ago go first."""
        self.folder, self.limit = folder, limit

    def path(self, key: str) -> Path:
        """The file of a key."""
        return self.folder / f"{key}.safetensors"

    def put(self, key: str, state: State) -> None:
        """Keep a state. A folder that cannot be written costs recomputing, not the run."""
        with suppress(BenchError, OSError):  # another session may clear the same folder
            save(state, self.path(key), values=True)
            if state.paused:
                runs.save(state.paused, self._run(key))
            files = sorted(self.folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
            total = 0
            for file in files:
                run = self._run(file.stem)
                total += file.stat().st_size + (run.stat().st_size if run.exists() else 0)
                if total > self.limit and file != self.path(key):
                    file.unlink(missing_ok=True)
                    run.unlink(missing_ok=True)

    def get(self, key: str, fresh: Callable[[], State]) -> State | None:
        """The state of a key on the device and data of a freshly loaded one, or None if it is not there or broken."""
        path = self.path(key)
        if not path.exists():
            return None
        try:
            tensors, record = read(path)
            if record is None:
                return None
            filled = fill(fresh(), tensors, record, path)
            os.utime(path)
        except (BenchError, OSError):
            return None
        paused = runs.read(self._run(key))
        return replace(filled, frozen=frozenset(record.frozen), accuracy=dict(record.accuracy), paused=paused)

    def put_run(self, key: str, paused: Paused) -> None:
        """Keep a run under way; those that nobody came back to go. A folder that cannot be written costs epochs."""
        with suppress(OSError):
            runs.save(paused, self._under_way(key))
            times = {path: path.stat().st_mtime for path in self.folder.glob("*.run")}
            for path in sorted(times, key=lambda path: times[path])[:-RUNS]:
                path.unlink(missing_ok=True)

    def get_run(self, key: str) -> Paused | None:
        """The run of a key where it was kept last, or None if it is not there or broken."""
        return runs.read(self._under_way(key))

    def drop_run(self, key: str) -> None:
        """The run has ended: nobody goes on with it."""
        with suppress(OSError):
            self._under_way(key).unlink(missing_ok=True)

    def _under_way(self, key: str) -> Path:
        """The file of a run that did not end yet."""
        return self.folder / f"{key}.run"

    def _run(self, key: str) -> Path:
        """The file of the run that was stopped and left the state of this key."""
        return self.folder / f"{key}.paused"
