"""The sum of absolute weights."""

from torch import Tensor

TENSORS = "weights"


def penalty(weight: Tensor) -> Tensor:
    """L1: Σ|w|, pulls every weight towards zero with the same force

    The lasso (Tibshirani 1996); for sparse networks Han et al. 2015, section 3.1. Many weights become small, but the
    large ones shrink too.
    """
    return weight.abs().sum()
