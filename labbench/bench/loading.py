"""Opening a model on a data set: from a seed, or from a file of weights."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from msgspec.structs import replace as with_fields

from labbench.bench import checkpoints
from labbench.bench.choice import checked_options
from labbench.bench.datasets import DATASETS
from labbench.bench.devices import pick
from labbench.bench.errors import BenchError
from labbench.bench.models import MODELS
from labbench.bench.state import Data, State, trace_layers
from labbench.session.check import listed, meant
from labbench.session.operations import Load, Value

Find: TypeAlias = Callable[[str, Mapping[str, Value], int], Data]
"""A data set by name and checked options, at least so many pixels high and wide."""


def load(operation: Load, data: Find) -> tuple[State, Load]:
    """A new state and the operation as it was done: with the hash of the weights file."""
    state = fresh(operation, data)
    if not operation.weights:
        return state, operation
    path = Path(operation.weights).expanduser()
    tensors, record = checkpoints.read(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if operation.sha256 and operation.sha256 != digest:
        raise BenchError(f"{path} is not the file that was loaded when this was recorded (its SHA-256 differs)")
    if record and record.load.model != operation.model:
        raise BenchError(f"{path} holds a {record.load.model}, not a {operation.model}")
    return checkpoints.fill(state, tensors, record, path), with_fields(operation, sha256=digest)


def fresh(operation: Load, data: Find) -> State:
    """The state of a newly built model with weights from the seed, whatever file the operation names."""
    if operation.model not in MODELS:
        raise BenchError(
            f"no such model: {operation.model}; the models are {listed(MODELS)}{meant(operation.model, MODELS)}"
        )
    if operation.dataset not in DATASETS:
        raise BenchError(
            f"no such data set: {operation.dataset}; they are {listed(DATASETS)}{meant(operation.dataset, DATASETS)}"
        )
    model = MODELS[operation.model]
    options = checked_options(model.build, operation.options, operation.model)
    data_options = checked_options(DATASETS[operation.dataset].read, operation.data_options, operation.dataset)
    device = pick(operation.device)
    images = data(operation.dataset, data_options, model.side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(operation.seed)
        built = model.build(images.shape, len(images.classes), **options)
    built = built.to(device).eval()
    return State(
        load=operation, device=device, data=images, model=built, layers=trace_layers(built, images.shape, device)
    )
