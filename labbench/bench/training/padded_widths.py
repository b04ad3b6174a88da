"""Layers that were cut to odd widths train as if they had a few more channels, of zeros: kernels are made for multiples
of 8. The zeros are added to the weights as they are used, so that nothing else of a run knows of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.pruning.graph import Graph, Group, Uncuttable
from labbench.bench.states.state import State
from labbench.bench.states.surgery import part, widths
from labbench.bench.training.forwards import as_written, compute_by, has_own_forward

MULTIPLE = 8
TOLERANCE = 1e-4  # of the answers with zeros against those without, relative, in fp32
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass
class Extra:
    """How many channels of zeros are added to those that a module gives and to those that it takes."""

    outputs: int = 0
    inputs: int = 0


def extras(state: State) -> dict[str, Extra]:
    """What is added to which module, so that the channels that were cut are multiples of 8 again.

    Not covered: grouped convolutions, channels that are put side by side with others, and whatever is frozen in part.
    """
    layers = {n: kept for n, kept in state.kept.items() if isinstance(part(state.model, n), nn.Module)}
    odd = [n for n, kept in layers.items() if kept.outputs is not None and len(kept.outputs) % MULTIPLE]
    added: dict[str, Extra] = {}
    if not odd:
        return added
    try:
        graph = Graph(state.copy_model().cpu().float(), state.data.shape)
    except BenchError:
        return added
    for name in odd:
        if name not in added or not added[name].outputs:
            try:
                group = graph.group(name)
            except Uncuttable:
                continue
            if _fits(group, state):
                _add(group, state, added)
    return added


def _fits(group: Group, state: State) -> bool:
    members = {**group.outputs, **group.inputs}
    return (
        group.blocks == 1
        and not any(name in state.frozen for name in members)
        and all(_widens(part(state.model, name)) for name in members)
        and all(_each(state, name, coupling, out=True) == 1 for name, coupling in group.outputs.items())
        and all(_each(state, name, coupling, out=False) for name, coupling in group.inputs.items())
    )


def _widens(module: nn.Module | Tensor) -> bool:
    if isinstance(module, nn.Module) and has_own_forward(module):
        return False
    if isinstance(module, NORMS):
        return module.track_running_stats and module.momentum is not None
    plain = type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros"
    return plain or type(module) is nn.Linear


def _each(state: State, name: str, coupling: Mapping[int, tuple[int, ...]], *, out: bool) -> int:
    """So many channels of the module stand, one after another, for each of the group; 0 where that is not so."""
    width = widths(state.module(name))[0 if out else 1]
    each = width // len(coupling)
    in_order = all(n == tuple(range(c * each, (c + 1) * each)) for c, n in coupling.items())
    return each if in_order and each * len(coupling) == width else 0


def _add(group: Group, state: State, added: dict[str, Extra]) -> None:
    more = -group.channels % MULTIPLE
    for name in group.outputs:
        added.setdefault(name, Extra()).outputs = more
    for name, coupling in group.inputs.items():
        added.setdefault(name, Extra()).inputs = more * _each(state, name, coupling, out=False)


def widen(model: nn.Module, added: Mapping[str, Extra], example: Tensor) -> bool:
    """Let these modules add their zeros while the model as a whole is in training mode; whether that is done.

    It is not where the answers to `example`, images, would be others: something depends on how many channels there are.
    """
    for name, extra in added.items():
        module: Any = model.get_submodule(name)
        forward: Any = _norm if isinstance(module, NORMS) else _linear if isinstance(module, nn.Linear) else _conv
        compute_by(module, forward, model, module, extra)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            expected = model(example)
            model.training = True
            answer = model(example)
    finally:
        for module, mode in modes.items():
            module.training = mode
    right = bool((answer - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp_min(1e-30))
    if not right:
        as_written(model)
    return right


def _conv(model: nn.Module, conv: nn.Conv2d, extra: Extra, x: Tensor) -> Tensor:
    if not model.training:
        return nn.Conv2d.forward(conv, x)
    weight = F.pad(conv.weight, (0, 0, 0, 0, 0, extra.inputs, 0, extra.outputs))
    bias = None if conv.bias is None else F.pad(conv.bias, (0, extra.outputs))
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation)


def _linear(model: nn.Module, linear: nn.Linear, extra: Extra, x: Tensor) -> Tensor:
    if not model.training:
        return nn.Linear.forward(linear, x)
    bias = None if linear.bias is None else F.pad(linear.bias, (0, extra.outputs))
    return F.linear(x, F.pad(linear.weight, (0, extra.inputs, 0, extra.outputs)), bias)


def _norm(model: nn.Module, norm: nn.BatchNorm2d, extra: Extra, x: Tensor) -> Tensor:
    if not model.training:
        return type(norm).forward(norm, x)
    more = 0, extra.outputs
    weight = None if norm.weight is None else F.pad(norm.weight, more)
    bias = None if norm.bias is None else F.pad(norm.bias, more)
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    mean, variance = F.pad(norm.running_mean, more), F.pad(norm.running_var, more, value=1.0)
    out = F.batch_norm(x, mean, variance, weight, bias, norm.training, norm.momentum or 0.0, norm.eps)
    if norm.training:
        norm.running_mean.copy_(mean[: norm.num_features])
        norm.running_var.copy_(variance[: norm.num_features])
        norm.num_batches_tracked.add_(1)
    return out
