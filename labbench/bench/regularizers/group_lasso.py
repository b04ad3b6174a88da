"""The sum of the norms of filters and of input channels."""

import torch
from torch import Tensor

TENSORS = "filters"


def penalty(weight: Tensor) -> Tensor:
    """Group lasso: Σ_c‖W[:,c]‖ + Σ_f‖W[f]‖, empties whole filters and input channels

    Yuan and Lin 2006; for networks Wen et al., Learning structured sparsity, NeurIPS 2016, equation 2: c runs over the
    input channels, f over the filters.
    """
    filters = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    channels = torch.linalg.vector_norm(weight.transpose(0, 1).flatten(1), dim=1)
    return channels.sum() + filters.sum()
