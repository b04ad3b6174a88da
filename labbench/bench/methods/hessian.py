"""The channels whose removal changes the loss least, to the second order, are cut."""

import torch
import torch_pruning as tp
from torch import Tensor

from labbench.bench.methods.knobs import Batches, Normalizer, Reduction, name_of

GRANULARITY = "filter"
NEEDS_GRADIENTS = True


def salience(weight: Tensor, mean: Tensor, squares: Tensor) -> Tensor:
    """w²·Σg²: the diagonal of the Fisher information stands for that of the Hessian."""
    return weight.square() * squares


def score(
    group: tp.dependency.Group,
    generator: torch.Generator,
    *,
    batches: Batches = 10,
    reduction: Reduction = "mean",
    normalizer: Normalizer = "mean",
) -> Tensor:
    """Hessian: cuts the filters whose removal changes the loss least, second order

    Σ w²·Σ_b g_b² over the coupled weights of a channel, batch norms included; g_b is the gradient of the mean loss of
    training batch b, and all batches count (LeCun et al., Optimal brain damage, 1989, section 2.2; the squared
    gradients stand for the second derivatives).
    """
    return tp.importance.GroupMagnitudeImportance(p=1, group_reduction=reduction, normalizer=name_of(normalizer))(group)
