"""Filters as vectors, gathered by Euclidean distance."""

from typing import Annotated

import torch
from msgspec import Meta
from threadpoolctl import threadpool_limits
from torch import Tensor

from labbench.bench.centroids import centroids


def share(
    vectors: Tensor,
    k: int,
    seed: int,
    *,
    distance: Annotated[
        float, Meta(ge=0, description="filters farther than this from their centroid keep their own values; 0: none do")
    ] = 0.0,
) -> tuple[Tensor, Tensor]:
    """k-means: every filter becomes the centroid of its cluster

    k-means++ and Lloyd over the filters as vectors of length in·kh·kw (Lloyd 1982; Arthur and Vassilvitskii 2007;
    scikit-learn, one start). With a distance a filter that is farther than that from its centroid stays as it is, a
    cluster of its own. Returns the shared vectors (filters × length) and the cluster of each filter.
    """
    labels = k_means_labels(vectors, k, seed)
    shared = centroids(vectors, labels)
    if distance:
        far = (vectors - shared).double().norm(dim=1) > distance
        shared[far] = vectors[far]
        labels[far] = k + torch.arange(int(far.sum()))
        labels = labels.unique(return_inverse=True)[1]
    return shared, labels


def k_means_labels(vectors: Tensor, k: int, seed: int) -> Tensor:
    """The cluster of each vector by scikit-learn's k-means, int64."""
    from sklearn.cluster import KMeans  # its import costs as much as half of torch's; most starts never cluster

    with threadpool_limits(limits=1):
        found = KMeans(n_clusters=k, n_init=1, random_state=seed).fit(vectors.numpy())
    return torch.from_numpy(found.labels_).long()
