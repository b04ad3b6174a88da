"""Any filters are cut, all with the same chance."""

import torch
import torch_pruning as tp
from torch import Tensor

GRANULARITY = "filter"


def score(group: tp.dependency.Group, generator: torch.Generator) -> Tensor:
    """Random filters: cuts any filters, as many as asked; the control

    Each channel draws a number from the seed, uniform in 0…1 (Mittal et al., WACV 2018). For single weights there is
    the method `random`.
    """
    return torch.rand(1 + max(int(channel) for channel in group.items[0].root_idxs), generator=generator)
