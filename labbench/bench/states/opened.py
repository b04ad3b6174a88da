"""Opening a model on a data set: of the catalogue or of one's own, from a seed or from a file of weights."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from msgspec.structs import replace as with_fields
from torch import Tensor, nn

from labbench.bench.datasets import DATASETS
from labbench.bench.errors import BenchError, clipped
from labbench.bench.models import MODELS, Model
from labbench.bench.states import checkpoints, foreign_weights
from labbench.bench.states.chosen_layers import checked_options, shortened
from labbench.bench.states.devices import pick
from labbench.bench.states.state import Data, State, trace_layers, traced
from labbench.bench.states.user_model import OwnModels, fixed_layers, guarded
from labbench.session.check import listed, meant
from labbench.session.operations import Load, Value
from labbench.session.own import is_own

COPIES, SPARE = 10, 2**26
"""A file of weights may be so many times as large as the model, and so many bytes more."""
Find: TypeAlias = Callable[[str, Mapping[str, Value], int], Data]
"""A data set by name and checked options, at least so many pixels high and wide."""


def load(operation: Load, data: Find, own: OwnModels | None = None) -> tuple[State, Load, tuple[str, ...]]:
    """A new state, the operation as it was done (with the hashes of what was read), and remarks."""
    state, remarks = _opened(operation, data, own)
    remarks = state.data.remarks + remarks + other_code(operation, state.load)
    if state.frozen:
        remarks += (f"frozen, because the model itself holds them fixed: {shortened(sorted(state.frozen))}",)
    operation = state.load
    if not operation.weights:
        return state, operation, remarks
    path = Path(operation.weights).expanduser()
    tensors, record = checkpoints.read(path, _room(state.model))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if operation.sha256 and operation.sha256 != digest:
        raise BenchError(f"{path} is not the file that was loaded when this was recorded (its SHA-256 differs)")
    if record and record.load.model != operation.model:
        raise BenchError(f"{path} holds a {clipped(record.load.model)}, not a {operation.model}")
    if record:
        return checkpoints.fill(state, tensors, record, path), with_fields(operation, sha256=digest), remarks
    plain = foreign_weights.plain(tensors, state.model.state_dict())
    filled, held = _holding(checkpoints.fill(state, plain.tensors, None, path), plain.masks)
    return filled, with_fields(operation, sha256=digest), (*remarks, *plain.remarks, *held)


def _room(model: nn.Module) -> int:
    """Bytes that a file of a model's weights may take: masks, double precision and an optimizer's state beside them."""
    return SPARE + COPIES * sum(tensor.nbytes for tensor in model.state_dict().values())


def _holding(state: State, masks: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """The state with the zeros of these masks (by tensor name) held where the bench holds zeros, and remarks."""
    prunable = {f"{layer.name}.weight": layer.name for layer in state.layers if layer.prunable}
    held = {layer: masks[name].to(state.device) for name, layer in prunable.items() if name in masks}
    loose = [name for name in masks if name not in prunable]
    remarks = [f"zeros held in {shortened(list(held))}"] if held else []
    if loose:
        remarks.append(f"zero now, but free to train again: what was masked in {shortened(loose)}")
    return replace(state, masks=held, last=dict.fromkeys(held, "masked in the file")), remarks


def fresh(operation: Load, data: Find, own: OwnModels | None = None) -> State:
    """The state of a newly built model with weights from the seed, whatever file the operation names.

    Its `load` has the hash of the code that was run.
    """
    return _opened(operation, data, own)[0]


def _opened(operation: Load, data: Find, own: OwnModels | None) -> tuple[State, tuple[str, ...]]:
    """`fresh`, and remarks."""
    if is_own(operation.model):
        return _opened_own(operation, data, own or OwnModels())
    model, _ = _model(operation)
    if operation.dataset not in DATASETS:
        raise BenchError(
            f"no such data set: {operation.dataset}; they are {listed(DATASETS)}{meant(operation.dataset, DATASETS)}"
        )
    data_options = checked_options(DATASETS[operation.dataset].read, operation.data_options, operation.dataset)
    device = pick(operation.device)
    images = data(operation.dataset, data_options, model.side)
    built = build(operation, images.shape, len(images.classes)).to(device)
    layers = trace_layers(built, images.shape, device)
    return State(load=operation, device=device, data=images, model=built, layers=layers), ()


def build(operation: Load, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The model that a load names, for images of that shape, with weights from its seed: on the CPU, in eval mode."""
    model, options = _model(operation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(operation.seed)
        return model.build(shape, classes, **options).eval()


def _model(operation: Load) -> tuple[Model, dict[str, Any]]:
    if operation.model not in MODELS:
        raise BenchError(
            f"no such model: {operation.model}; the models are {listed(MODELS)}{meant(operation.model, MODELS)}"
        )
    model = MODELS[operation.model]
    return model, checked_options(model.build, operation.options, operation.model)


def _opened_own(operation: Load, data: Find, own: OwnModels) -> tuple[State, tuple[str, ...]]:
    """`_opened` for code of the user's own."""
    data_options = checked_options(DATASETS[operation.dataset].read, operation.data_options, operation.dataset)
    device = pick(operation.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(operation.seed)
        prepared = own.prepared(operation)
        images = data(operation.dataset, data_options, prepared.side)
        torch.manual_seed(operation.seed)
        built, remarks = prepared.build(images.shape, len(images.classes), device)
    with guarded(f"{operation.model} cannot be traced"):
        layers, of_features = traced(built, images.shape, device)
    if of_features:
        remarks += (f"MACs leave out {of_features:,} of features with each other, as in attention",)
    if not any(layer.prunable for layer in layers):
        raise BenchError(f"{operation.model} has no convolution and no linear layer: there is nothing to prune")
    state = State(
        load=with_fields(operation, code_sha256=prepared.code),
        device=device,
        data=images,
        model=built,
        layers=layers,
        frozen=fixed_layers(built, {layer.name: layer.parameters for layer in layers}),
    )
    return state, remarks


def other_code(recorded: Load, done: Load) -> tuple[str, ...]:
    """A remark where a model's code is not that which was recorded, or none."""
    if recorded.code_sha256 in ("", done.code_sha256):
        return ()
    return (f"{done.model} is not the code that was recorded (its SHA-256 differs)",)
