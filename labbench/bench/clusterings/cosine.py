"""Filters as directions, gathered by the angle between them."""

from typing import Annotated, Literal

import torch
from msgspec import Meta
from threadpoolctl import threadpool_limits
from torch import Tensor

from labbench.bench.vectors.centroids import centroids

ROUNDS = 300  # as scikit-learn's max_iter; a few dozen are enough


def share(
    vectors: Tensor,
    k: int,
    seed: int,
    *,
    norm: Annotated[
        Literal["mean", "kept"],
        Meta(description="length of the filters: the mean of the cluster, or each its own (then not equal, not tied)"),
    ] = "mean",
) -> tuple[Tensor, Tensor | None]:
    """Cosine: filters that point the same way share a direction

    Spherical k-means (Dhillon and Modha 2001, "Concept Decompositions for Large Sparse Text Data Using Clustering",
    section 3) on unit vectors: a centroid is the mean of its members' directions, scaled to length 1. The
    regularizer unit-norm makes it meaningful. Returns the shared vectors (filters × length) and the cluster of each
    filter; no clusters with kept norms, because the filters of one are multiples of each other and not equal.
    """
    lengths = vectors.norm(dim=1, keepdim=True)
    units = vectors / lengths.clamp_min(torch.finfo(vectors.dtype).tiny)
    labels = _spherical(units, k, seed)
    means = centroids(units, labels)
    directions = means / means.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
    if norm == "kept":
        return directions * lengths, None
    return directions * centroids(lengths, labels), labels


def _spherical(units: Tensor, k: int, seed: int) -> Tensor:
    """Assignment and update in turns, from k-means++ on the sphere, until nothing moves. No cluster is left empty."""
    from sklearn.cluster import kmeans_plusplus  # its import costs as much as half of torch's

    with threadpool_limits(limits=1):
        start, _ = kmeans_plusplus(units.cpu().numpy(), k, random_state=seed)
    centers = torch.from_numpy(start).to(units.device)
    labels = torch.full((len(units),), -1, device=units.device)
    for _ in range(ROUNDS):
        nearness, found = (units @ centers.T).max(1)
        for empty in (found.bincount(minlength=k) == 0).nonzero().flatten():
            lonely = nearness.argmin()  # the filter that fits worst begins a cluster of its own
            found[lonely], nearness[lonely] = empty, 2.0
        if torch.equal(found, labels):
            break
        labels = found
        sums = torch.zeros_like(centers).index_add_(0, labels, units)
        centers = sums / sums.norm(dim=1, keepdim=True).clamp_min(torch.finfo(units.dtype).tiny)
    return labels
