"""Which tensors of a model a regularizer is for, and what they cost."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.regularizers import REGULARIZERS
from labbench.bench.states.chosen_layers import choose, choose_unfrozen
from labbench.bench.states.state import BATCH_NORM, State, weight_of
from labbench.session.check import listed, meant
from labbench.session.operations import Finetune


@dataclass(frozen=True)
class Penalty:
    """What is added to the loss: strength × the sum over tensors."""

    of: Callable[[Tensor], Tensor]
    strength: float
    tensors: tuple[Tensor, ...]

    def __call__(self) -> Tensor:
        """The whole penalty now, one number."""
        return self.strength * torch.stack([self.of(tensor) for tensor in self.tensors]).sum()


def penalty_of(operation: Finetune, state: State, model: nn.Module) -> Penalty | None:
    """The penalty on the tensors of `model`, a copy of the state's; None without a regularizer.

    Raises `BenchError` for a name that is not there, or where nothing is left to penalize.
    """
    if not operation.regularizer:
        return None
    if operation.regularizer not in REGULARIZERS:
        raise BenchError(
            f"no such regularizer: {operation.regularizer}; the regularizers are {listed(REGULARIZERS)}"
            f"{meant(operation.regularizer, REGULARIZERS)}"
        )
    regularizer = REGULARIZERS[operation.regularizer]
    scales = regularizer.TENSORS == "scales"
    names = _norms(operation, state) if scales else choose_unfrozen(state, operation.penalized, "penalize").layers
    return Penalty(regularizer.penalty, operation.strength, tuple(weight_of(model, name) for name in names))


def _norms(operation: Finetune, state: State) -> list[str]:
    """The unfrozen batch norms that were named, and those behind the layers that were."""
    chosen = set(choose(state, operation.penalized, norms=True).layers)
    chosen |= {layer.norm for layer in state.layers if layer.name in chosen and layer.norm}
    norms = [n.name for n in state.layers if n.kind == "norm" and n.name in chosen]
    norms = [name for name in norms if isinstance(state.module(name), BATCH_NORM)]
    if not norms:
        raise BenchError(
            f"{operation.regularizer} is for the scales of batch norms, and {listed(operation.penalized)} has none; "
            "take another regularizer"
        )
    free = [name for name in norms if name not in state.frozen]
    if not free:
        raise BenchError("nothing to penalize: every batch norm that was named is frozen; unfreeze some first")
    return free
