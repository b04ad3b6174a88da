"""The channels whose removal changes the loss least, to the first order, are cut."""

import torch
import torch_pruning as tp
from torch import Tensor

from labbench.bench.methods.knobs import Batches, Normalizer, Reduction, name_of

GRANULARITY = "filter"
NEEDS_GRADIENTS = True


def salience(weight: Tensor, mean: Tensor, squares: Tensor) -> Tensor:
    """w·g, where g is the mean gradient."""
    return weight * mean


def score(
    group: tp.dependency.Group,
    generator: torch.Generator,
    *,
    batches: Batches = 10,
    reduction: Reduction = "mean",
    normalizer: Normalizer = "mean",
) -> Tensor:
    """Taylor: cuts the filters whose removal changes the loss least, first order

    Σ|w·g| over the coupled weights of a channel, batch norms included; g is the gradient of the mean training loss over
    the batches, with batch norm in eval mode and without augmentation (Molchanov et al., CVPR 2019, section 3.1).
    """
    return tp.importance.GroupMagnitudeImportance(p=1, group_reduction=reduction, normalizer=name_of(normalizer))(group)
