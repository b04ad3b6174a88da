"""Which weights training cannot reach: those whose gradient is exactly zero, image after image."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from labbench.bench.errors import Stopped, never
from labbench.bench.states.state import State, weight_of

BATCH = 64  # images


def idle(
    state: State,
    batches: int,
    seed: int,
    report: Callable[[float], None] = lambda _: None,
    stopped: Callable[[], bool] = never,
) -> dict[str, Tensor]:
    """Layer → bool tensor of its weight's shape: no gradient from any batch. `report` gets the fraction done.

    Training images in a random order, every second batch with random labels: a model that knows the answers has no
    gradient left from the right ones. Cross entropy in train mode, as finetuning sees it: with the statistics of old
    batches an untrained batch norm leaves far more ReLUs shut. Frozen layers and masks do not count here. An exact zero
    means that no image reached the weight (it reads only padding), that what follows is dead (a ReLU that is never
    open), or that the zeros behind it cut it off. Other images might reach more weights: the count is an upper bound.
    Raises `Stopped` between two batches.
    """
    model = state.copy_model().train()
    weights = {layer.name: weight_of(model, layer.name) for layer in state.layers if layer.prunable}
    untouched = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
        torch.manual_seed(seed)  # of dropout
        for number, (x, y) in enumerate(_batches(state, batches, seed)):
            if stopped():
                raise Stopped
            loss = F.cross_entropy(model(state.data.normalized(x)).float(), y)
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    untouched[name] &= gradient == 0
            report((number + 1) / batches)
    return untouched


def _batches(state: State, batches: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = state.data.on(state.device)["train"]
    generator = torch.Generator().manual_seed(seed)
    size = min(BATCH, len(x))
    order = torch.empty(0, dtype=torch.int64)
    for number in range(batches):
        if len(order) < size:
            order = torch.randperm(len(x), generator=generator)
        chosen, order = order[:size].to(x.device), order[size:]
        labels = torch.randint(0, len(state.data.classes), (size,), generator=generator).to(x.device)
        yield x[chosen], labels if number % 2 else y[chosen]
