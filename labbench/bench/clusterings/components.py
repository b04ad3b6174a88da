"""Each position of the filters by itself: K values a position instead of K filters."""

import math

import torch
from torch import Tensor

from labbench.bench.vectors.centroids import centroids

ROUNDS = 45  # halvings of the price, over 15 decades: to a relative 1e-12
CHEAPEST = 1e-15  # of the sum of squares, the lowest price that is tried
ENTRIES = 2**21  # at a time: few steps of many positions, in about 100 MB


def share(vectors: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Components: k values at each position of the filters, the best there are

    For each of the in·kh·kw positions the values of all filters there are gathered into at most k clusters, and every
    filter keeps, at that position, the centroid of its own. In one dimension clusters are intervals and the optimum can
    be found (Wang and Song 2011, "Ckmeans.1d.dp"); the seed changes nothing. At most k·in·kh·kw distinct parameters.
    Returns the shared vectors (filters × length) and the cluster of each entry.
    """
    ordered, order = vectors.double().sort(dim=0, stable=True)
    together = max(1, ENTRIES // len(vectors))
    intervals = torch.cat([_intervals(part, k) for part in ordered.split(together, dim=1)], dim=1)
    labels = torch.empty_like(order).scatter_(0, order, intervals)
    return centroids(vectors, labels), labels


def _intervals(ordered: Tensor, k: int) -> Tensor:
    """The best clusters, at most k, of sorted values, in each column by itself.

    The least sum of squares is convex in the number of clusters (Aggarwal et al. 1994), so there is a price of a
    cluster at which the best number of clusters is k; it is found by halving.
    """
    columns = ordered.shape[1]
    centered = ordered - ordered.mean(0)
    zeros = ordered.new_zeros(1, columns)
    sums, squares = (torch.cat([zeros, values.cumsum(0)]) for values in (centered, centered**2))
    spread = (squares[-1] + torch.finfo(ordered.dtype).tiny).log()
    low, high = spread + math.log(CHEAPEST), spread + 1
    best = torch.zeros_like(ordered, dtype=torch.long)
    left = torch.arange(columns, device=ordered.device)
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        labels = _at_price(sums[:, left], squares[:, left], middle[left].exp())
        few = labels[-1] < k
        best[:, left[few]] = labels[:, few]
        high[left[few]], low[left[~few]] = middle[left[few]], middle[left[~few]]
        left = left[labels[-1] != k - 1]
        if not len(left):
            break
    return best


def _at_price(sums: Tensor, squares: Tensor, price: Tensor) -> Tensor:
    """The cluster of each value where the sum of squares and the price of the clusters together are least."""
    count = len(sums) - 1
    cost = torch.zeros_like(sums)
    begins = torch.zeros_like(sums, dtype=torch.long)
    first = 0  # the last cluster never begins earlier for a later end
    for end in range(1, count + 1):
        sizes = torch.arange(end - first, 0, -1, dtype=sums.dtype, device=sums.device)[:, None]
        within = squares[end] - squares[first:end] - (sums[end] - sums[first:end]) ** 2 / sizes
        cost[end], begins[end] = (within.clamp_min_(0) + cost[first:end]).min(0)
        cost[end] += price
        begins[end] += first
        first = int(begins[end].min())
    labels = torch.zeros_like(begins)
    border = begins[count]
    for end in range(count - 1, -1, -1):  # from the back, so that labels count the clusters that follow
        new = border == end + 1
        labels[end] = labels[end + 1] + new
        border = torch.where(new, begins[end + 1], border)
    return labels[0] - labels[:count]
