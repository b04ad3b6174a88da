"""Filters as vectors, gathered by Euclidean distance."""

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from labbench.bench.vectors.centroids import centroids
from labbench.bench.vectors.k_means import Solver, k_means


def share(
    vectors: Tensor,
    k: int,
    seed: int,
    *,
    distance: Annotated[
        float, Meta(ge=0, description="filters farther than this from their centroid keep their own values; 0: none do")
    ] = 0.0,
    solver: Solver = "gram",
) -> tuple[Tensor, Tensor]:
    """k-means: every filter becomes the centroid of its cluster

    k-means++ and Lloyd over the filters as vectors of length in·kh·kw (Lloyd 1982; Arthur and Vassilvitskii 2007), and
    exchanges of single filters (Hartigan and Wong 1979), from ten starts. With a distance a filter that is farther than
    that from its centroid stays as it is, a cluster of its own. Returns the shared vectors (filters × length) and the
    cluster of each filter.
    """
    labels = k_means(vectors, k, seed, solver).labels
    shared = centroids(vectors, labels)
    if distance:
        far = (vectors - shared).double().norm(dim=1) > distance
        shared[far] = vectors[far]
        labels[far] = k + torch.arange(int(far.sum()), device=labels.device)
        labels = labels.unique(return_inverse=True)[1]
    return shared, labels
