"""k-means over filters: of our own, which looks at the vectors once and then goes by the distances between them, or
scikit-learn's. Everything random is drawn from the seed on the CPU, so that a GPU begins at the same filters."""

import math
from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from msgspec import Meta
from threadpoolctl import threadpool_limits
from torch import Tensor

from labbench.bench.errors import breathe

Solver: TypeAlias = Annotated[
    Literal["gram", "scikit-learn"],
    Meta(description="gram: ten starts and exchanges, from the filters' distances; scikit-learn: one start, as before"),
]

STARTS = 10  # as many as scikit-learn's n_init=10
ROUNDS = 300  # as scikit-learn's max_iter
BATCH = 2**22  # starts are followed together as long as starts × clusters × vectors is no more: 32 MB
EXCHANGED = 2**15  # exchanges go on from so many of the best starts that this times is clusters × vectors
WIDEST = 8192  # vectors: more would take gigabytes for the distances between all
BLOCK = 128  # rows of the matrix of products at a time: the half above the diagonal is never computed
ROUNDING = 1e-13  # of the largest distance: what a move gains beyond that is no rounding


class Clusters(NamedTuple):
    """What k-means found."""

    labels: Tensor
    """int64, the cluster of each vector; every cluster has one."""
    away: Tensor
    """The squared distance of each vector from the centroid of its cluster."""


class Around(NamedTuple):
    """The clusters of several starts."""

    distances: Tensor
    """Starts × clusters × vectors: from the centroids, squared; of no meaning where a cluster is empty."""
    sizes: Tensor
    """Starts × clusters."""
    away: Tensor
    """Starts × vectors: from the own centroid, squared."""


def k_means(vectors: Tensor, k: int, seed: int, solver: Solver) -> Clusters:
    """Clusters of vectors (n × length, of which k or more differ), on their device."""
    if solver == "scikit-learn":
        return by_scikit_learn(vectors, k, seed)
    return by_distances(vectors, k, seed) if len(vectors) <= WIDEST else by_vectors(vectors, k, seed)


def by_scikit_learn(vectors: Tensor, k: int, seed: int) -> Clusters:
    """The clusters of scikit-learn's k-means from one start, found on the CPU."""
    from sklearn.cluster import KMeans  # its import costs as much as half of torch's; most starts never cluster

    values = vectors.cpu().numpy()
    with threadpool_limits(limits=1):
        found = KMeans(n_clusters=k, n_init=1, random_state=seed).fit(values)
    away = ((values - found.cluster_centers_[found.labels_]) ** 2).sum(1)
    return Clusters(
        torch.from_numpy(found.labels_).long().to(vectors.device), torch.from_numpy(away).to(vectors.device)
    )


