"""States to try the bench on, and what a test may want to know of one."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from labbench.bench.apply import apply
from labbench.bench.data.dataset import Images
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import BATCH_NORM, Data, State, trace_layers
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Applied, Tools
from labbench.session.events import Point, Restore
from labbench.session.operations import AnyOperation, Load

CPU = torch.device("cpu")
Opened: TypeAlias = Callable[..., State]
Small: TypeAlias = Callable[..., State]


def noise(shape: tuple[int, int, int], classes: int = 10, images: int = 24, flip: bool = False) -> Data:
    """Random images with random labels."""
    generator = torch.Generator().manual_seed(5)
    splits = {
        split: (
            torch.randint(0, 256, (images, *shape), generator=generator, dtype=torch.uint8),
            torch.randint(0, classes, (images,), generator=generator),
        )
        for split in ("train", "validation", "test")
    }
    channels = shape[0]
    names = tuple(f"class {number}" for number in range(classes))
    found = Images(splits, names, mean=(0.5,) * channels, std=(0.25,) * channels)
    return Data("noise", found, flip, shape[-1])


def state_of(model: nn.Module, data: Data) -> State:
    """The state of a model that is in no catalogue."""
    model.eval()
    load = Load(model="test", dataset=data.name, device="cpu")
    return State(load=load, device=CPU, data=data, model=model, layers=trace_layers(model, data.shape, CPU))


def shaken(state: State, seed: int = 0) -> State:
    """The state with batch norms and biases as training leaves them: nothing is 0 or 1 any more."""
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(state.model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BATCH_NORM):
                for tensor in (module.weight, module.running_var):
                    if tensor is not None:
                        tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
                assert module.running_mean is not None
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
            bias = getattr(module, "bias", None)
            if isinstance(bias, Tensor):
                bias.copy_(torch.randn(bias.shape, generator=generator))
    return replace(state, model=model)


def with_weights(state: State, weights: dict[str, Tensor]) -> State:
    """The state with other weights in some layers."""
    model = copy.deepcopy(state.model)
    with torch.no_grad():
        for name, weight in weights.items():
            model.get_parameter(f"{name}.weight").copy_(weight)
    return replace(state, model=model)


class Exact(Data):
    """Images as a model in float64 takes them."""

    def normalized(self, x: Tensor) -> Tensor:
        return super().normalized(x).double()


def exact(state: State) -> State:
    """The state in float64, in which two ways to compute the same differ by rounding alone."""
    data = copy.copy(state.data)
    data.__class__ = Exact
    return replace(state, model=copy.deepcopy(state.model).double(), data=data)


def distinct(shape: tuple[int, ...], seed: int) -> Tensor:
    """Weights of which no two have the same absolute value."""
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.tensor(shape).prod())
    sign = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
    return ((torch.randperm(size, generator=generator) + 1) / size * sign).view(shape)


def do(state: State, *operations: AnyOperation, tools: Tools | None = None) -> State:
    """The state after operations."""
    for operation in operations:
        state = doing(state, operation, tools).state
    return state


def doing(state: State, operation: AnyOperation, tools: Tools | None = None) -> Applied:
    """What came of one operation."""
    return apply(operation, state, tools or Tools(lambda name, options, side: state.data))


def hooks(model: nn.Module) -> int:
    """How many hooks hang on a model."""
    on_modules = sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) + len(m._backward_pre_hooks)
        for m in model.modules()
    )
    return on_modules + sum(
        len(p._backward_hooks or ()) + len(getattr(p, "_post_accumulate_grad_hooks", None) or ())
        for p in model.parameters()
    )


def picture(state: State) -> object:
    """Everything of a state that must not change behind its back."""
    return (
        fingerprint(state),
        [(name, id(p), tuple(p.shape), p.requires_grad, p.grad is None) for name, p in state.model.named_parameters()],
        [(name, id(m), m.training, sorted(vars(m))) for name, m in state.model.named_modules()],
        hooks(state.model),
        (state.frozen, dict(state.kept), dict(state.last), dict(state.accuracy)),
        {name: mask.clone().tolist() for name, mask in state.masks.items()},
        {name: labels.tolist() for name, labels in state.clusters.items()},
    )


@contextmanager
def untouched(state: State) -> Iterator[None]:
    """Fails if what is done meanwhile changes the state, its model, or the random numbers of everybody."""
    before, numbers = picture(state), torch.random.get_rng_state()
    yield
    assert picture(state) == before
    assert torch.equal(torch.random.get_rng_state(), numbers)


def answers(state: State, seed: int = 1, images: int = 4) -> Tensor:
    """Logits in float64 for random images."""
    x = torch.randn(images, *state.data.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return copy.deepcopy(state.model).double().eval()(x)


def twin(loaded: State, removed: dict[str, list[int]]) -> State:
    """The state with filters at zero, and with them what the norm behind the layer adds."""
    model = copy.deepcopy(loaded.model)
    norms = {layer.name: layer.norm for layer in loaded.layers}
    with torch.no_grad():
        for name, channels in removed.items():
            for owner in (name, norms[name]):
                if owner:
                    for parameter in model.get_submodule(owner).parameters():
                        parameter[channels] = 0
    return replace(loaded, model=model)


def removed_filters(before: State, after: State) -> dict[str, list[int]]:
    """Layer → the filters that went, found by their norms' entries or biases, not by any record."""
    gone = {}
    for layer in before.layers:
        owner = layer.norm if layer.norm else layer.name
        tag = "running_mean" if layer.norm else "bias"
        if layer.prunable:
            old, new = (getattr(s.module(owner), tag).tolist() for s in (before, after))
            if len(new) < len(old):
                gone[layer.name] = [number for number, value in enumerate(old) if value not in new]
    return gone


def restore_of(timeline: Timeline, *, marks: bool = True) -> Restore:
    """The request that makes another timeline stand where this one stands, with or without fingerprints."""
    tree = timeline.tree
    points = tuple(
        Point(
            number=number,
            parent=tree.parents[number],
            operation=change.operation,
            fingerprint=change.key.rpartition("-")[2] if marks else "",
        )
        for number, change in tree.items.items()
    )
    return Restore(points=points, now=tree.now, count=tree.count, latest=tree.latest, names=tree.names)
