"""One filter of each cluster of similar filters stays."""

import numpy as np
from torch import Tensor

from labbench.bench.vectors.k_means import Solver, k_means

GRANULARITY = "filter"


def keep(filters: Tensor, count: int, seed: int, *, solver: Solver = "gram") -> list[int]:
    """k-means: of similar filters one stays, the nearest to its cluster's centroid

    k-means over the filters of a layer (of the first, where layers are coupled) as vectors, with as many clusters as
    filters shall stay (after Li et al., ICCV 2019); of two that are as near the first. It counts in each layer: the
    scope is the layer's.
    """
    vectors = filters.detach().cpu().flatten(1).double()
    _, first = np.unique(vectors.numpy(), axis=0, return_index=True)
    if len(first) <= count:  # fewer different filters than shall stay: one of each, and the first of the others
        return sorted([*first.tolist(), *(n for n in range(len(vectors)) if n not in first)][:count])
    labels, away = k_means(vectors, count, seed, solver)
    members = ((labels == label).nonzero().flatten() for label in range(count))
    return sorted(int(own[away[own].argmin()]) for own in members)
