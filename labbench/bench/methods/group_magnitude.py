"""The channels whose coupled weights have the smallest norm are cut."""

from typing import Annotated, Literal

import torch
import torch_pruning as tp
from msgspec import Meta
from torch import Tensor

from labbench.bench.methods.knobs import Normalizer, Reduction, name_of

GRANULARITY = "filter"


def score(
    group: tp.dependency.Group,
    generator: torch.Generator,
    *,
    p: Annotated[Literal[1, 2], Meta(description="the norm: sum of |w| or of w²")] = 2,
    reduction: Reduction = "mean",
    normalizer: Normalizer = "mean",
) -> Tensor:
    """Group magnitude: cuts the filters whose coupled weights are smallest

    Torch-Pruning's group importance (Fang et al., DepGraph, CVPR 2023, equation 4): for each channel the norms of all
    filters and input slices that must go with it. The network gets really smaller.
    """
    return tp.importance.GroupMagnitudeImportance(p=p, group_reduction=reduction, normalizer=name_of(normalizer))(group)