def by_distances(vectors: Tensor, k: int, seed: int) -> Clusters:
    """The best clusters of `STARTS` starts.

    Greedy k-means++ (Arthur and Vassilvitskii 2007, with scikit-learn's 2 + ln k candidates a step), Lloyd's rounds
    (Lloyd 1982) of all starts together, and then exchanges of single vectors (Hartigan and Wong 1979, "Algorithm AS
    136") from the best: a centroid comes nearer to a vector that joins it, which Lloyd's rounds do not see. The mean of
    distances stands for the distance from a mean: |x − mean(C)|² = mean |x − c|² − ½ mean |c − c'|² over c, c' in C.
    """
    squares = squared_distances(vectors)
    labels = _starts(squares, k, seed)
    batch = max(1, BATCH // (k * len(squares)))
    settled = torch.cat([_settled(squares, k, part) for part in labels.split(batch)])
    sums = torch.cat([_around(squares, k, part).away.sum(1) for part in settled.split(batch)])
    best = settled[sums.argsort(stable=True)[: max(1, EXCHANGED // (k * len(squares)))]]
    exchanged = _settled(squares, k, best, exchange=True)
    away = _around(squares, k, exchanged).away
    least = int(away.sum(1).argmin())
    return _filled(exchanged[least], away[least], k)


def by_vectors(vectors: Tensor, k: int, seed: int) -> Clusters:
    """Clusters of more vectors than memory holds the distances between: k-means++ and Lloyd, from one start."""
    points = vectors.double()
    chances = torch.rand(k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu").tolist()
    centers = points.new_empty(k, points.shape[1])
    away = points.new_full((len(points),), 1.0)
    for number, chance in enumerate(chances):
        breathe()
        reached = away.cumsum(0)
        place = int(torch.searchsorted(reached, chance * reached[-1], right=True).clamp_max_(len(points) - 1))
        centers[number] = points[place]
        nearer = (points - points[place]).square_().sum(1)
        away = nearer if number == 0 else torch.minimum(away, nearer)
    labels = torch.full((len(points),), -1, device=points.device)
    for _ in range(ROUNDS):
        away, found = _nearest(points, centers)
        if torch.equal(found, labels):
            break
        labels = found
        sums = torch.zeros_like(centers).index_add_(0, labels, points)
        sizes = labels.bincount(minlength=k)[:, None]
        centers = torch.where(sizes > 0, sums / sizes.clamp_min(1), centers)
    return _filled(labels, away, k)


def _nearest(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The squared distance of each point from the nearest center, and its number; few points at a time."""
    lengths = centers.square().sum(1)
    found = []
    for part in points.split(max(1, BATCH // len(centers))):
        breathe()
        found.append(torch.addmm(lengths, part, centers.T, alpha=-2).min(1))
    least, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return (least + points.square().sum(1)).clamp_min_(0), labels


def squared_distances(vectors: Tensor) -> Tensor:
    """Between all vectors, n × n in float64: symmetric, and zero on the diagonal."""
    centered = vectors.to(torch.float64, copy=True)
    centered -= centered.mean(0)
    products = centered.new_empty(len(centered), len(centered))
    for first in range(0, len(centered), BLOCK):
        breathe()
        torch.mm(centered[first:], centered[first : first + BLOCK].T, out=products[first:, first : first + BLOCK])
    lengths = products.diagonal().clone()
    half = products.mul_(-2).add_(lengths).add_(lengths[:, None]).clamp_min_(0).tril_(-1)
    return half + half.T


def _starts(squares: Tensor, k: int, seed: int) -> Tensor:
    """The nearest of k vectors that greedy k-means++ chooses, for each vector, in each start: starts × n."""
    generator = torch.Generator().manual_seed(seed)
    shape = (k, STARTS, 2 + int(math.log(k)))
    chances = torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu").to(squares.device)
    everyone = torch.arange(STARTS, device=squares.device)
    chosen = (chances[0, :, 0] * len(squares)).long()
    nearest = squares[chosen]
    labels = torch.zeros_like(nearest, dtype=torch.long)
    for number in range(1, k):
        breathe()
        reached = nearest.cumsum(1)
        drawn = torch.searchsorted(reached, chances[number] * reached[:, -1:], right=True)
        left = squares[drawn.clamp_max_(len(squares) - 1)]
        torch.minimum(left, nearest[:, None], out=left)
        best = left[everyone, left.sum(2).argmin(1)]
        labels[best < nearest] = number
        nearest = best
    return labels


def _around(squares: Tensor, k: int, labels: Tensor) -> Around:
    """Distances from the centroids of these clusters (starts × n)."""
    breathe()
    starts, count = labels.shape
    clusters = (labels + k * torch.arange(starts, device=labels.device)[:, None]).flatten()
    sizes = clusters.bincount(minlength=starts * k)
    members = clusters.argsort(stable=True)
    begins = sizes.cumsum(0) - sizes
    shares = sizes.clamp_min(1).double().reciprocal().view(starts, k, 1)
    sums = F.embedding_bag(members % count, squares, begins, mode="sum").view(starts, k, count)
    means = sums.mul_(shares)
    own = means.gather(1, labels[:, None]).reshape(-1, 1)
    within = F.embedding_bag(members, own, begins, mode="sum").view(starts, k, 1).mul_(shares)
    distances = means.sub_(within / 2)
    return Around(distances, sizes.view(starts, k), distances.gather(1, labels[:, None])[:, 0])


def _settled(squares: Tensor, k: int, labels: Tensor, *, exchange: bool = False) -> Tensor:
    """The clusters (starts × n) after rounds in which every vector goes to the nearest centroid, until none moves.

    With `exchange` after rounds of the moves that gain most: in a round a cluster gives or takes one vector at most, so
    that what the moves gain adds up. An empty cluster costs nothing to join, so it is filled.
    """
    rounding = ROUNDING * squares.max()
    for _ in range(ROUNDS):
        distances, sizes, away = _around(squares, k, labels)
        if not exchange:
            near, target = distances.masked_fill_((sizes == 0)[:, :, None], math.inf).min(1)
            moving = near < away - rounding
        else:
            joined = (sizes.double() / (sizes + 1))[:, :, None]  # 0 for an empty cluster
            costs = distances.mul_(joined)
            cost, target = costs.scatter_(1, labels[:, None], math.inf).min(1)
            own = sizes.gather(1, labels)
            gain = torch.where(own > 1, away * own / (own - 1), -math.inf) - cost
            gain.masked_fill_(gain <= rounding, -math.inf)
            most = gain.new_full(sizes.shape, -math.inf)
            most.scatter_reduce_(1, torch.cat([labels, target], 1), torch.cat([gain, gain], 1), "amax")
            moving = (gain > -math.inf) & (gain == most.gather(1, labels)) & (gain == most.gather(1, target))
        if not moving.any():
            break
        labels = torch.where(moving, target, labels)
    return labels


def _filled(labels: Tensor, away: Tensor, k: int) -> Clusters:
    """With vectors that fit worst in clusters of their own where one is empty: where hardly k vectors differ."""
    labels, away = labels.clone(), away.clone()
    sizes = labels.bincount(minlength=k)
    for empty in (sizes == 0).nonzero().flatten():
        farthest = torch.where(sizes[labels] > 1, away, -1.0).argmax()
        sizes[labels[farthest]] -= 1
        sizes[empty] += 1
        labels[farthest], away[farthest] = empty, 0.0
    return Clusters(labels, away)
