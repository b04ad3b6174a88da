"""The square of the ratio of the L1 to the L2 norm."""

import torch
from torch import Tensor

TENSORS = "weights"


def penalty(weight: Tensor) -> Tensor:
    """Hoyer-square: (Σ|w|)² / Σw², about the number of weights that count; the scale does not matter

    Yang, Wen and Li, DeepHoyer, ICLR 2020, equation 3. Gradient 2·sign(w)·(Σ|w| / (Σw²)²)·(Σw² − |w|Σ|w|): weights
    below Σw²/Σ|w| are pulled towards zero, those above are pushed away from it. From 1 (a single weight is not zero)
    to N (all are equal in size).
    """
    largest = weight.detach().abs().amax()
    scaled = weight / torch.where(largest > 0, largest, 1)  # the ratio is the same, and no square vanishes or overflows
    square = scaled.square().sum()
    return scaled.abs().sum().square() / torch.where(square > 0, square, 1)
