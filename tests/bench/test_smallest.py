"""The smallest of many: what sorting all of them finds, whatever a sample says of them."""

import math

import pytest
import torch
from torch import Tensor

from labbench.bench.vectors import smallest

Tensors = dict[str, Tensor]


def by_sorting(weights: Tensors, alive: Tensors, count: int) -> Tensors:
    """The rule, as it stands in the menu: the smallest go, and of equal ones the first."""
    sizes = torch.cat([weight.double().abs().flatten() for weight in weights.values()])
    places = torch.cat([mask.flatten() for mask in alive.values()]).nonzero().flatten()
    gone = torch.zeros(len(sizes), dtype=torch.bool)
    gone[places[sizes[places].argsort(stable=True)[:count]]] = True
    parts = gone.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}


def drawn(kind: str, generator: torch.Generator) -> Tensors:
    weights = {
        name: torch.randn(shape, generator=generator) * scale
        for name, shape, scale in (("a", (37, 5), 1.0), ("b", (1,), 1.0), ("c", (3, 4, 3, 3), 0.1), ("d", (200,), 10.0))
    }
    match kind:
        case "tied":
            return {name: (2 * weight).round() for name, weight in weights.items()}
        case "half":
            return {name: weight.bfloat16() if name in "ac" else weight.half() for name, weight in weights.items()}
        case "double":
            return {name: weight.double() + 1e-12 if name == "d" else weight for name, weight in weights.items()}
        case "zeros":
            return {name: weight.relu() for name, weight in weights.items()}
        case "endless":
            return {name: weight.masked_fill(weight > 1, math.inf) for name, weight in weights.items()}
    return weights


@pytest.mark.parametrize("kind", ["plain", "tied", "half", "double", "zeros", "endless"])
@pytest.mark.parametrize("dead", [0.0, 0.4])
@pytest.mark.parametrize(("sample", "piece"), [(2**17, 2**17), (50, 2**17), (50, 32)])
def test_it_finds_what_sorting_finds(
    kind: str, dead: float, sample: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smallest, "SAMPLE", sample)
    monkeypatch.setattr(smallest, "PIECE", piece)
    generator = torch.Generator().manual_seed(len(kind))
    for _ in range(5):
        weights = drawn(kind, generator)
        alive = {name: torch.rand(w.shape, generator=generator) >= dead for name, w in weights.items()}
        total = sum(int(mask.sum()) for mask in alive.values())
        before = {name: weight.clone() for name, weight in weights.items()}
        for count in {1, 2, total // 10, total // 2, total - 1, total}:
            found, expected = smallest.smallest(weights, alive, count), by_sorting(weights, alive, count)
            assert all(torch.equal(found[name], expected[name]) for name in weights)
        assert all(torch.equal(weights[name], before[name]) for name in weights)


def test_a_sample_that_misleads_costs_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value that is looked at is a million times what the others are."""
    monkeypatch.setattr(smallest, "SAMPLE", 100)
    weights = {"a": torch.rand(10_000, generator=torch.Generator().manual_seed(0))}
    weights["a"][::100] *= 1e6
    alive = {"a": torch.ones(10_000, dtype=torch.bool)}
    for count in (1, 5_000, 9_899, 9_900, 9_901, 10_000):
        assert torch.equal(smallest.smallest(weights, alive, count)["a"], by_sorting(weights, alive, count)["a"])


def test_weights_that_do_not_lie_in_a_row_are_taken_in_their_order() -> None:
    weight = torch.tensor([[3.0, -3.0, 1.0], [3.0, 2.0, -3.0]]).t()
    found = smallest.smallest({"a": weight}, {"a": torch.ones(3, 2, dtype=torch.bool)}, 4)["a"]
    assert found.tolist() == [[True, True], [False, True], [True, False]]


def test_large_tensors_are_looked_at_closely_only_between_the_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {str(number): torch.randn(400_000, generator=generator) for number in range(3)}
    alive = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    looked: list[int] = []
    between = smallest._between

    def counted(*arguments):
        below, near = between(*arguments)
        looked.append(len(near))
        return below, near

    monkeypatch.setattr(smallest, "_between", counted)
    for count in (600_000, 1_080_000):
        found = smallest.smallest(weights, alive, count)
        expected = by_sorting(weights, alive, count)
        assert all(torch.equal(found[name], expected[name]) for name in weights)
    assert len(looked) == 2
    assert max(looked) < 0.03 * 1_200_000
