"""The smallest absolute weights go first."""

import torch
from torch import Tensor

GRANULARITY = "weight"


def select(
    weights: dict[str, Tensor], alive: dict[str, Tensor], count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Magnitude: the smallest |w| of the chosen layers

    The baseline of every study (Han et al. 2015; Blalock et al. 2020). Removes what `torch.nn.utils.prune` removes with
    `l1_unstructured` (scope layer) and `global_unstructured` (scope global); of equal weights the first go.
    """
    size = torch.cat([weights[name].abs()[alive[name]] for name in weights])
    threshold = size.kthvalue(count).values
    gone = size < threshold
    ties = (size == threshold).nonzero().flatten()
    gone[ties[: count - int(gone.sum())]] = True
    parts = gone.split([int(alive[name].sum()) for name in weights])
    removed = {name: torch.zeros_like(alive[name]) for name in weights}
    for name, part in zip(weights, parts, strict=True):
        removed[name][alive[name]] = part
    return removed
