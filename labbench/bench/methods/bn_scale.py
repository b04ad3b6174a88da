"""The channels that their batch norms scale down most are cut."""

import torch
import torch_pruning as tp
from torch import Tensor

from labbench.bench.methods.knobs import Normalizer, Reduction, name_of

GRANULARITY = "filter"


def score(
    group: tp.dependency.Group,
    generator: torch.Generator,
    *,
    reduction: Reduction = "mean",
    normalizer: Normalizer = "none",
) -> Tensor | None:
    """Batch-norm scale: cuts the filters whose |γ| is smallest

    Network slimming (Liu et al., ICCV 2017, section 3): |γ| of the batch norms behind the filters, compared as it is
    over all layers. Where no batch norm stands behind the filters there is no score, and they stay.
    """
    found: Tensor | None = tp.importance.BNScaleImportance(reduction, name_of(normalizer))(group)
    return found
