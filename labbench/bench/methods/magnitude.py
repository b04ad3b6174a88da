"""The smallest absolute weights go first."""

import torch
from torch import Tensor

from labbench.bench.vectors.smallest import smallest

GRANULARITY = "weight"


def select(
    weights: dict[str, Tensor], alive: dict[str, Tensor], count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Magnitude: the smallest |w| of the chosen layers

    The baseline of every study (Han et al. 2015; Blalock et al. 2020). Removes what `torch.nn.utils.prune` removes with
    `l1_unstructured` (scope layer) and `global_unstructured` (scope global); of equal weights the first go.
    """
    return smallest(weights, alive, count)
