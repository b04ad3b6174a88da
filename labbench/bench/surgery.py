"""Where weights are changed by hand: zeroed, shared, removed. Works on copies, and checks every cut: the cut network
must answer as its twin does, the uncut network with the removed channels at zero."""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.state import BATCH_NORM, CONV, Kept, weight_of

TWIN_TOLERANCE = 1e-5  # relative, in float64, where rounding stays under 1e-12
TWIN_IMAGES = 2
TWIN_SEED = 20_151_210


def zero_weights(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the weights to zero where the mask of their layer is False. In place: give a copy."""
    with torch.no_grad():
        for name, mask in masks.items():
            weight_of(model, name).mul_(mask)


def share_filters(weight: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Every filter replaced by its cluster's centroid, and the cluster of each filter.

    k-means++ and Lloyd over the filters as vectors of length in·kh·kw (scikit-learn, one start). `weight` is out × …,
    and must have more than `k` distinct filters; the result has its shape and exactly `k` distinct ones.
    """
    from sklearn.cluster import KMeans  # its import costs as much as half of torch's; most starts never cluster

    vectors = weight.detach().cpu().flatten(1).float().numpy()
    with threadpool_limits(limits=1):
        means = KMeans(n_clusters=k, n_init=1, random_state=seed).fit(vectors)
    labels = torch.from_numpy(means.labels_.astype(np.int64))
    # In float64 the mean of equal values is that value: zeros that a cluster shares stay zero (scikit-learn's do not).
    sums = torch.zeros(k, vectors.shape[1], dtype=torch.float64)
    sums.index_add_(0, labels, torch.from_numpy(vectors).double())
    centroids = (sums / labels.bincount(minlength=k)[:, None]).to(weight.dtype)
    return centroids[labels].view_as(weight).to(weight.device), labels.to(weight.device)


class Uncuttable(BenchError):
    """A layer whose filters cannot be removed. `reason` says why without naming it, so that layers can share it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be cut: {reason}")
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together: the same numbers in each of `outputs`."""

    root: str
    channels: int
    outputs: tuple[str, ...]
    """Modules that lose output channels: layers that lose filters, then norms that lose entries."""
    inputs: tuple[str, ...]
    """Modules that lose input channels."""
    scores: Callable[[Callable[[Any], Tensor]], Tensor]
    """Scores of the channels by a method of granularity "filter"."""


class Graph:
    """The coupled channels of one copied model, by Torch-Pruning, and the cuts made in it."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """`model` is a copy on the CPU in eval mode; every parameter must be trainable, or its layer is not traced."""
        self.model = model
        self._names = {module: name for name, module in model.named_modules()}
        try:
            with warnings.catch_warnings(action="ignore"):  # of parameters outside layers: `group` refuses them
                self._graph = tp.DependencyGraph().build_dependency(
                    model, example_inputs=(torch.zeros(1, *shape),), ignored_layers=[], verbose=False
                )
        except Exception as error:  # whatever a tracer stumbles over in a foreign model
            raise BenchError(f"Torch-Pruning cannot trace this model: {error}") from error

    def group(self, name: str) -> Group:
        """The group of all output channels of a conv or linear layer. Raises `BenchError` where it cannot be cut."""
        channels = self._channels(name)
        if self.model.get_submodule(name) not in self._graph.module2node:
            raise Uncuttable(name, "no path leads from it to the answers of the model")
        found = self._coupled(name, range(channels))
        self._refuse_foreign(name, found)
        outputs = self._members(found, out=True)
        inputs = self._members(found, out=False)
        if not inputs:
            raise Uncuttable(name, "these outputs are the answers of the model, one for each class")
        if any(self._channels(other) != channels for other in outputs):
            raise Uncuttable(name, "the channels run on into wider ones, through a shortcut that pads with zeros")
        return Group(name, channels, outputs, inputs, lambda score: score(found))

    def cut(self, group: Group, channels: Iterable[int]) -> dict[str, tuple[set[int], set[int]]]:
        """Remove channels of a group; returns for each module the numbers of the outputs and inputs that went."""
        found = self._coupled(group.root, channels)
        if not self._graph.check_pruning_group(found):
            raise BenchError(f"{group.root} cannot be cut: no channel would remain in one of its coupled layers")
        gone: dict[str, tuple[set[int], set[int]]] = {}
        for dep, numbers in found.items:
            if dep.target.module in self._names:
                outs, ins = gone.setdefault(self._names[dep.target.module], (set(), set()))
                (outs if self._is_output(dep) else ins).update(int(number) for number in numbers)
        found.prune()
        return gone

    def _refuse_foreign(self, name: str, group: Any) -> None:
        """Raise `Uncuttable` where a cut would reach what cannot be recorded and built again: see `rebuild`."""
        for dep, _ in group.items:
            member = dep.target.module
            if isinstance(member, nn.Parameter):
                raise Uncuttable(name, "the channels are coupled with a parameter that belongs to no layer")
            if member not in self._names or next(member.parameters(), None) is None:
                continue
            other = self._names[member]
            if isinstance(member, (nn.LayerNorm, nn.GroupNorm)):
                raise Uncuttable(name, f"{other} normalizes over all channels: without some, the others change")
            if not isinstance(member, (*CONV, nn.Linear, *BATCH_NORM)) or getattr(member, "groups", 1) > 1:
                grouped = "grouped " if getattr(member, "groups", 1) > 1 else ""
                raise Uncuttable(name, f"the channels are coupled with {other}, a {grouped}{type(member).__name__}")

    def _coupled(self, name: str, channels: Iterable[int]) -> Any:
        module = self.model.get_submodule(name)
        pruner = self._graph.get_pruner_of_module(module)
        return self._graph.get_pruning_group(module, pruner.prune_out_channels, list(channels))

    def _members(self, group: Any, *, out: bool) -> tuple[str, ...]:
        modules = [dep.target.module for dep, _ in group.items if self._is_output(dep) == out]
        owners = [m for m in modules if m in self._names and next(m.parameters(), None) is not None]
        owners.sort(key=lambda module: isinstance(module, BATCH_NORM))
        return tuple(dict.fromkeys(self._names[module] for module in owners))

    def _is_output(self, dep: Any) -> bool:
        return bool(self._graph.is_out_channel_pruning_fn(dep.handler))

    def _channels(self, name: str) -> int:
        return len(weight_of(self.model, name))


def refuse_shared(group: Group, model: nn.Module) -> None:
    """Raise `Uncuttable` where a member of the group shares a tensor with another layer: a cut would part the two."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter, []).append(name)
    for name in (*group.outputs, *group.inputs):
        for parameter in model.get_submodule(name).parameters():
            if len(shared := owners[parameter]) > 1:
                raise Uncuttable(group.root, f"{' and '.join(shared)} are one tensor")


def check_twin(
    before: nn.Module, after: nn.Module, gone: Mapping[str, tuple[set[int], set[int]]], shape: tuple[int, ...]
) -> None:
    """Raise `BenchError` unless `after` answers as `before` does with the removed output channels at zero.

    Both on the CPU in eval mode, compared in float64 on random images; relative to the largest answer.
    """
    twin, cut = copy.deepcopy(before).double().eval(), copy.deepcopy(after).double().eval()
    x = torch.randn(TWIN_IMAGES, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(TWIN_SEED))
    with torch.no_grad():
        for name, (outputs, _) in gone.items():
            for parameter in twin.get_submodule(name).parameters(recurse=False):
                parameter[sorted(outputs)] = 0
        try:
            expected = twin(x)
        except RuntimeError as error:
            raise BenchError(f"the network does not run in float64, in which cuts are checked ({error})") from error
        try:
            answer = cut(x)
        except RuntimeError as error:
            raise BenchError(f"the cut network does not run ({error}); nothing was changed") from error
    if answer.shape != expected.shape:
        raise BenchError(f"the cut network answers {tuple(answer.shape)} instead of {tuple(expected.shape)}")
    difference = float((answer - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
    if not difference <= TWIN_TOLERANCE:
        raise BenchError(
            f"the cut network answers differently from the network with those channels at zero (by {difference:.1e}); "
            "nothing was changed"
        )


def rebuild(model: nn.Module, kept: Mapping[str, Kept]) -> None:
    """Cut a freshly built model to the channels of a record, in place. The weights that remain are the model's own."""
    for name, channels in kept.items():
        module = model.get_submodule(name)
        for key, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, key, nn.Parameter(sliced(parameter.detach(), channels)))
        for key, buffer in list(module.named_buffers(recurse=False)):
            if buffer.dim():
                setattr(module, key, sliced(buffer, channels))
        _resize(module)


def sliced(values: Tensor, kept: Kept) -> Tensor:
    """A tensor of the loaded layer (out, or out × in × …) reduced to the channels that remain."""
    if kept.outputs is not None:
        values = values[list(kept.outputs)]
    if kept.inputs is not None and values.dim() > 1:
        values = values[:, list(kept.inputs)]
    return values.clone()


def _resize(module: nn.Module) -> None:
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, CONV):
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, BATCH_NORM):
        module.num_features = len(weight)


def remaining(before: Kept | None, gone: set[int], loaded: int, *, out: bool) -> tuple[int, ...] | None:
    """The record of one side of a module after the channels `gone` (numbered as they were before this cut) went."""
    side = (before.outputs if out else before.inputs) if before else None
    if not gone:
        return side
    return tuple(channel for place, channel in enumerate(side or range(loaded)) if place not in gone)
