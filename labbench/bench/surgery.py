"""Where weights are changed by hand: zeroed, shared, removed. Works on copies, and checks every cut: the cut network
must answer as its twin does, the uncut network with the removed channels at zero."""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.state import BATCH_NORM, CONV, Kept, weight_of

NORMS_BY_CHANNEL = (*BATCH_NORM, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
MIXING = (nn.LayerNorm, nn.GroupNorm)
"""Norms whose figures are taken over several channels."""
CUTTABLE = (*CONV, nn.Linear, *NORMS_BY_CHANNEL, *MIXING, nn.PReLU)
TWIN_TOLERANCE = 1e-5  # relative, in float64, where rounding stays under 1e-12
TWIN_IMAGES = 2
TWIN_SEED = 20_151_210


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


class Uncuttable(BenchError):
    """A layer whose filters cannot be removed. `reason` says why without naming it, so that layers can share it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be cut: {reason}")
        self.name, self.reason = name, reason


Gone: TypeAlias = dict[str, tuple[set[int], set[int]]]
"""Module → the numbers of the output and of the input channels that go, as they are before they go."""
Coupling: TypeAlias = Mapping[str, Mapping[int, tuple[int, ...]]]
"""Module → channel of the group → the channels of the module that go with it."""


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together, numbered as the output channels of the layer `root`."""

    root: str
    channels: int
    outputs: Coupling
    """Modules that lose output channels: layers that lose filters, then norms that lose entries."""
    inputs: Coupling
    """Modules that lose input channels."""
    blocks: int
    """In so many equal blocks lie the channels, where a convolution is grouped: the same places go from each block."""
    why: str
    """What couples the layers that lose the same filters: "they are added together"; empty for a layer alone."""
    scores: Callable[[Callable[[Any], Tensor | None]], Tensor | None]
    """Scores of the channels by a method of granularity "filter"; None where it finds nothing to go by."""

    @property
    def units(self) -> int:
        """How many choices there are: channels, or places in the blocks."""
        return self.channels // self.blocks

    def without(self, units: Iterable[int]) -> Gone:
        """What goes with these units: channels, or the same place in each block."""
        channels = [unit + block * self.units for unit in units for block in range(self.blocks)]
        gone: Gone = {}
        for side, coupling in enumerate((self.outputs, self.inputs)):
            for name, numbers in coupling.items():
                gone.setdefault(name, (set(), set()))[side].update(n for c in channels for n in numbers.get(c, ()))
        return gone


class Graph:
    """The coupled channels of a model, found by Torch-Pruning. It only looks: `remove_filters` cuts."""

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
        """The group of all output channels of a conv or linear layer. Raises `Uncuttable` where it cannot be cut."""
        module = self.model.get_submodule(name)
        if not isinstance(module, (*CONV, nn.Linear)):
            raise Uncuttable(name, f"a {type(module).__name__} is neither a conv nor a linear layer")
        if module not in self._graph.module2node:
            raise Uncuttable(name, "no path leads from it to the answers of the model")
        channels = len(weight_of(self.model, name))
        pruner = self._graph.get_pruner_of_module(module)
        found = self._graph.get_pruning_group(module, pruner.prune_out_channels, list(range(channels)))
        coupled = [item for item in found.items if item.dep.target.module in self._names]
        outputs = self._coupling(item for item in coupled if self._is_output(item.dep))
        inputs = self._coupling(item for item in coupled if not self._is_output(item.dep))
        self._refuse(name, found, channels, outputs, inputs)
        blocks = max(self._blocks(other, coupling) for side in (outputs, inputs) for other, coupling in side.items())
        if channels % blocks:
            raise Uncuttable(name, f"its {channels} channels cannot be parted in {blocks} equal blocks")
        return Group(name, channels, outputs, inputs, blocks, self._why(found, outputs), lambda score: score(found))

    def _why(self, found: Any, outputs: Coupling) -> str:
        """Why the layers among `outputs` lose the same filters."""
        layers = [self.model.get_submodule(name) for name in outputs]
        layers = [module for module in layers if isinstance(module, (*CONV, nn.Linear))]
        if len(layers) < 2:
            return ""
        depthwise = sum(isinstance(module, CONV) and 1 < module.groups == module.out_channels for module in layers)
        grouped = any(isinstance(module, CONV) and 1 < module.groups < module.out_channels for module in layers)
        nodes = {id(item.dep.target): item.dep.target for item in found.items}.values()
        joins = [node for node in nodes if node.type == tp.ops.OPTYPE.ELEMENTWISE and len(node.inputs) > 1]
        products = [node for node in joins if "Mul" in str(node.module)]
        reasons = []
        if len(joins) > len(products):
            reasons.append("they are added together in a residual stream")
        if products:
            reasons.append("they are multiplied with each other")
        if depthwise:
            reasons.append("a depthwise convolution has a filter for each channel")
        if grouped:
            reasons.append("a grouped convolution reads its channels group by group")
        return ", and ".join(reasons) or "their channels meet"

    def _refuse(self, name: str, found: Any, channels: int, outputs: Coupling, inputs: Coupling) -> None:
        kinds = {item.dep.target.type for item in found.items}
        if not inputs or tp.ops.OPTYPE.OUTPUT in kinds:
            raise Uncuttable(name, "these outputs are the answers of the model, one for each class")
        for other in {**outputs, **inputs}:
            module = self.model.get_submodule(other)
            if not isinstance(module, CUTTABLE):
                raise Uncuttable(name, f"the channels are coupled with {other}, a {type(module).__name__}")
            if isinstance(module, MIXING):
                raise Uncuttable(name, f"{other} normalizes over all channels: without some, the others change")
        if tp.ops.OPTYPE.PARAMETER in kinds:
            raise Uncuttable(name, "the channels are coupled with a parameter that belongs to no layer")
        for other, coupling in outputs.items():
            module = self.model.get_submodule(other)
            if isinstance(module, (*CONV, nn.Linear)) and not (
                len(coupling) == channels and _all_of(coupling) == list(range(len(weight_of(self.model, other))))
            ):
                raise Uncuttable(name, "the channels run on into wider ones, through a shortcut that pads with zeros")

    def _blocks(self, name: str, coupling: Mapping[int, tuple[int, ...]]) -> int:
        """In how many blocks the channels of a group must lie for this member of it."""
        module = self.model.get_submodule(name)
        if not isinstance(module, CONV) or module.groups == 1 or module.groups == module.out_channels:
            return 1
        if any(numbers != (channel,) for channel, numbers in coupling.items()):
            raise Uncuttable(name, f"the {module.groups} groups of its channels do not begin where theirs do")
        return module.groups

    def _coupling(self, items: Iterable[Any]) -> Coupling:
        """The members with anything to cut, layers first."""
        found: dict[str, dict[int, list[int]]] = {}
        for item in items:
            module = item.dep.target.module
            if any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
                channels = found.setdefault(self._names[module], {})
                for number, channel in zip(item.idxs, item.root_idxs, strict=True):
                    channels.setdefault(int(channel), []).append(int(number))
        order = sorted(found, key=lambda name: isinstance(self.model.get_submodule(name), BATCH_NORM))
        return {name: {channel: tuple(numbers) for channel, numbers in found[name].items()} for name in order}

    def _is_output(self, dep: Any) -> bool:
        return bool(self._graph.is_out_channel_pruning_fn(dep.handler))


def _all_of(coupling: Mapping[int, tuple[int, ...]]) -> list[int]:
    return sorted(number for numbers in coupling.values() for number in numbers)


def refuse_shared(group: Group, model: nn.Module) -> None:
    """Raise `Uncuttable` where a member of the group shares a tensor with another layer: a cut would part the two."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter, []).append(name)
    for name in (*group.outputs, *group.inputs):
        for parameter in model.get_submodule(name).parameters():
            if len(shared := owners[parameter]) > 1:
                raise Uncuttable(group.root, f"{' and '.join(shared)} are one tensor")


def remove_filters(model: nn.Module, gone: Gone) -> None:
    """Cut channels out of a model, in place: give a copy."""
    rebuild(model, {name: kept_after(model.get_submodule(name), *sides) for name, sides in gone.items()})


def kept_after(module: nn.Module, outputs: set[int], inputs: set[int]) -> Kept:
    """What remains of a module's channels, by their numbers now."""
    outs, ins = widths(module)
    return Kept(
        tuple(channel for channel in range(outs) if channel not in outputs) if outputs else None,
        tuple(channel for channel in range(ins) if channel not in inputs) if inputs else None,
    )


def widths(module: nn.Module) -> tuple[int, int]:
    """Output and input channels of a module now; a norm has only outputs."""
    if isinstance(module, CONV):
        return module.out_channels, module.in_channels
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    return next(len(tensor) for tensor in (*module.parameters(), *module.buffers()) if tensor.dim()), 0


def check_twin(before: nn.Module, after: nn.Module, gone: Gone, shape: tuple[int, ...]) -> None:
    """Raise `BenchError` unless `after` answers as `before` does with the removed output channels at zero.

    Both on the CPU in eval mode, compared in float64 on random images; relative to the largest answer.
    """
    twin, cut = copy.deepcopy(before).double().eval(), copy.deepcopy(after).double().eval()
    x = torch.randn(TWIN_IMAGES, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(TWIN_SEED))
    with torch.no_grad():
        for name, (outputs, _) in gone.items():
            silence(twin.get_submodule(name), sorted(outputs))
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


def silence(module: nn.Module, channels: list[int]) -> None:
    """Make these output channels of a module zero whatever comes in. In place, without gradients."""
    for parameter in module.parameters(recurse=False):
        parameter[channels] = 0
    mean = getattr(module, "running_mean", None)
    if isinstance(mean, Tensor) and not any(True for _ in module.parameters(recurse=False)):
        mean[channels] = 0  # a norm without weights passes on what it is given less the mean


def rebuild(model: nn.Module, kept: Mapping[str, Kept]) -> None:
    """Cut a model to the channels of a record, in place. The weights that remain are the model's own."""
    for name, channels in kept.items():
        module = model.get_submodule(name)
        groups = groups_of(module)
        for key, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, key, nn.Parameter(sliced(parameter.detach(), channels, groups)))
        for key, buffer in list(module.named_buffers(recurse=False)):
            if buffer.dim():
                setattr(module, key, sliced(buffer, channels))
        _resize(module, channels)


def groups_of(module: nn.Module) -> int:
    """In how many groups a convolution's inputs are read; 1 for every other module."""
    return module.groups if isinstance(module, CONV) else 1


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
