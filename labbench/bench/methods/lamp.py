"""The channels with the smallest share of what is not yet cut are cut."""

import torch
import torch_pruning as tp
from torch import Tensor

from labbench.bench.methods.knobs import Reduction

GRANULARITY = "filter"


def score(group: tp.dependency.Group, generator: torch.Generator, *, reduction: Reduction = "mean") -> Tensor:
    """LAMP: cuts the filters with the smallest share of their layer's norm

    score(u) = s(u) / Σ s(v) over all v with s(v) ≥ s(u), where s is the group magnitude Σw² (Lee et al., ICLR 2021,
    equation 4, for channels). In a layer it ranks as group magnitude does; what differs is the global scope: the
    largest of each layer scores 1, so that no layer is emptied.
    """
    return tp.importance.LAMPImportance(p=2, group_reduction=reduction)(group)
