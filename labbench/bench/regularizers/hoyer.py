"""The ratio of the L1 to the L2 norm."""

import torch
from torch import Tensor

TENSORS = "weights"


def penalty(weight: Tensor) -> Tensor:
    """Hoyer: Σ|w| / √Σw², makes few weights carry all; the scale does not matter

    Hoyer 2004 (the ratio in his measure of sparseness), as a regularizer in Yang, Wen and Li, DeepHoyer, ICLR 2020.
    From 1 (a single weight is not zero) to √N (all are equal in size).
    """
    largest = weight.detach().abs().amax()
    scaled = weight / torch.where(largest > 0, largest, 1)  # the ratio is the same, and no square vanishes or overflows
    norm = torch.linalg.vector_norm(scaled)
    return scaled.abs().sum() / torch.where(norm > 0, norm, 1)
