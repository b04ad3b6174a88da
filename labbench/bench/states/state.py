"""What the bench holds between two operations. A state is never changed: `apply` makes a new one."""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labbench.bench.data.dataset import Images, Splits
from labbench.bench.states.paused import Paused
from labbench.bench.states.products import Products
from labbench.session.operations import Load
from labbench.session.snapshot import Accuracy

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORM = (*BATCH_NORM, nn.GroupNorm, nn.LayerNorm)


class Data:
    """A data set, resized for one model and resident on the devices that asked for it."""

    def __init__(self, name: str, images: Images, flip: bool, side: int, vertical: bool = True) -> None:
        self.name, self.classes, self.flip, self.vertical = name, images.classes, flip, vertical
        self.mean, self.std, self.remarks = images.mean, images.std, images.remarks
        cpu = torch.device("cpu")
        self._splits = {cpu: {split: (_resized(x, side), y) for split, (x, y) in images.splits.items()}}
        self._scales: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.shape = tuple(self._splits[cpu]["train"][0].shape[1:])
        """Channels, height, width."""

    def on(self, device: torch.device) -> Splits:
        """The splits on a device: N×C×H×W and int64 N. Copied there the first time."""
        if device not in self._splits:
            cpu = self._splits[torch.device("cpu")]
            self._splits[device] = {split: (x.to(device), y.to(device)) for split, (x, y) in cpu.items()}
        return self._splits[device]

    def normalized(self, x: Tensor) -> Tensor:
        """Images N×C×H×W → float32 of the same shape, as a model takes them.

        Pixels: zero mean and unit variance per channel over the data set. Floats are that already.
        """
        if x.is_floating_point():
            return x.float()
        if x.device not in self._scales:  # made once: each would be a copy to the GPU, which waits for it
            mean, std = (torch.tensor(s, device=x.device).view(1, -1, 1, 1) for s in (self.mean, self.std))
            self._scales[x.device] = mean, std
        mean, std = self._scales[x.device]
        return x.float().div_(255).sub_(mean).div_(std)


def _resized(x: Tensor, side: int) -> Tensor:
    if min(x.shape[-2:]) >= side:
        return x
    size = max(x.shape[-2], side), max(x.shape[-1], side)
    larger = F.interpolate(x.float(), size=size, mode="bilinear", align_corners=False, antialias=False)
    return larger.to(x.dtype) if x.is_floating_point() else larger.round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Layer:
    """What is known of a layer with parameters from the moment the model was loaded."""

    name: str
    kind: str
    """conv, linear, norm or other."""
    weights: int
    """Entries of the weight tensor."""
    parameters: int
    channels: int
    inputs: int
    macs: int
    norm: str | None
    """The batch norm behind it, if it normalizes just this layer's outputs."""

    @property
    def prunable(self) -> bool:
        """Conv and linear layers are."""
        return self.kind in ("conv", "linear")


@dataclass(frozen=True)
class Kept:
    """Which channels of the loaded layer remain, by their numbers in the loaded model; None for all."""

    outputs: tuple[int, ...] | None = None
    inputs: tuple[int, ...] | None = None


@dataclass(frozen=True)
class State:
    """A model and everything that is remembered of it."""

    load: Load
    """The operation that made it."""
    device: torch.device
    data: Data
    model: nn.Module
    """On `device`. Never trained, cut or moved in place: copy it."""
    layers: tuple[Layer, ...]
    """In forward order."""
    frozen: frozenset[str] = frozenset()
    """Names of layers and norms."""
    masks: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    """Layer name → bool tensor of its weight's shape; False is held at zero."""
    values: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    """Layer name → the last values of the weights that are held at zero, in the weight's shape; 0 where none are."""
    clusters: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    """Layer name → int64 cluster of each filter or, in the weight's shape, of each entry among those at its place."""
    kept: Mapping[str, Kept] = field(default_factory=lambda: MappingProxyType({}))
    """Module name → its remaining channels, for every module that was cut."""
    last: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Layer name → the last operation on it in a few words."""
    accuracy: Mapping[str, Accuracy] = field(default_factory=lambda: MappingProxyType({}))
    """Split → figures of exactly this model."""
    dense: "State | None" = None
    """The state before the first prune or cluster since the load; None while this is dense itself. In no file."""
    paused: Paused | None = None
    """The run that was stopped and left this; None where anything else was done."""

    def module(self, name: str) -> nn.Module:
        """The module of that name in the model."""
        return self.model.get_submodule(name)

    def weight(self, name: str) -> Tensor:
        """The weight tensor of a layer as the forward pass uses it, detached: out × in × …"""
        weight: Tensor = self.module(name).weight  # type: ignore[assignment]  # a module gives anything
        return weight.detach()

    def copy_model(self) -> nn.Module:
        """A copy that may be changed, in eval mode, every parameter trainable."""
        return trainable(copy.deepcopy(self.model).eval())


def is_frozen(parameter: str, frozen: Collection[str]) -> bool:
    """Whether a parameter or buffer of this name belongs to a frozen layer, or is one."""
    return parameter in frozen or parameter.rpartition(".")[0] in frozen


def trainable(model: nn.Module) -> nn.Module:
    """The model with gradients for every parameter that can have one: whole numbers cannot."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    return model


