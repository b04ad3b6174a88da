"""The filters that the others can stand in for are cut."""

import torch
import torch_pruning as tp
from torch import Tensor

from labbench.bench.errors import breathe

GRANULARITY = "filter"


def score(group: tp.dependency.Group, generator: torch.Generator) -> Tensor:
    """Geometric median: cuts the filters that are nearest to all others

    score(u) = Σ_v ‖W[u] − W[v]‖₂ over the filters v of the same layer, divided by the layer's mean; coupled layers are
    averaged (He et al., FPGM, CVPR 2019, section 3.3). Torch-Pruning's takes distances between squared weights, in
    which w and −w are the same filter; these are distances between the filters, as in the paper.
    """
    removes_filters = (tp.prune_conv_out_channels, tp.prune_linear_out_channels)
    channels = 1 + max(int(channel) for channel in group.items[0].root_idxs)
    total, layers = torch.zeros(channels, dtype=torch.float64), 0
    for item in group.items:
        if item.dep.handler in removes_filters:
            filters = item.dep.layer.weight.detach()[list(item.idxs)].flatten(1).double()
            distances = _distances(filters)
            total.index_add_(0, torch.tensor([int(n) for n in item.root_idxs]), distances / distances.mean())
            layers += 1
    return (total / layers).float()


def _distances(filters: Tensor) -> Tensor:
    """The sum of the distances of each filter from all; written in one place, or each holds memory behind it."""
    sums = filters.new_empty(len(filters))
    for number, one in enumerate(filters):
        breathe()
        sums[number] = (filters - one).norm(dim=1).sum()
    return sums
