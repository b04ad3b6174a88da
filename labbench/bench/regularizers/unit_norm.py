"""How far the filters are from length 1."""

import torch
from torch import Tensor

TENSORS = "filters"


def penalty(weight: Tensor) -> Tensor:
    """Unit norm: Σ_f (‖W[f]‖ − 1)², gives all filters the length 1

    Makes clustering by angle (cosine, spherical k-means) meaningful: filters then differ in direction alone. It pulls
    towards length 1, not towards zero; a tensor without any weight left costs nothing.
    """
    norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return (norms - 1).square().sum() * norms.any()
