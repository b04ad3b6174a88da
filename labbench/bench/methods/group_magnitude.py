"""The channels whose coupled weights have the smallest norm are cut."""

from typing import Annotated, Literal

import torch_pruning as tp
from msgspec import Meta
from torch import Tensor

GRANULARITY = "filter"


def score(
    group: tp.dependency.Group,
    *,
    p: Annotated[Literal[1, 2], Meta(description="the norm: sum of |w| or of w²")] = 2,
    reduction: Annotated[
        Literal["mean", "sum", "max", "prod", "first"], Meta(description="how the coupled layers are put together")
    ] = "mean",
    normalizer: Annotated[
        Literal["mean", "sum", "max", "gaussian", "standarization", "none"],
        Meta(description="what makes the scores of different groups comparable"),
    ] = "mean",
) -> Tensor:
    """Group magnitude: cuts the filters whose coupled weights are smallest

    Torch-Pruning's group importance (Fang et al., DepGraph, CVPR 2023, equation 4): for each channel the norms of all
    filters and input slices that must go with it. The network gets really smaller.
    """
    importance = tp.importance.GroupMagnitudeImportance(
        p=p, group_reduction=reduction, normalizer=None if normalizer == "none" else normalizer
    )
    return importance(group)
