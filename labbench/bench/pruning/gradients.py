"""Gradients of the training loss, for methods that rank by them. Deterministic: no augmentation, batch norm in eval
mode, the images chosen by the seed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labbench.bench.errors import BenchError, Stopped
from labbench.bench.states.state import State
from labbench.session.events import Progress

BATCH = 64  # images: as finetuning begins with


@dataclass(frozen=True)
class Gradients:
    """By the name of the parameter, on the CPU."""

    batches: int
    """How many there were."""
    mean: dict[str, Tensor]
    """Of the mean loss over all images."""
    squares: dict[str, Tensor]
    """The squared gradient of each batch's mean loss, summed over the batches."""


def gradients(
    state: State, batches: int, seed: int, report: Callable[[Progress], None], stopped: Callable[[], bool]
) -> Gradients:
    """Gradients of every parameter, frozen ones too, over so many batches, or over the whole training split.

    Raises `Stopped` between two batches, `BenchError` where they are not finite.
    """
    model = state.copy_model()
    x, y = state.data.on(state.device)["train"]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: batches * BATCH].to(x.device)
    parts = order.split(BATCH)
    mean = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    squares = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for number, part in enumerate(parts):
        if stopped():
            raise Stopped
        report(Progress(phase="gradients", fraction=number / len(parts)))
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(state.data.normalized(x[part])), y[part]).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                mean[name] += parameter.grad * (len(part) / len(order))
                squares[name] += parameter.grad.square()
    for name, gradient in mean.items():
        if not bool(gradient.isfinite().all()):
            raise BenchError(f"the gradient of {name} is not finite: undo to where the loss was a number")
    return Gradients(len(parts), {n: g.cpu() for n, g in mean.items()}, {n: g.cpu() for n, g in squares.items()})


class Remembered:
    """Gradients that are computed once for a model, while a form asks for one preview after another."""

    def __init__(self) -> None:
        self._of: tuple[torch.nn.Module, int, int] | None = None
        self._found: Gradients | None = None

    def __call__(
        self, state: State, batches: int, seed: int, report: Callable[[Progress], None], stopped: Callable[[], bool]
    ) -> Gradients:
        """As `gradients`."""
        known = self._of is not None and self._of[0] is state.model and self._of[1:] == (batches, seed)
        if self._found is None or not known:
            self._found = gradients(state, batches, seed, report, stopped)
            self._of = state.model, batches, seed
        return self._found
