"""Of each few consecutive inputs only the largest weights stay."""

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from labbench.bench.errors import BenchError

GRANULARITY = "weight"
OWN_TARGET = True


def below(
    weights: dict[str, Tensor],
    alive: dict[str, Tensor],
    *,
    n: Annotated[int, Meta(ge=1, description="so many stay")] = 2,
    m: Annotated[int, Meta(ge=2, description="of so many consecutive inputs")] = 4,
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """N:M: keeps the N largest of each M consecutive inputs, as GPUs want it

    For each filter (and each place of its kernel) the inputs are taken M at a time, and the M − N with the smallest |w|
    go; of equals the last (Mishra et al., NVIDIA, 2021: 2:4 along the input dimension). What does not fill M stays.
    """
    if n >= m:
        raise BenchError(f"n must be below m: where {n} of {m} inputs stay, none goes")
    removed: dict[str, Tensor] = {}
    rests: list[str] = []
    for name, weight in weights.items():
        inputs = weight.shape[1]
        whole = inputs - inputs % m
        size = torch.where(alive[name], weight.abs(), -1.0)[:, :whole].movedim(1, -1)  # out × … × inputs
        rank = size.unflatten(-1, (whole // m, m)).argsort(dim=-1, descending=True, stable=True).argsort(-1)
        gone = torch.zeros_like(alive[name])
        gone[:, :whole] = (rank >= n).flatten(-2).movedim(-1, 1)
        removed[name] = gone & alive[name]
        if inputs % m:
            rests.append(f"{inputs % m} of {inputs} in {name}")
    return removed, {f"left whole, the last inputs, which do not fill {m}": rests} if rests else {}
