"""Weights that are no numbers: whatever would rank or compare them refuses, in a sentence that names them."""

import math

import pytest
import torch
from bench_examples import Small, doing, untouched, with_weights

from labbench.bench.errors import BenchError
from labbench.bench.methods import METHODS
from labbench.bench.states.state import State
from labbench.session.operations import AnyOperation, Cluster, Prune

LAYER = "layer1.0.conv1"
OPERATIONS: list[AnyOperation] = [
    *(Prune(method=name, layers=(LAYER,), amount=0.5) for name in METHODS),
    *(Cluster(method=name, layers=(LAYER,), k=2) for name in ("k-means", "cosine", "components")),
]


def spoiled(state: State, value: float) -> State:
    weight = state.weight(LAYER).clone()
    weight.view(-1)[7] = value
    return with_weights(state, {LAYER: weight})


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.method)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_whatever_ranks_weights_refuses_those_that_are_no_numbers(
    small: Small, operation: AnyOperation, value: float
) -> None:
    state = spoiled(small(), value)
    with untouched(state), pytest.raises(BenchError, match=r"not finite"):
        doing(state, operation)


def test_layers_that_are_not_chosen_may_hold_what_they_like_where_nothing_is_compared(small: Small) -> None:
    state = spoiled(small(), math.nan)
    assert doing(state, Prune(layers=("fc",), amount=0.5)).state.masks.keys() == {"fc"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_cut_names_the_bias_that_makes_every_answer_no_number(small: Small, value: float) -> None:
    state = small()
    model = state.copy_model()
    with torch.no_grad():
        model.get_parameter("fc.bias")[0] = value
    state = with_weights(state, {})
    state.model.load_state_dict(model.state_dict())
    with pytest.raises(BenchError, match=r"^fc\.bias: not finite \(NaN or inf\), so no answer can be compared"):
        doing(state, Prune(layers=(LAYER,), method="group-magnitude", amount=0.5))
