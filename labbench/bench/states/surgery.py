"""Where weights are changed by hand: zeroed, shared, removed. Works on copies: `twin` checks every cut."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from labbench.bench.states.state import BATCH_NORM, CONV, Kept, weight_of

NORMS_BY_CHANNEL = (*BATCH_NORM, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
CUTTABLE = (*CONV, nn.Linear, *NORMS_BY_CHANNEL, nn.GroupNorm, nn.PReLU)
BY_CHANNEL = frozenset({"weight", "bias", "running_mean", "running_var"})
"""Tensors of those modules that lie outputs × inputs × …, or have an entry for each output."""


def zero_weights(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the weights to zero where the mask of their layer is False. In place: give a copy."""
    with torch.no_grad():
        for name, mask in masks.items():
            weight_of(model, name).mul_(mask)


def share_filters(
    weight: Tensor, share: Callable[..., tuple[Tensor, Tensor | None]], k: int, seed: int, options: Mapping[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """A weight with shared filters, and the cluster of each filter, or of each entry in the weight's shape.

    `share` is that of a clustering of the catalogue; `weight` is out × … and has more than `k` distinct filters.
    """
    device = weight.device if weight.device.type == "cuda" else torch.device("cpu")  # others have no float64
    vectors = weight.detach().to(device).flatten(1).float()
    shared, labels = share(vectors, k, seed, **options)
    if labels is not None:
        labels = labels.to(weight.device)
        labels = labels.view_as(weight) if labels.dim() > 1 else labels
    return shared.to(weight.dtype).view_as(weight).to(weight.device), labels


Gone: TypeAlias = dict[str, tuple[set[int], set[int]]]
"""Module, or parameter or buffer outside layers → the numbers of the output and of the input channels that go, as they
are before they go. Those of a bare tensor lie along its first and its second dimension."""


def part(model: nn.Module, name: str) -> nn.Module | Tensor:
    """A module, or a parameter or buffer that lies outside layers, by its name. Raises `AttributeError` for neither."""
    owner, _, key = name.rpartition(".")
    module = model.get_submodule(owner)
    bare = module._parameters.get(key, module._buffers.get(key))
    return model.get_submodule(name) if bare is None else bare


def tensors_of(found: nn.Module | Tensor) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a part of a model, those of its own."""
    if isinstance(found, Tensor):
        yield "", found
    else:
        yield from found.named_parameters(recurse=False)
        yield from found.named_buffers(recurse=False)


def axes(found: nn.Module | Tensor, key: str, tensor: Tensor) -> tuple[int | None, int | None] | None:
    """Along which dimensions of a tensor its module's output and input channels lie; None where nothing says so.

    Tensors that a subclass adds are told by their sizes, as long as these are no coincidence.
    """
    if tensor.numel() == 1 and key not in BY_CHANNEL:
        return None, None
    if isinstance(found, Tensor) or key in BY_CHANNEL or tensor.shape == getattr(found, "weight", tensor[None]).shape:
        return 0, 1 if tensor.dim() > 1 else None
    outs, ins = widths(found)
    sides = [[place for place, size in enumerate(tensor.shape) if size == width] for width in (outs, ins)]
    if outs == ins or groups_of(found) > 1 or any(len(places) > 1 for places in sides):
        return None
    out, into = (places[0] if places else None for places in sides)
    return out, into


def remove_filters(model: nn.Module, gone: Gone) -> None:
    """Cut channels out of a model, in place: give a copy."""
    rebuild(model, {name: kept_after(part(model, name), *sides) for name, sides in gone.items()})


def kept_after(found: nn.Module | Tensor, outputs: set[int], inputs: set[int]) -> Kept:
    """What remains of a module's channels, by their numbers now."""
    outs, ins = widths(found)
    return Kept(
        tuple(channel for channel in range(outs) if channel not in outputs) if outputs else None,
        tuple(channel for channel in range(ins) if channel not in inputs) if inputs else None,
    )


def widths(found: nn.Module | Tensor) -> tuple[int, int]:
    """Output and input channels of a part of a model now; a norm has only outputs."""
    if isinstance(found, Tensor):
        return len(found), found.shape[1] if found.dim() > 1 else 0
    if isinstance(found, CONV):
        return found.out_channels, found.in_channels
    if isinstance(found, nn.Linear):
        return found.out_features, found.in_features
    return next((len(tensor) for _, tensor in tensors_of(found) if tensor.dim()), 0), 0


def silence(model: nn.Module, gone: Gone) -> None:
    """Make the output channels that go zero, whatever comes in, and let nobody read them. In place: give a copy."""
    with torch.no_grad():
        for name, sides in gone.items():
            found = part(model, name)
            if isinstance(found, Tensor):
                for dim, channels in enumerate(sides):
                    if channels:
                        found.index_fill_(dim, torch.tensor(sorted(channels)), 0)
                continue
            if sides[1]:
                found.register_forward_pre_hook(partial(_unread, channels=sorted(sides[1])))
            # a norm without weights passes on what it is given less the mean
            speaking = any(True for _ in found.parameters(recurse=False))
            for key, tensor in tensors_of(found):
                along, _ = axes(found, key, tensor) or (None, None)
                if along is not None and (key in found._parameters if speaking else key == "running_mean"):
                    tensor.index_fill_(along, torch.tensor(sorted(sides[0]), dtype=torch.int64), 0)


def _unread(module: nn.Module, inputs: tuple[Tensor, ...], channels: list[int]) -> tuple[Tensor, ...]:
    """The inputs of a layer with some channels at zero: on the way there something may have been added to them."""
    dim = -1 if isinstance(module, nn.Linear) else 1
    return (inputs[0].index_fill(dim, torch.tensor(channels), 0), *inputs[1:]) if inputs else inputs


def rebuild(model: nn.Module, kept: Mapping[str, Kept]) -> None:
    """Cut a model to the channels of a record, in place. The weights that remain are the model's own."""
    for name, channels in kept.items():
        found = part(model, name)
        smaller = {key: _smaller(found, key, tensor, channels) for key, tensor in tensors_of(found)}
        if isinstance(found, Tensor):
            owner, _, key = name.rpartition(".")
            module, smaller = model.get_submodule(owner), {key: smaller[""]}
        else:
            module = found
            _resize(module, channels)
        for key, tensor in smaller.items():
            if key in module._parameters:
                trains = tensor.is_floating_point() or tensor.is_complex()
                setattr(module, key, nn.Parameter(tensor, requires_grad=trains))
            elif tensor.dim():
                setattr(module, key, tensor)


def _smaller(found: nn.Module | Tensor, key: str, tensor: Tensor, kept: Kept) -> Tensor:
    side = axes(found, key, tensor)
    tensor = tensor.detach()
    if side == (0, 1) or (side == (0, None) and tensor.dim() == 1):
        return sliced(tensor, kept, groups_of(found))
    for dim, channels in zip(side or (), (kept.outputs, kept.inputs), strict=False):
        if dim is not None and channels is not None:
            tensor = tensor.index_select(dim, torch.tensor(channels, device=tensor.device))
    return tensor.clone()


def groups_of(found: nn.Module | Tensor) -> int:
    """In how many groups a convolution's inputs are read; 1 for everything else."""
    return found.groups if isinstance(found, CONV) else 1


def sliced(values: Tensor, kept: Kept, groups: int = 1) -> Tensor:
    """A tensor of the loaded layer (out, or out × in/groups × …) reduced to the channels that remain.

    Of grouped inputs the same places remain in each group.
    """
    if kept.outputs is not None:
        values = values[list(kept.outputs)]
    if kept.inputs is not None and values.dim() > 1:
        values = values[:, list(kept.inputs[: len(kept.inputs) // groups])]
    return values.clone()


def _resize(module: nn.Module, kept: Kept) -> None:
    outputs, inputs = (None if side is None else len(side) for side in (kept.outputs, kept.inputs))
    if isinstance(module, CONV):
        if outputs is not None and 1 < module.groups == module.out_channels:  # depthwise: a channel is a group
            module.groups = inputs = outputs
        module.out_channels, module.in_channels = outputs or module.out_channels, inputs or module.in_channels
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = outputs or module.out_features, inputs or module.in_features
    elif isinstance(module, nn.PReLU):
        module.num_parameters = outputs or module.num_parameters
    elif isinstance(module, nn.GroupNorm):  # of one channel each: `graph` sees to that
        module.num_groups = module.num_channels = outputs or module.num_channels
    else:
        assert isinstance(module, NORMS_BY_CHANNEL)
        module.num_features = outputs or module.num_features


def remaining(before: Kept | None, gone: set[int], now: int, *, out: bool) -> tuple[int, ...] | None:
    """The record of one side of a module after the channels `gone` went; they are numbered as they were just before,
    when there were `now`."""
    side = (before.outputs if out else before.inputs) if before else None
    if not gone:
        return side
    return tuple(channel for place, channel in enumerate(side or range(now)) if place not in gone)
