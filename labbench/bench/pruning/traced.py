"""How the channels of a model hang together: Torch-Pruning's graph, followed within bounds. A part of the model that it
cannot make out spoils only the groups that reach it, and whoever waits can stop it."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning import _helpers
from torch_pruning.dependency import index_mapping, shape_infer
from torch_pruning.dependency.dependency import Dependency

from labbench.bench.errors import Stopped, never
from labbench.bench.states.state import CONV

PLACES = 400_000
"""Channels that one group may reach, counted at each layer and on each way: the largest of torchvision's reach 70,000;
beyond it they only multiply, as where channels are multiplied with each other."""
FAR = f"its channels reach more than {PLACES:,} others"
STEPS = 400_000
"""Layers that may be asked how wide they are to make out one operation."""


class Lost(Exception):
    """Channels cannot be followed. `nodes` are those of the graph that were reached, `why` says it where known."""

    def __init__(self, nodes: Iterable[Any], why: str = "") -> None:
        super().__init__(why)
        self.nodes, self.why = tuple(nodes), why


@contextmanager
def heard(model: nn.Module, stopped: Callable[[], bool]) -> Iterator[list[nn.Module]]:
    """While the model runs a stop is heard before each of its modules. Yields those that have begun and not ended."""
    under_way: list[nn.Module] = []

    def begins(module: nn.Module, inputs: object) -> None:
        if stopped():
            raise Stopped
        under_way.append(module)

    def ends(module: nn.Module, inputs: object, output: object) -> None:
        under_way.pop()

    hooks: list[Any] = []
    for module in model.modules():
        hooks += [module.register_forward_pre_hook(begins), module.register_forward_hook(ends)]
    try:
        yield under_way
    finally:
        for hook in hooks:
            hook.remove()


class Traced(tp.DependencyGraph):  # type: ignore[misc]  # it has no types
    """The dependency graph of a model in eval mode. Its input and its buffers are in it, as parameters are."""

    def __init__(self, model: nn.Module, shape: Sequence[int], stopped: Callable[[], bool] = never) -> None:
        """Every parameter must be trainable, or its layer is not traced. Raises whatever the model raises."""
        super().__init__()
        self.stopped, self.steps, self.lost = stopped, [0], set[Any]()
        self.verbose, self.model = False, model
        self.refuse: Callable[[Any], None] = lambda module: None
        """Told of each module that a group reaches; what it raises ends the search."""
        self.image = nn.Parameter(torch.zeros(1, *shape))
        self._module2name = {module: name for name, module in model.named_modules()}
        self.ignored_params: list[nn.Parameter] = []
        self.bare: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        """The names of parameters, and of buffers outside layers."""
        try:
            with _trainable_buffers(model) as buffers:
                self.module2node = self._run(buffers)
                self.bare |= buffers
        except RuntimeError:  # one that is changed in place cannot be trained
            self.module2node = self._run({})
        self._build_dependency(self.module2node)
        self._each_alone(shape_infer.init_shape_information)
        self._each_alone(index_mapping.update_index_mapping)

    def _run(self, buffers: Iterable[Tensor]) -> Any:
        known = [_helpers.UnwrappedParameters(tensor, _last_dim(tensor)) for tensor in buffers]
        known.append(_helpers.UnwrappedParameters(self.image, 1))
        self._param_to_name, self.unwrapped_parameters = self._detect_unwrapped_parameters(known)
        with torch.enable_grad():
            # a product is no leaf: a model may change its input in place
            return self._trace(self.model, (self.image,), lambda model, images: model(images[0] * 1), None)

    def _each_alone(self, find_out: Callable[[Any], None]) -> None:
        for module, node in self.module2node.items():
            alone = copy.copy(self)
            alone.module2node, self.steps[0] = {module: node}, 0
            try:
                find_out(alone)
            except Stopped:
                raise
            except Exception:  # noqa: BLE001  # whatever it stumbles over in a foreign model
                self.lost.add(node)

    def get_out_channels(self, module_or_node: Any) -> Any:
        """As Torch-Pruning's, which asks its way through the whole model for every operation."""
        self._step()
        return super().get_out_channels(module_or_node)

    def get_in_channels(self, module_or_node: Any) -> Any:
        """As Torch-Pruning's."""
        self._step()
        return super().get_in_channels(module_or_node)

    def _step(self) -> None:
        if self.stopped():
            raise Stopped
        self.steps[0] += 1
        if self.steps[0] > STEPS:
            raise Lost(())

    def counts(self, parameter: nn.Parameter) -> bool:
        """Whether the answers depend on a parameter, in whatever way."""
        pending = [node.grad_fn for node in self.module2node.values() if node.grad_fn is not None]
        passed = set[Any]()
        while pending:
            grad_fn = pending.pop()
            if getattr(grad_fn, "variable", None) is parameter:
                return True
            fresh = [before for before, _ in grad_fn.next_functions if before is not None and before not in passed]
            passed.update(fresh)
            pending += fresh
        return False

    def get_pruning_group(self, module: nn.Module, pruning_fn: Any, idxs: Sequence[int]) -> Any:
        """The group that Torch-Pruning finds. Raises `Lost` where it reaches what was not made out, or too much."""
        if isinstance(module, CONV) and 1 < module.groups == module.out_channels:
            pruning_fn = tp.prune_depthwise_conv_out_channels
        root = self.module2node[module]
        start = [_helpers._HybridIndex(idx=number, root_idx=number) for number in idxs]
        reached = [(Dependency(pruning_fn, pruning_fn, source=root, target=root), start)]
        pending, places = list(reached), len(start)
        passed, known = set[Any](), set[Any]()
        while pending:
            self._stop_or_lose(pending[-1][0].target, passed, places)
            dep, numbers = pending.pop()
            passed.add(dep.target)
            self.refuse(dep.target.module)
            for onward in dep.target.dependencies:
                if onward.is_triggered_by(dep.handler) and (there := self._mapped(onward, numbers, passed)):
                    key = (onward.target, onward.handler, tuple(there))
                    if not (onward.target in passed and key in known):
                        known.add(key)
                        places += len(there)
                        reached.append((onward, there))
                        pending.append((onward, there))
        return self._merged(reached)

    def _stop_or_lose(self, node: Any, passed: Iterable[Any], places: int) -> None:
        if self.stopped():
            raise Stopped
        if node in self.lost:
            raise Lost((*passed, node))
        if places > PLACES:
            raise Lost(passed, FAR)

    def _mapped(self, dep: Any, numbers: list[Any], passed: Iterable[Any]) -> list[Any]:
        for mapping in dep.index_mapping:
            if mapping is not None:
                many = 1 if getattr(mapping, "reverse", True) else getattr(mapping, "_stride", 1)
                if len(numbers) * many > PLACES:
                    raise Lost(passed, FAR)
                numbers = mapping(numbers)
        return numbers

    def _merged(self, reached: Iterable[tuple[Any, list[Any]]]) -> Any:
        """One item for each layer and side, as Torch-Pruning merges them: of an index that comes twice the first."""
        items: dict[Any, tuple[Any, dict[int, int]]] = {}
        for dep, numbers in reached:
            _, roots = items.setdefault((dep.target, dep.handler), (dep, {}))
            for number in numbers:
                roots.setdefault(number.idx, number.root_idx)
        group = tp.dependency.Group()
        group._DG = self
        for dep, roots in items.values():
            group.add_dep(dep, list(roots))
            group[-1].root_idxs = list(roots.values())
        return group


def _last_dim(tensor: Tensor) -> int:
    """As Torch-Pruning takes it for parameters: the last dimension with more than one entry."""
    return max(dim for dim, size in enumerate(tensor.shape) if size > 1)


@contextmanager
def _trainable_buffers(model: nn.Module) -> Iterator[dict[Tensor, str]]:
    """While the model is traced its buffers outside layers are parameters, or nothing would tell of them; by name."""
    found: dict[Tensor, str] = {}
    were: list[tuple[nn.Module, str, Tensor]] = []
    for prefix, module in model.named_modules():
        if tp.ops.module2type(module) == tp.ops.OPTYPE.ELEMENTWISE:
            for key, buffer in list(module.named_buffers(recurse=False)):
                if buffer.is_floating_point() and buffer.numel() > 1:
                    were.append((module, key, buffer))
                    module._buffers[key] = trainable = nn.Parameter(buffer.clone())
                    found[trainable] = f"{prefix}.{key}".lstrip(".")
    try:
        yield found
    finally:
        for module, key, buffer in were:
            module._buffers[key] = buffer
