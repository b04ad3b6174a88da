"""Layers so wide that no memory holds all pairs of their filters; and a stop that is heard in the midst of it."""

import itertools
import resource
from collections.abc import Callable

import pytest
import torch
from bench_examples import noise, state_of
from torch import nn

from labbench.bench.apply import apply
from labbench.bench.errors import Stopped
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.bench.vectors import k_means
from labbench.session.operations import Cluster, Prune


def wide(width: int) -> State:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 10))
    torch.manual_seed(0)
    return state_of(model, noise((1, 4, 4)))


def stopping_after(calls: int) -> Callable[[], bool]:
    counter = itertools.count()
    return lambda: next(counter) >= calls


def test_more_vectors_than_fit_are_clustered_without_all_pairs() -> None:
    vectors = torch.randn(k_means.WIDEST + 1, 16, generator=torch.Generator().manual_seed(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    one, two = (k_means.k_means(vectors, 20, 3, "gram") for _ in range(2))
    assert torch.equal(one.labels, two.labels)
    assert one.labels.bincount(minlength=20).min() > 0
    centers = torch.stack([vectors[one.labels == label].double().mean(0) for label in range(20)])
    nearest = torch.cdist(vectors.double(), centers)
    assert (nearest.argmin(1) == one.labels).double().mean() > 0.99
    assert torch.allclose(nearest.min(1).values.square(), one.away, atol=1e-2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB: all pairs are 540 MB


def test_every_cluster_of_many_has_a_member_though_vectors_are_equal() -> None:
    vectors = torch.arange(30.0).repeat(400)[:, None].expand(-1, 3)
    found = k_means.by_vectors(vectors, 30, 0)
    assert found.labels.bincount(minlength=30).min() > 0
    assert float(found.away.sum()) < 30 * 400


def test_a_few_vectors_find_what_all_pairs_find() -> None:
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(8, 5, generator=generator).repeat_interleave(30, 0) * 20
    vectors += torch.randn(vectors.shape, generator=generator)
    far, near = k_means.by_vectors(vectors, 8, 0), k_means.by_distances(vectors, 8, 0)
    assert float(far.away.sum()) < 60 * float(near.away.sum())


@pytest.mark.parametrize(
    "operation",
    [
        Cluster(layers=("1",), k=100),
        Prune(layers=("1",), method="kmeans", amount=0.5),
        Prune(layers=("1",), method="fpgm", amount=0.5),
    ],
    ids=["cluster", "kmeans", "fpgm"],
)
@pytest.mark.parametrize("width", [300, k_means.WIDEST + 8])
def test_a_stop_is_heard_while_filters_are_compared(
    operation: Cluster | Prune, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k_means, "WIDEST", 200 if width > 300 else 8192)
    state = wide(min(width, 400))
    for calls in (3, 20, 60):
        tools = Tools(lambda *what: state.data, stopped=stopping_after(calls))
        with pytest.raises(Stopped):
            apply(operation, state, tools)
