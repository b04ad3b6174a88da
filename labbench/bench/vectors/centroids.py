"""Means over clusters of filters, in float64: the mean of equal values is that value to the last bit."""

import torch
from torch import Tensor


def centroids(vectors: Tensor, labels: Tensor) -> Tensor:
    """Each entry replaced by the mean of its cluster, in the type of `vectors` (filters × length).

    `labels` are int64: one for each filter, or one for each entry, for clusters in each column of their own.
    """
    labels = labels if labels.dim() == 2 else labels[:, None].expand_as(vectors)
    clusters = int(labels.max()) + 1
    sums = torch.zeros(clusters, vectors.shape[1], dtype=torch.float64, device=vectors.device)
    counts = torch.zeros_like(sums)
    sums.scatter_add_(0, labels, vectors.double())
    counts.scatter_add_(0, labels, torch.ones_like(vectors, dtype=torch.float64))
    return (sums / counts).gather(0, labels).to(vectors.dtype)


def compact(labels: Tensor) -> Tensor:
    """The clusters numbered without gaps again, after some of their members went: all of them, or place by place."""
    if labels.dim() == 1:
        return labels.unique(return_inverse=True)[1]
    places = [place.unique(return_inverse=True)[1] for place in labels.flatten(1).T]
    return torch.stack(places, dim=1).view_as(labels)
