"""The squared norms of filters and input channels against the whole."""

import torch
from torch import Tensor

TENSORS = "filters"


def penalty(weight: Tensor) -> Tensor:
    """Group Hoyer-square: ((Σ_c‖W[:,c]‖)² + (Σ_f‖W[f]‖)²) / ΣW², about the number that counts

    Yang, Wen and Li, DeepHoyer, ICLR 2020, equation 5: input channels c and filters f in place of single weights. The
    scale does not matter. From 2 (one filter with one input channel is left) to inputs + filters.
    """
    largest = weight.detach().abs().amax()
    scaled = weight / torch.where(largest > 0, largest, 1)  # the ratio is the same, and no square vanishes or overflows
    filters = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    channels = torch.linalg.vector_norm(scaled.transpose(0, 1).flatten(1), dim=1)
    square = scaled.square().sum()
    return (channels.sum().square() + filters.sum().square()) / torch.where(square > 0, square, 1)
