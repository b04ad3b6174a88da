"""Penalties against their closed forms, finite differences and what they promise."""

import math

import pytest
import torch
from torch import Tensor

from labbench.bench.regularizers import REGULARIZERS

SHAPES = [(4, 3, 2, 2), (5, 7), (1, 1), (6, 1, 3, 3)]
SCALE_FREE = ["hoyer", "hoyer-square", "group-hoyer", "group-hoyer-square"]
each = pytest.mark.parametrize("name", REGULARIZERS)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def closed_form(name: str, weight: Tensor) -> float:
    """The formula of the specification, weight by weight, without torch."""
    entries = weight.flatten().tolist()
    ones, square = sum(abs(w) for w in entries), sum(w * w for w in entries)
    filters = [math.sqrt(sum(w * w for w in part.flatten().tolist())) for part in weight]
    channels = [math.sqrt(sum(w * w for w in weight[:, c].flatten().tolist())) for c in range(weight.shape[1])]
    return {
        "l1": ones,
        "hoyer": ones / math.sqrt(square),
        "hoyer-square": ones**2 / square,
        "transformed-l1": sum(2 * abs(w) / (1 + abs(w)) for w in entries),
        "group-lasso": sum(channels) + sum(filters),
        "group-hoyer": (sum(channels) + sum(filters)) / math.sqrt(square),
        "group-hoyer-square": (sum(channels) ** 2 + sum(filters) ** 2) / square,
        "bn-l1": ones,
        "unit-norm": sum((norm - 1) ** 2 for norm in filters),
    }[name]


@each
@each_shape
def test_a_penalty_is_its_closed_form(name: str, shape: tuple[int, ...]) -> None:
    weight = drawn(shape)
    assert float(REGULARIZERS[name].penalty(weight)) == pytest.approx(closed_form(name, weight), rel=1e-12)


@each
@each_shape
def test_a_gradient_is_that_of_finite_differences(name: str, shape: tuple[int, ...]) -> None:
    weight = drawn(shape).requires_grad_()
    assert torch.autograd.gradcheck(REGULARIZERS[name].penalty, (weight,))


@each
@each_shape
def test_nothing_costs_nothing_and_pulls_at_nothing(name: str, shape: tuple[int, ...]) -> None:
    weight = torch.zeros(shape, requires_grad=True)
    penalty = REGULARIZERS[name].penalty(weight)
    penalty.backward()
    assert penalty.item() == 0
    assert weight.grad is not None
    assert not weight.grad.any()
    assert weight.grad.isfinite().all()


@each
def test_zeros_among_weights_are_not_pulled_at_and_give_no_nan(name: str) -> None:
    """Pruned filters, input channels and weights stay where they are."""
    weight = drawn((6, 5, 3, 3)).float()
    weight[2] = 0
    weight[:, 1] = 0
    weight[4, 3, 0, 0] = 0
    weight.requires_grad_()
    REGULARIZERS[name].penalty(weight).backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert not weight.grad[weight == 0].any()
    assert weight.grad[weight != 0].any()


@pytest.mark.parametrize("name", SCALE_FREE)
def test_the_scale_does_not_matter(name: str) -> None:
    penalty, weight = REGULARIZERS[name].penalty, drawn((4, 3, 2, 2)).float()
    expected = float(penalty(weight))
    for factor in (-1.0, 1e-3, 7.0, 1e-25, 1e25):  # with squares, the last two would be 0 and infinite
        assert float(penalty(factor * weight)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (5, 7)])
def test_the_hoyer_square_is_1_for_one_weight_and_n_for_equal_ones(shape: tuple[int, ...]) -> None:
    penalty, size = REGULARIZERS["hoyer-square"].penalty, math.prod(shape)
    single = torch.zeros(shape, dtype=torch.float64)
    single.view(-1)[3] = -0.2
    assert float(penalty(single)) == pytest.approx(1)
    assert float(penalty(torch.full(shape, -0.3, dtype=torch.float64))) == pytest.approx(size)
    for seed in range(20):
        assert 1 <= float(penalty(drawn(shape, seed) ** 3)) <= size
    half = torch.zeros(shape, dtype=torch.float64)
    half.view(-1)[: size // 2] = 0.7
    assert float(penalty(half)) == pytest.approx(size // 2)


def test_the_gradient_of_the_hoyer_square_is_the_one_of_the_paper() -> None:
    weight = drawn((4, 3, 2, 2)).requires_grad_()
    REGULARIZERS["hoyer-square"].penalty(weight).backward()
    w = weight.detach()
    ones, square = w.abs().sum(), w.square().sum()
    expected = 2 * w.sign() * (ones / square**2) * (square - w.abs() * ones)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, expected)
    below = w.abs() < square / ones
    assert ((weight.grad * w)[below] > 0).all(), "a step against it makes these smaller"
    assert ((weight.grad * w)[~below] < 0).all(), "and those larger"


def test_the_group_penalties_have_their_ranges() -> None:
    single, equal = torch.zeros(6, 5, 3, 3, dtype=torch.float64), torch.ones(6, 5, 3, 3, dtype=torch.float64)
    single[2, 1] = 0.4
    square, ratio = REGULARIZERS["group-hoyer-square"].penalty, REGULARIZERS["group-hoyer"].penalty
    assert float(square(single)) == pytest.approx(2)
    assert float(square(equal)) == pytest.approx(6 + 5)
    assert float(ratio(single)) == pytest.approx(2)
    assert float(ratio(equal)) == pytest.approx(math.sqrt(6) + math.sqrt(5))


def test_filters_of_length_one_cost_nothing_by_the_unit_norm() -> None:
    weight = drawn((4, 3, 2, 2))
    unit = weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert float(REGULARIZERS["unit-norm"].penalty(unit)) == pytest.approx(0, abs=1e-20)
    assert float(REGULARIZERS["unit-norm"].penalty(2 * unit)) == pytest.approx(4)
