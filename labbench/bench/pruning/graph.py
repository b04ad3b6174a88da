"""The groups of channels that can only be removed together, and why some cannot be removed at all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn

from labbench.bench.errors import BenchError, Stopped, never
from labbench.bench.pruning.reasons import UNKNOWN, on_the_way
from labbench.bench.pruning.traced import Lost, Traced, heard
from labbench.bench.states.state import BATCH_NORM, CONV, weight_of
from labbench.bench.states.surgery import CUTTABLE, Gone, axes, part, tensors_of, widths


class Uncuttable(BenchError):
    """A layer whose filters cannot be removed. `reason` says why without naming any layer, so that layers can share it;
    `at` names the layer that stands in the way, `detail` has figures."""

    def __init__(self, name: str, reason: str, at: str = "", detail: str = "") -> None:
        added = "; ".join(filter(None, (at, detail)))
        super().__init__(f"{name} cannot be cut: {reason}{added and f' ({added})'}")
        self.name, self.reason, self.at, self.detail = name, reason, at, detail

    @property
    def why(self) -> str:
        """The reason and what stands in the way."""
        return f"{self.reason}{self.at and f' ({self.at})'}"


Coupling: TypeAlias = Mapping[str, Mapping[int, tuple[int, ...]]]
"""Module, or tensor outside layers → channel of the group → its channels that go with it."""


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together, numbered as the output channels of the layer `root`."""

    root: str
    channels: int
    outputs: Coupling
    """Those that lose output channels: layers that lose filters, then norms and bare tensors that lose entries."""
    inputs: Coupling
    """Those that lose input channels."""
    blocks: int
    """In so many equal blocks lie the channels, where a convolution is grouped: the same places go from each block."""
    why: str
    """What couples the layers that lose the same filters: "they are added together"; empty for a layer alone."""
    doubt: str
    """What the operations on their way do to the channels, should the cut turn out wrong."""
    scores: Callable[[Callable[[Any], Tensor | None]], Tensor | None]
    """Scores of the channels by a method of granularity "filter"; None where it finds nothing to go by."""

    @property
    def units(self) -> int:
        """How many choices there are: channels, or places in the blocks."""
        return self.channels // self.blocks

    def differs(self, reason: str, detail: str) -> Uncuttable:
        """What to say where the cut network turned out to answer differently."""
        return Uncuttable(self.root, f"{reason}{self.doubt and f': {self.doubt}'}", detail=detail)

    def without(self, units: Iterable[int]) -> Gone:
        """What goes with these units: channels, or the same place in each block."""
        channels = [unit + block * self.units for unit in units for block in range(self.blocks)]
        gone: Gone = {}
        for side, coupling in enumerate((self.outputs, self.inputs)):
            for name, numbers in coupling.items():
                gone.setdefault(name, (set(), set()))[side].update(n for c in channels for n in numbers.get(c, ()))
        return gone


