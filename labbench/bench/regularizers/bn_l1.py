"""The sum of the absolute scales of batch norms."""

from torch import Tensor

TENSORS = "scales"


def penalty(weight: Tensor) -> Tensor:
    """Batch-norm L1: Σ|γ| over the scales of batch norms, so that channels fade out (network slimming)

    Liu et al., Learning efficient convolutional networks through network slimming, ICCV 2017, equation 1. Of the chosen
    layers it takes the norms behind; all batch norms with *.
    """
    return weight.abs().sum()