def weight_of(model: nn.Module, name: str) -> nn.Parameter:
    """The weight parameter of a layer, by the layer's name."""
    return model.get_parameter(f"{name}.weight")


def trace_layers(model: nn.Module, shape: tuple[int, ...], device: torch.device) -> tuple[Layer, ...]:
    """The layers of `traced`."""
    return traced(model, shape, device).layers


class Traced(NamedTuple):
    """What a forward pass shows."""

    layers: tuple[Layer, ...]
    of_features: int
    """Multiply-accumulates of features with each other, which are no layer's."""


def traced(model: nn.Module, shape: tuple[int, ...], device: torch.device) -> Traced:
    """Every layer with parameters in the order of the forward pass, with its MACs for one image of that shape.

    A parameter that lies outside the innermost modules is a layer of the kind "other" by its own name. A tensor that
    two layers share counts for the first.
    """
    names = {module: name for name, module in model.named_modules()}
    leaves = [module for module, name in names.items() if name and not any(module.children())]
    calls: list[nn.Module] = []
    answers: list[object] = []
    behind: dict[nn.Module, set[nn.Module]] = {}
    products = Products(model)

    def seen(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
        if answers and inputs and inputs[0] is answers[-1]:  # not a sum that this is only a part of
            behind.setdefault(calls[-1], set()).add(module)
        answers[:] = [output]
        calls.append(module)

    hooks = [module.register_forward_hook(seen) for module in leaves]
    was_training = model.training
    try:
        with torch.no_grad(), products.watched():
            model.eval()(torch.zeros(1, *shape, device=device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    layers: list[Layer] = []
    known: set[nn.Parameter] = set()
    for module in dict.fromkeys([*calls, *names]):
        new = {key: p for key, p in module.named_parameters(recurse=False) if p not in known}
        known.update(new.values())
        if new and module in leaves:
            after = behind.get(module, set())
            layers.append(_layer(names[module], module, new, names, after))
        else:
            layers += [_bare(f"{names[module]}.{key}".lstrip("."), p) for key, p in new.items()]
    return Traced(_with_macs(layers, products.by_weight), products.of_features)


def _with_macs(layers: list[Layer], by_weight: Mapping[str, int]) -> tuple[Layer, ...]:
    """The layers with the MACs of what they own: their weights, or the first of those a weight is computed from."""
    known = {layer.name: layer for layer in layers}
    macs: dict[str, int] = {}
    for name, count in by_weight.items():
        owner = name if name in known else name.rpartition(".")[0]
        if owner not in known:
            owner = next((layer.name for layer in layers if layer.name.startswith(f"{name}.")), "")
        macs[owner] = macs.get(owner, 0) + count
    return tuple(replace(layer, macs=macs.get(layer.name, 0)) for layer in layers)


def _layer(
    name: str,
    module: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    names: Mapping[nn.Module, str],
    behind: set[nn.Module],
) -> Layer:
    weight = parameters.get("weight")
    if weight is None or not weight.dim() or weight.is_complex():  # none, computed from others, or another layer's
        weight = None
    kind = kind_of(module)
    channels = weight.shape[0] if weight is not None else 0
    norm = next(iter(behind)) if len(behind) == 1 else None
    follows = isinstance(norm, BATCH_NORM) and norm.num_features == channels and isinstance(module, (*CONV, nn.Linear))
    return Layer(
        name=name,
        kind="other" if weight is None and kind in ("conv", "linear") else kind,
        weights=weight.numel() if weight is not None else 0,
        parameters=sum(map(numbers_in, parameters.values())),
        channels=channels,
        inputs=inputs_of(module),
        macs=0,
        norm=names[norm] if follows and norm else None,
    )


def _bare(name: str, parameter: nn.Parameter) -> Layer:
    count = numbers_in(parameter)
    return Layer(name=name, kind="other", weights=0, parameters=count, channels=0, inputs=0, macs=0, norm=None)


def numbers_in(tensor: Tensor) -> int:
    """How many real numbers a tensor holds: a complex one is two."""
    return 2 * tensor.numel() if tensor.is_complex() else tensor.numel()


def kind_of(module: nn.Module) -> str:
    """conv, linear, norm or other."""
    if isinstance(module, CONV):
        return "conv"
    if isinstance(module, nn.Linear):
        return "linear"
    return "norm" if isinstance(module, NORM) else "other"


def inputs_of(module: nn.Module) -> int:
    """Input channels of a conv or linear layer, 0 for others."""
    if isinstance(module, CONV):
        return module.in_channels
    return module.in_features if isinstance(module, nn.Linear) else 0