class Graph:
    """The coupled channels of a model. It only looks: `surgery.remove_filters` cuts."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...], stopped: Callable[[], bool] = never) -> None:
        """`model` is a copy on the CPU in eval mode; every parameter must be trainable, or its layer is not traced.

        Raises `BenchError` with the layer at which the model cannot be traced, `Stopped`, here and in `group`.
        """
        self.model = model
        self._names = {module: name for name, module in model.named_modules()}
        with torch.random.fork_rng(devices=[]), heard(model, stopped) as under_way:
            try:
                self._graph = Traced(model, shape, stopped)
            except Stopped:
                raise
            except Exception as error:  # whatever a tracer stumbles over in a foreign model
                at = next((self._names[module] for module in reversed(under_way) if self._names.get(module)), "")
                raise BenchError(
                    f"Torch-Pruning cannot trace this model{at and f', not beyond {at}'}: {error}"
                ) from error

    def group(self, name: str) -> Group:
        """The group of all output channels of a conv or linear layer. Raises `Uncuttable` where it cannot be cut."""
        module = part(self.model, name)
        if not isinstance(module, (*CONV, nn.Linear)):
            raise Uncuttable(name, f"a {type(module).__name__} is neither a conv nor a linear layer")
        if "weight" not in module._parameters:
            raise Uncuttable(name, "its weight is computed from others, as weight and spectral norm do")
        if module not in self._graph.module2node:
            raise Uncuttable(name, *self._apart(name))
        try:
            return self._group(name, module)
        except Lost as error:
            raise Uncuttable(name, ": ".join(filter(None, (error.why, on_the_way(error.nodes)))) or UNKNOWN) from error
        except (Uncuttable, Stopped):
            raise
        except Exception as error:  # the numbers that Torch-Pruning finds fit nothing
            raise Uncuttable(name, UNKNOWN) from error

    def _group(self, name: str, module: nn.Module) -> Group:
        channels = len(weight_of(self.model, name))
        pruner = self._graph.get_pruner_of_module(module)
        self._graph.refuse = partial(self._refuse_module, name)
        found = self._graph.get_pruning_group(module, pruner.prune_out_channels, list(range(channels)))
        nodes = list({id(item.dep.target): item.dep.target for item in found.items}.values())
        outputs, inputs = self._coupled(name, found)
        self._refuse(name, nodes, channels, outputs, inputs)
        members = (*outputs.items(), *inputs.items())
        blocks = max(self._blocks(name, other, coupling) for other, coupling in members)
        if blocks == channels > 1:
            raise Uncuttable(name, f"they are read in {blocks} groups of one channel each: none can go alone")
        if channels % blocks:
            raise Uncuttable(name, f"its {channels} channels cannot be parted in {blocks} equal blocks")
        return Group(
            *(name, channels, outputs, inputs, blocks),
            why=self._why(nodes, outputs),
            doubt=on_the_way(nodes),
            scores=lambda score: score(found),
        )

    def _apart(self, name: str) -> tuple[str, ...]:
        """Why a layer is not in the graph, and what stands in the way."""
        owner, _, _ = name.rpartition(".")
        if self._graph.counts(weight_of(self.model, name)):
            parent = self.model.get_submodule(owner)
            return f"a {type(parent).__name__} computes with its weights by itself", owner
        return ("no path leads from it to the answers of the model in eval mode",)

    def _why(self, nodes: Sequence[Any], outputs: Coupling) -> str:
        """Why the layers among `outputs` lose the same filters."""
        layers = [part(self.model, name) for name in outputs]
        layers = [module for module in layers if isinstance(module, (*CONV, nn.Linear))]
        if len(layers) < 2:
            return ""
        depthwise = sum(isinstance(module, CONV) and 1 < module.groups == module.out_channels for module in layers)
        grouped = any(isinstance(module, CONV) and 1 < module.groups < module.out_channels for module in layers)
        joins = [node for node in nodes if node.type == tp.ops.OPTYPE.ELEMENTWISE and self._streams(node) > 1]
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

    def _streams(self, node: Any) -> int:
        """How many of a node's inputs come from layers or images, and not from parameters alone."""
        count = 0
        for source in node.inputs:
            while source.module not in self._names and len(source.inputs) == 1:
                source = source.inputs[0]
            count += source.type != tp.ops.OPTYPE.PARAMETER or source.module is self._graph.image
        return count

    # what cannot be cut

    def _refuse(self, name: str, nodes: Sequence[Any], channels: int, outputs: Coupling, inputs: Coupling) -> None:
        readers = [other for other in inputs if not isinstance(part(self.model, other), Tensor)]
        if not readers:
            raise Uncuttable(name, "these outputs are the answers of the model, one for each class")
        if any(node.type == tp.ops.OPTYPE.OUTPUT for node in nodes):
            raise Uncuttable(name, "its channels are answers of the model, or part of each answer")
        for side, coupled in enumerate((outputs, inputs)):
            for other, coupling in coupled.items():
                found = part(self.model, other)
                width, numbers = widths(found)[side], _all_of(coupling)
                whole = isinstance(found, (*CONV, nn.Linear)) and not side
                all_go = len(coupling) == channels and numbers == list(range(width))
                if numbers[0] < 0 or numbers[-1] >= width or (whole and not all_go):
                    spread = "its one channel is spread over those of others" if channels == 1 else UNKNOWN
                    raise Uncuttable(name, on_the_way(nodes) or spread)

    def _refuse_module(self, name: str, module: Any) -> None:
        """Raise `Uncuttable` at a module that the channels reach, and that cannot lose any."""
        other = self._names.get(module)
        if other is None:
            return
        kind = type(module).__name__
        if isinstance(module, nn.LayerNorm) or (
            isinstance(module, nn.GroupNorm) and module.num_groups != module.num_channels
        ):
            raise Uncuttable(name, f"a {kind} goes over several channels: without some, the others change", other)
        tensors = dict(tensors_of(module))
        if not tensors or _one_slope(module):
            return
        if not isinstance(module, CUTTABLE):
            raise Uncuttable(name, f"the channels are coupled with a {kind}", other)
        if isinstance(module, (*CONV, nn.Linear)) and "weight" not in module._parameters:
            raise Uncuttable(name, "the channels are coupled with a layer whose weight is computed from others", other)
        for key, tensor in tensors.items():
            if axes(module, key, tensor) is None:
                why = f"nothing says which channels the entries of a {kind}'s own {key} belong to"
                raise Uncuttable(name, why, other)

    def _blocks(self, name: str, other: str, coupling: Mapping[int, tuple[int, ...]]) -> int:
        """In how many blocks the channels of a group must lie for this member of it."""
        module = part(self.model, other)
        if not isinstance(module, CONV) or module.groups == 1 or module.groups == module.out_channels:
            return 1
        if any(numbers != (channel,) for channel, numbers in coupling.items()):
            raise Uncuttable(name, f"the {module.groups} groups of its channels do not begin where theirs do")
        return module.groups

    # what is coupled

    def _coupled(self, name: str, found: Any) -> tuple[Coupling, Coupling]:
        """The members that lose outputs and those that lose inputs: those with anything to cut, layers first."""
        sides: tuple[dict[str, dict[int, list[int]]], ...] = ({}, {})
        spread = []
        for item in found.items:
            target = item.dep.target.module
            if isinstance(target, Tensor):
                place = self._place(name, target, item.idxs)
                if place is None:
                    continue
                other, side = place
            elif target in self._names and any(True for _ in tensors_of(target)) and not _one_slope(target):
                other, side = self._names[target], 0 if self._graph.is_out_channel_pruning_fn(item.dep.handler) else 1
                if not side and widths(target)[0] == 1 < len(found.items[0].idxs):
                    spread.append(item)  # its one channel is spread over all of them, and stays
                    continue
            else:
                continue
            channels = sides[side].setdefault(other, {})
            for number, channel in zip(item.idxs, item.root_idxs, strict=True):
                channels.setdefault(int(channel), []).append(int(number))
        found._group = [item for item in found.items if item not in spread]
        return self._ordered(sides[0]), self._ordered(sides[1])

    def _place(self, name: str, tensor: Tensor, numbers: Sequence[int]) -> tuple[str, int] | None:
        """A bare tensor's name and the dimension that has an entry for each channel; None where none has."""
        if tensor is self._graph.image:
            raise Uncuttable(name, "the channels meet those of the images themselves")
        sizes, width = list(tensor.shape), len(set(numbers))
        images = len(sizes) == 4  # of their height and width none is a channel
        along = [dim for dim, size in enumerate(sizes) if size == width and not (images and dim > 1)]
        if not along or width == 1:
            return None
        bare = self._graph.bare[tensor]
        if along not in ([0], [1]) or sorted(set(numbers)) != list(range(width)):
            shape = "×".join(map(str, sizes))
            why = f"the channels are coupled with a tensor of {shape} that belongs to no layer"
            raise Uncuttable(name, why, bare)
        return bare, along[0]

    def _ordered(self, coupled: Mapping[str, Mapping[int, list[int]]]) -> Coupling:
        last = (*BATCH_NORM, Tensor)
        order = sorted(coupled, key=lambda name: isinstance(part(self.model, name), last))
        return {name: {channel: tuple(numbers) for channel, numbers in coupled[name].items()} for name in order}


def _one_slope(module: nn.Module) -> bool:
    return isinstance(module, nn.PReLU) and module.num_parameters == 1


def _all_of(coupling: Mapping[int, tuple[int, ...]]) -> list[int]:
    return sorted(number for numbers in coupling.values() for number in numbers)


def refuse_shared(group: Group, model: nn.Module) -> None:
    """Raise `Uncuttable` where a member of the group shares a tensor with another layer: a cut would part the two."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter, []).append(name)
    for name in (*group.outputs, *group.inputs):
        for _, tensor in tensors_of(part(model, name)):
            if isinstance(tensor, nn.Parameter) and len(shared := owners[tensor]) > 1:
                raise Uncuttable(group.root, f"{' and '.join(shared)} are one tensor")
