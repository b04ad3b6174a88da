"""A bounded sum of absolute weights."""

from torch import Tensor

TENSORS = "weights"


def penalty(weight: Tensor) -> Tensor:
    """Transformed L1: Σ 2|w| / (1 + |w|), pulls at small weights and spares large ones

    Ma, Miao, Niu and Zhang, Transformed L1 regularization for learning sparse deep neural networks, 2019, with a = 1.
    Each weight costs 2|w| near zero and less than 2 however large it is.
    """
    size = weight.abs()
    return (2 * size / (1 + size)).sum()
