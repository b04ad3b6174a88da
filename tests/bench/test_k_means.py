"""Our own k-means: never worse than ten starts of scikit-learn, the same for the same seed, on any device."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from labbench.bench.clusterings import components
from labbench.bench.models import MODELS
from labbench.bench.vectors import k_means


def random(n: int, length: int, seed: int = 0) -> Tensor:
    return torch.randn(n, length, generator=torch.Generator().manual_seed(seed))


def gathered(n: int, length: int, kinds: int, spread: float, seed: int = 0) -> Tensor:
    """Vectors around as many different ones."""
    generator = torch.Generator().manual_seed(seed)
    return random(kinds, length, seed + 1)[torch.randint(kinds, (n,), generator=generator)] + spread * random(n, length)


def inertia(vectors: Tensor, labels: Tensor) -> float:
    """By its definition."""
    clusters = [vectors[labels == label].double() for label in labels.unique()]
    return sum(float(((own - own.mean(0)) ** 2).sum()) for own in clusters)


CASES = {
    "random": (random(64, 576), 32),
    "few for many": (random(300, 9), 10),
    "few for their length": (random(64, 27), 16),
    "on a line": (random(120, 1), 5),
    "kinds": (gathered(128, 288, 16, 0.3), 16),
    "more kinds than clusters": (gathered(128, 27, 32, 0.5), 16),
    "far from zero": (1000 + random(48, 60), 12),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_no_worse_than_the_best_of_ten_starts_of_scikit_learn(case: str) -> None:
    vectors, k = CASES[case]
    theirs = KMeans(n_clusters=k, n_init=10, random_state=0).fit(vectors.double().numpy()).inertia_
    for seed in (0, 1):
        assert inertia(vectors, k_means.by_distances(vectors, k, seed).labels) <= 1.001 * theirs


def test_filters_of_a_network_are_no_worse_than_with_scikit_learn() -> None:
    torch.manual_seed(0)
    model = MODELS["resnet-20"].build((1, 8, 8), 10)
    for name, k in {"conv1": 8, "layer1.0.conv1": 12, "layer3.2.conv2": 52}.items():
        vectors = model.get_parameter(f"{name}.weight").detach().flatten(1)
        theirs = KMeans(n_clusters=k, n_init=10, random_state=0).fit(vectors.double().numpy()).inertia_
        assert inertia(vectors, k_means.by_distances(vectors, k, 0).labels) <= 1.001 * theirs


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", ["gram", "scikit-learn"])
def test_every_cluster_has_a_member_and_the_distances_are_those_from_the_centroids(case: str, solver) -> None:
    vectors, k = CASES[case]
    labels, away = k_means.k_means(vectors.double(), k, 0, solver)
    assert labels.unique().tolist() == list(range(k))
    centers = torch.stack([vectors[labels == label].double().mean(0) for label in range(k)])
    expected = ((vectors.double() - centers[labels]) ** 2).sum(1)
    assert torch.allclose(away, expected, rtol=1e-9, atol=1e-9 * float(expected.max()))


@pytest.mark.parametrize("case", CASES)
def test_no_vector_is_nearer_to_another_centroid_and_none_gains_by_moving(case: str) -> None:
    """A standstill of Lloyd's rounds, and of Hartigan's and Wong's exchanges."""
    vectors, k = CASES[case]
    labels = k_means.by_distances(vectors, k, 0).labels
    now = inertia(vectors, labels)
    for number in range(0, len(vectors), 7):
        for label in range(k):
            other = labels.clone()
            other[number] = label
            assert inertia(vectors, other) >= now * (1 - 1e-9)


def test_it_is_the_same_for_the_same_seed() -> None:
    vectors = random(100, 20)
    one, same, other = (k_means.by_distances(vectors, 30, seed).labels for seed in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_equal_vectors_share_a_cluster(k: int) -> None:
    vectors = random(3, 50)[torch.tensor([0, 1, 1, 2, 0, 0, 2])]
    labels, away = k_means.by_distances(vectors, k, 0)
    for one, other in ((1, 2), (0, 4), (0, 5), (3, 6)):
        assert labels[one] == labels[other]
    assert len(labels.unique()) == k
    if k == 3:
        assert float(away.abs().max()) < 1e-12


def test_vectors_that_hardly_differ_are_told_apart() -> None:
    """Differences of 1e-5 around lengths of 1000: in float32 the products would drown them."""
    vectors = 1000.0 + gathered(40, 30, 8, 1e-3).double() * 1e-5
    expected = KMeans(n_clusters=8, n_init=10, random_state=0).fit((vectors - 1000.0).numpy() * 1e5)
    ours = k_means.by_distances(vectors, 8, 0).labels
    pairs = {(int(one), int(other)) for one, other in zip(ours, expected.labels_, strict=True)}
    assert len(pairs) == 8


def test_as_many_clusters_as_are_asked_for_even_where_the_vectors_are_equal() -> None:
    labels, away = k_means.by_distances(torch.ones(5, 3), 3, 0)
    assert labels.unique().tolist() == [0, 1, 2]
    assert not away.any()


def test_starts_that_do_not_fit_into_memory_together_are_followed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = random(50, 20)
    together = k_means.by_distances(vectors, 20, 0)
    monkeypatch.setattr(k_means, "BATCH", 1)
    apart = k_means.by_distances(vectors, 20, 0)
    assert torch.equal(together.labels, apart.labels)


def test_squared_distances_are_exact_symmetric_and_zero_to_oneself() -> None:
    vectors = random(300, 40)
    squares = k_means.squared_distances(vectors)
    expected = torch.cdist(vectors.double(), vectors.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
    assert torch.equal(squares, squares.T)
    assert not squares.diagonal().any()
    assert torch.allclose(squares, expected, rtol=1e-12, atol=1e-12)


def test_every_tensor_is_made_where_the_vectors_are() -> None:
    """With another default device a tensor that names none would lie there, and could not be used with the others."""
    vectors = random(40, 12)
    expected = k_means.by_distances(vectors, 12, 0).labels
    shared, labels = components.share(vectors, 6, 0)
    with torch.device("meta"):
        found = k_means.by_distances(vectors, 12, 0)
        again = components.share(vectors, 6, 0)
    assert torch.equal(found.labels, expected)
    assert torch.equal(again[0], shared) and torch.equal(again[1], labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same_clusters() -> None:
    for vectors, k in CASES.values():
        ours, theirs = (k_means.by_distances(vectors.to(device), k, 0) for device in ("cpu", "cuda"))
        assert math.isclose(float(ours.away.sum()), float(theirs.away.sum()), rel_tol=1e-3)
        assert np.array_equal(ours.labels.unique().numpy(), theirs.labels.unique().cpu().numpy())
        for one, other in zip(components.share(vectors, k, 0), components.share(vectors.cuda(), k, 0), strict=True):
            assert torch.allclose(one, other.cpu())
