"""A stopped run where its last step left it, so that it can go on as if nothing had been; in memory and in a file."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from labbench.bench.writing import whole
from labbench.session.operations import Finetune
from labbench.session.snapshot import Accuracy


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
    """Write it, atomically. Raises `OSError`."""
    content = {field.name: getattr(paused, field.name) for field in fields(paused)}
    content["operation"] = msgspec.json.encode(paused.operation).decode()
    if paused.best:
        content["best"] = (msgspec.json.encode(paused.best[0]).decode(), *paused.best[1:])
    with whole(path) as part:
        torch.save(content, part)


def read(path: Path) -> Paused | None:
    """What `save` wrote; None where the file is not there or cannot be read. No code of it is run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content["operation"] = msgspec.json.decode(content["operation"], type=Finetune)
        if content["best"]:
            accuracy, weights, epoch = content["best"]
            content["best"] = msgspec.json.decode(accuracy, type=Accuracy), weights, epoch
        return Paused(**content)
    except Exception:  # noqa: BLE001  # torch.load raises whatever the bytes provoke
        return None
