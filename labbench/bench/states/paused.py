"""A stopped run where its last step left it, so that it can go on as if nothing had been; in memory and in a file."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.serialization import get_crc32_options, set_crc32_options

from labbench.bench.states import torch_file
from labbench.session import reading
from labbench.session.events import Metric, Sparsity
from labbench.session.operations import Finetune
from labbench.session.snapshot import Accuracy
from labbench.session.writing import PRIVATE, whole


@dataclass(frozen=True)
class Paused:
    """Everything of a run that its state does not hold, on the CPU. Nothing here is ever changed."""

    operation: Finetune
    """As it was done, with the steps after which it was stopped."""
    step: int
    """Steps done, over all epochs; one more than `operation` says where the last epoch was not measured in full."""
    measured: int
    """The last epoch whose validation figures are known."""
    weights: Mapping[str, Tensor]
    """Of the last step; the state may hold those of the best epoch."""
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    plateau: tuple[float | None, int, float]
    drawn: Tensor
    """The random numbers from which the epoch under way was shuffled."""
    random: tuple[Tensor, ...]
    """Those of dropout, of the CPU and the GPU if there is one."""
    totals: Tensor
    """Sums of the figures of the epoch under way."""
    best: tuple[Accuracy, dict[str, Tensor], int] | None
    told: tuple[Metric | Sparsity, ...] = ()
    """Its curves and tables so far, as a recording has them. Only where the run was interrupted: whoever goes on, maybe
    in a recording of its own, has not heard of them."""


def copied(value: Any) -> Any:
    """A nest of tensors as copies on the CPU."""
    match value:
        case Tensor():
            return value.detach().to("cpu", copy=True)
        case Mapping():
            return {key: copied(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(copied(item) for item in value)
    return value


def save(paused: Paused, path: Path) -> None:
    """Write it, atomically; without check sums, which take as long as all the rest. Raises `OSError`."""
    checked = get_crc32_options()
    set_crc32_options(False)
    try:
        with whole(path, PRIVATE) as part:
            torch_file.write(content_of(paused), part)
    finally:
        set_crc32_options(checked)


def read(path: Path) -> Paused | None:
    """What `save` wrote; None where the file is not there or cannot be read. No code of it is run."""
    try:
        reading.opened(path).close()  # a pipe would be waited for
        return from_content(torch.load(path, map_location="cpu", weights_only=True))
    except Exception:  # noqa: BLE001  # torch.load raises whatever the bytes provoke
        return None


def content_of(paused: Paused) -> dict[str, Any]:
    """The fields as a nest of mappings, lists, tuples, numbers, words and tensors."""
    content = {field.name: getattr(paused, field.name) for field in fields(paused)}
    content["operation"] = msgspec.json.encode(paused.operation).decode()
    if paused.best:
        content["best"] = (msgspec.json.encode(paused.best[0]).decode(), *paused.best[1:])
    content["told"] = msgspec.json.encode(paused.told).decode()
    return content


def from_content(content: dict[str, Any]) -> Paused:
    """What `content_of` was given. Raises whatever a nest that is none provokes."""
    content = dict(content)
    content["operation"] = msgspec.json.decode(content["operation"], type=Finetune)
    if content["best"]:
        accuracy, weights, epoch = content["best"]
        content["best"] = msgspec.json.decode(accuracy, type=Accuracy), weights, epoch
    content["told"] = msgspec.json.decode(content.get("told", "[]"), type=tuple[Metric | Sparsity, ...])
    return Paused(**content)


def without_tensors(value: Any, tensors: dict[str, Tensor], name: str = "run") -> Any:
    """A nest as JSON can hold it; its tensors go into `tensors`, named by where they stood."""
    match value:
        case Tensor():
            tensors[name] = value
            return {"tensor": name}
        case Mapping():
            return {"map": [[key, without_tensors(item, tensors, f"{name} {key}")] for key, item in value.items()]}
        case tuple():
            return {"tuple": [without_tensors(item, tensors, f"{name} {n}") for n, item in enumerate(value)]}
        case list():
            return [without_tensors(item, tensors, f"{name} {n}") for n, item in enumerate(value)]
    return value


def with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The nest that `without_tensors` was given. Raises whatever another value provokes."""
    match value:
        case {"tensor": name}:
            return tensors[name]
        case {"map": items}:
            return {key: with_tensors(item, tensors) for key, item in items}
        case {"tuple": items}:
            return tuple(with_tensors(item, tensors) for item in items)
        case list():
            return [with_tensors(item, tensors) for item in value]
    return value
