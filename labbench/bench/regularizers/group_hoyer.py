"""The norms of filters and input channels against the norm of the whole."""

import torch
from torch import Tensor

TENSORS = "filters"


def penalty(weight: Tensor) -> Tensor:
    """Group Hoyer: (Σ_c‖W[:,c]‖ + Σ_f‖W[f]‖) / ‖W‖, makes few filters and channels carry all

    The Hoyer ratio (see hoyer) with the norms of input channels c and filters f in place of single weights. The scale
    does not matter. From 2 (one filter with one input channel is left) to √inputs + √filters.
    """
    largest = weight.detach().abs().amax()
    scaled = weight / torch.where(largest > 0, largest, 1)  # the ratio is the same, and no square vanishes or overflows
    filters = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    channels = torch.linalg.vector_norm(scaled.transpose(0, 1).flatten(1), dim=1)
    norm = torch.linalg.vector_norm(scaled)
    return (channels.sum() + filters.sum()) / torch.where(norm > 0, norm, 1)
