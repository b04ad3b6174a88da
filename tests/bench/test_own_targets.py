"""Methods that go by a rule of their own instead of an amount, against torch.nn.utils.prune, numpy and a slow loop."""

import itertools

import numpy as np
import pytest
import torch
from bench_examples import Opened, Small, distinct, do, doing, shaken, with_weights
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from labbench.bench.errors import BenchError
from labbench.bench.methods import METHODS, has_own_target, n_m
from labbench.bench.states.state import State
from labbench.session.operations import OWN_TARGET, Prune, Unprune

SHAPES = [(7, 9), (3, 1, 5, 5), (6, 5, 3, 3), (8, 16, 3, 3), (10, 84)]


def prune(state: State, method: str, *layers: str, **options: float) -> State:
    return do(state, Prune(layers=layers or ("*",), method=method, options=options))


class Below(torch_prune.BasePruningMethod):
    """torch.nn.utils.prune's own kind of threshold."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask * (t.abs() >= self.threshold)


def prunable(state: State) -> list[str]:
    return [layer.name for layer in state.layers if layer.prunable]


def test_the_operation_knows_which_methods_go_by_their_own_rule() -> None:
    assert {name for name, method in METHODS.items() if has_own_target(method)} == OWN_TARGET


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.2])
def test_threshold_gives_the_masks_of_torch_prune(opened: Opened, threshold: float) -> None:
    state = opened("lenet-5")
    after = prune(state, "threshold", threshold=threshold)
    for name in prunable(state):
        module = nn.Module()
        module.weight = nn.Parameter(state.weight(name).clone())
        Below.apply(module, "weight", threshold)
        assert (
            torch.equal(after.masks[name], module.weight_mask.bool())
            if name in after.masks
            else module.weight_mask.all()
        )
        assert torch.equal(after.weight(name), module.weight)
    assert after.last["fc1"] == f"threshold {threshold}"


def test_a_weight_at_the_threshold_stays(small: Small) -> None:
    state = with_weights(small(), {"fc": torch.full((10, 16), 0.5)})
    with pytest.raises(BenchError, match="fc: nothing there that threshold takes"):
        prune(state, "threshold", "fc", threshold=0.5)
    assert not prune(state, "threshold", "fc", threshold=0.5001).weight("fc").any()


@pytest.mark.parametrize("ratio", [0.25, 1.0, 2.0])
def test_std_ratio_goes_by_the_population_deviation_of_each_layer(small: Small, ratio: float) -> None:
    state = small()
    applied = doing(state, Prune(method="std-ratio", options={"ratio": ratio}))
    said = next(remark for remark in applied.remarks if remark.startswith("thresholds: "))
    for name in prunable(state):
        weight = state.weight(name).double().numpy()
        expected = ratio * np.std(weight)
        assert np.array_equal(applied.state.masks[name].numpy(), np.abs(weight) >= expected)
        assert f"{name} {expected:.4g}" in said


@pytest.mark.parametrize("q", [10, 50, 97.5])
def test_percentile_is_that_of_numpy_over_all_that_is_not_zero(small: Small, q: float) -> None:
    state = do(small(), Prune(amount=0.4), Unprune(layers=("fc",)))  # fc's zeros are weights, but do not count
    after = prune(state, "percentile", q=q)
    sizes = np.concatenate([np.abs(w[w != 0]) for w in (state.weight(n).double().numpy() for n in prunable(state))])
    threshold = np.percentile(sizes, q)
    for name in prunable(state):
        assert np.array_equal(after.weight(name).numpy() != 0, np.abs(state.weight(name).double().numpy()) >= threshold)
    left = sum(int(after.weight(name).count_nonzero()) for name in prunable(state))
    assert left == pytest.approx(len(sizes) * (1 - q / 100), abs=1)


def test_percentile_done_again_takes_more(small: Small) -> None:
    once = prune(small(), "percentile", q=50)
    twice = prune(once, "percentile", q=50)
    kept = [sum(int(mask.sum()) for mask in state.masks.values()) for state in (once, twice)]
    assert kept[1] == pytest.approx(kept[0] / 2, abs=1)


def slow_n_of_m(weight: np.ndarray, alive: np.ndarray, n: int, m: int) -> np.ndarray:
    """Which weights go, one group of inputs at a time."""
    gone = np.zeros(weight.shape, dtype=bool)
    for out, *kernel in np.ndindex(weight.shape[0], *weight.shape[2:]):
        for start in range(0, weight.shape[1] - m + 1, m):
            places = [(out, start + offset, *kernel) for offset in range(m)]
            order = sorted(places, key=lambda place: (not alive[place], -abs(weight[place]), place[1]))
            for place in order[n:]:
                gone[place] = alive[place]
    return gone


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (5, 8)])
def test_of_each_m_inputs_the_n_largest_stay(shape: tuple[int, ...], n: int, m: int) -> None:
    weight = distinct(shape, 3)
    for alive in (torch.ones(shape).bool(), torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.6):
        removed, notes = n_m.below({"a": weight}, {"a": alive}, n=n, m=m)
        assert np.array_equal(removed["a"].numpy(), slow_n_of_m(weight.numpy(), alive.numpy(), n, m))
    rest = shape[1] % m
    assert notes == (
        {f"left whole, the last inputs, which do not fill {m}": [f"{rest} of {shape[1]} in a"]} if rest else {}
    )


def test_of_equal_weights_the_last_of_each_m_go() -> None:
    removed, _ = n_m.below({"a": torch.ones(1, 8)}, {"a": torch.ones(1, 8).bool()}, n=2, m=4)
    assert removed["a"].tolist() == [[False, False, True, True] * 2]


def test_two_of_four_is_half_and_lies_along_the_inputs_as_gpus_want_it(small: Small) -> None:
    after = prune(shaken(small()), "n-m", "layer2.0.conv2")
    mask = after.masks[
        "layer2.0.conv2"
    ]  # out × in × kh × kw; NVIDIA's tools take kh × kw × out × in, 4 inputs at a time
    groups = mask.permute(2, 3, 0, 1).reshape(-1, 4)
    assert groups.sum(1).unique().tolist() == [2]
    assert after.last["layer2.0.conv2"] == "n-m 2:4"


def test_what_does_not_fill_m_is_said_and_layers_too_narrow_for_it_stay(opened: Opened) -> None:
    applied = doing(opened("lenet-5"), Prune(method="n-m"))
    assert "left whole, the last inputs, which do not fill 4: 1 of 1 in conv1" in applied.remarks
    assert "left as they are, nothing there that n-m takes: conv1" in applied.remarks
    assert "conv1" not in applied.state.masks
    with pytest.raises(BenchError, match="conv1: nothing there that n-m takes; left whole"):
        prune(opened("lenet-5"), "n-m", "conv1")
    for n in (4, 5):
        with pytest.raises(BenchError, match=f"n must be below m: where {n} of 4 inputs stay"):
            prune(opened("lenet-5"), "n-m", n=n)


@pytest.mark.parametrize("method", sorted(OWN_TARGET))
def test_a_rule_takes_no_amounts_no_maximum_and_no_multiples(small: Small, method: str) -> None:
    for field, given in (("amounts", {"fc": 0.1}), ("maximum", 0.5), ("round_to", 8)):
        with pytest.raises(BenchError, match=field):
            do(small(), Prune(method=method, **{field: given}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "scope", "amount"), itertools.product(sorted(OWN_TARGET), ["layer", "global"], [0.1, 0.9])
)
def test_a_rule_does_not_look_at_the_amount_or_the_scope(small: Small, method: str, scope: str, amount: float) -> None:
    operation = Prune(
        method=method, scope=scope, amount=amount, options={"threshold": 0.1} if method == "threshold" else {}
    )
    plain = Prune(method=method, options=operation.options)
    one, other = do(small(), operation), do(small(), plain)
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in other.masks)
    assert operation.describe() == plain.describe()
    assert "%" not in plain.describe()
