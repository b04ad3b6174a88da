"""Amounts for each layer, multiples and maxima: what is asked, what is achieved, and what is said where they differ."""

import itertools
import math

import pytest
import torch
from bench_examples import Small, do, doing, noise, shaken, state_of
from torch import nn

from labbench.bench.errors import BenchError
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.session.operations import Prune
from labbench.session.series import gradual

FILTERS = "group-magnitude"


def widths(state: State) -> dict[str, int]:
    return {layer.name: len(state.weight(layer.name)) for layer in state.layers if layer.prunable}


def gone(state: State) -> dict[str, int]:
    return {
        x.name: x.weights - int(state.masks[x.name].sum() if x.name in state.masks else state.weight(x.name).numel())
        for x in state.layers
        if x.prunable
    }


@pytest.fixture(scope="module")
def line() -> State:
    """Four convolutions that nothing couples: 32, 20, 6 and 64 filters."""
    torch.manual_seed(0)
    sizes = (1, 32, 20, 6, 64)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Conv2d(before, after, 1), nn.ReLU()]
    return state_of(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)), noise((1, 4, 4)))


# amounts


def test_the_last_name_or_glob_that_fits_a_layer_counts(small: Small) -> None:
    amounts = {"layer*": 0.3, "layer1": 0.5, "layer2.0.conv1": 0.8, "fc": 0.0}
    applied = doing(small(), Prune(amount=0.1, amounts=amounts))
    asked = {"conv1": 0.1, "fc": 0.0}
    for layer in applied.state.layers:
        if layer.prunable:
            share = asked.get(layer.name, 0.5 if layer.name.startswith("layer1") else 0.3)
            share = 0.8 if layer.name == "layer2.0.conv1" else share
            assert gone(applied.state)[layer.name] == round(share * layer.weights)
    assert applied.remarks == ("left as they are, already at 0 % or more: fc",)
    assert applied.state.last["layer2.0.conv1"] == "magnitude 80 %"
    assert applied.state.last["layer1.0.conv1"] == "magnitude 50 %"


def test_amounts_of_filters(line: State) -> None:
    after = do(line, Prune(method=FILTERS, amount=0.5, amounts={"0": 0.25, "6": 0.0}))
    assert list(widths(after).values()) == [24, 10, 3, 64, 10]
    assert after.last["0"] == "cut 25 %"


def test_coupled_layers_that_get_different_amounts_are_refused_with_both(small: Small) -> None:
    with pytest.raises(
        BenchError,
        match=r"conv1 \(20 %\) and layer1\.0\.conv2 \(50 %\) lose the same filters, because they are coupled",
    ):
        do(small(), Prune(method=FILTERS, amounts={"conv1": 0.2}))
    after = do(small(), Prune(method=FILTERS, amounts={"conv1": 0.25, "layer1.0.conv2": 0.25}))
    assert widths(after)["conv1"] == widths(after)["layer1.0.conv2"] == 6
    assert widths(after)["layer1.0.conv1"] == 4
    after = do(small(), Prune(layers=("conv1",), method=FILTERS, amounts={"conv1": 0.25}))
    assert widths(after)["layer1.0.conv2"] == 6  # it was not named, so nothing else was asked of it


@pytest.mark.parametrize("method", ["magnitude", FILTERS])
def test_amounts_that_mean_nothing_are_refused(small: Small, method: str) -> None:
    with pytest.raises(BenchError, match="amounts are for each layer: the scope must be layer, not global"):
        do(small(), Prune(method=method, scope="global", amounts={"conv1": 0.2}))
    with pytest.raises(BenchError, match=r"no such layer: conv9; .*did you mean conv1\?"):
        do(small(), Prune(method=method, amounts={"conv9": 0.2}))
    with pytest.raises(BenchError, match="amounts: fc is none of the layers to prune: layer1"):
        do(small(), Prune(layers=("layer1",), method=method, amounts={"fc": 0.2}))


# multiples


@pytest.mark.parametrize(
    ("amount", "round_to", "expected"),
    [
        (0.3, 8, [24, 16, 6, 48]),  # 22, 14, 4 and 44: the nearest, of two the larger; fewer than 8 stay as they are
        (0.3, 16, [16, 16, 6, 48]),
        (0.5, 4, [16, 12, 4, 32]),  # 10 lies between 8 and 12
        (0.97, 8, [8, 8, 6, 8]),  # at least one multiple
        (0.3, 1, [22, 14, 4, 44]),
        (0.1, 8, [32, 16, 6, 56]),  # 28 lies between 24 and 32; 18 is nearest to 16
    ],
)
def test_what_is_kept_is_the_nearest_multiple(line: State, amount: float, round_to: int, expected: list[int]) -> None:
    applied = doing(line, Prune(method=FILTERS, amount=amount, round_to=round_to))
    assert list(widths(applied.state).values()) == [*expected, 10]
    said = [remark for remark in applied.remarks if remark.startswith(f"kept channels are multiples of {round_to}")]
    assert len(said) == (round_to > 1)


def test_rounding_is_said_for_each_layer_that_it_changes(line: State) -> None:
    remarks = doing(line, Prune(method=FILTERS, amount=0.5, round_to=8)).remarks
    assert (
        "kept channels are multiples of 8: instead of 50 %, 12 of 20 are gone from 2; 0 of 6 are gone from 4" in remarks
    )


def test_multiples_hold_in_global_scope_and_for_grouped_channels(line: State) -> None:
    applied = doing(line, Prune(method=FILTERS, amount=0.4, scope="global", round_to=4))
    changed = [now for now, old in zip(widths(applied.state).values(), (32, 20, 6, 64), strict=False) if now != old]
    assert changed and all(width % 4 == 0 for width in changed)
    grouped = state_of(
        nn.Sequential(
            nn.Conv2d(1, 24, 1),
            nn.Conv2d(24, 12, 1, groups=3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 10),
        ),
        noise((1, 4, 4)),
    )
    for round_to, kept in ((4, 12), (2, 12), (5, 15), (16, 24)):
        try:
            after = do(grouped, Prune(layers=("0",), method=FILTERS, amount=0.5, round_to=round_to))
        except BenchError:
            assert kept == 24
            continue
        assert widths(after)["0"] == kept


def test_multiples_are_for_channels(small: Small) -> None:
    with pytest.raises(BenchError, match="round_to counts channels: magnitude takes single weights"):
        do(small(), Prune(round_to=8))


# maxima


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("maximum", [0.25, 0.5, 0.7])
def test_no_group_loses_more_filters_than_the_maximum(line: State, scope: str, maximum: float) -> None:
    applied = doing(line, Prune(method=FILTERS, amount=0.9, scope=scope, maximum=maximum))
    for now, loaded in zip(widths(applied.state).values(), (32, 20, 6, 64), strict=False):
        assert now == math.ceil(loaded * (1 - maximum) - 1e-9)
    assert any(f"at most {round(100 * maximum)} %" in remark for remark in applied.remarks)
    with pytest.raises(BenchError, match="nothing to cut"):
        do(applied.state, Prune(method=FILTERS, amount=0.9, scope=scope, maximum=maximum))


def test_the_maximum_counts_what_was_cut_before(line: State) -> None:
    once = do(line, Prune(method=FILTERS, amount=0.5))
    twice = do(once, Prune(method=FILTERS, amount=0.9, maximum=0.75))
    assert list(widths(twice).values()) == [8, 5, 2, 16, 10]


def test_the_maximum_outweighs_multiples(line: State) -> None:
    after = do(line, Prune(method=FILTERS, amount=0.5, maximum=0.3, round_to=16))
    assert list(widths(after).values()) == [32, 16, 6, 48, 10]


@pytest.mark.parametrize("method", ["magnitude", "random"])
@pytest.mark.parametrize("maximum", [0.3, 0.65])
def test_no_layer_loses_more_weights_than_the_maximum(small: Small, method: str, maximum: float) -> None:
    state = shaken(small())
    applied = doing(state, Prune(method=method, amount=0.6, scope="global", maximum=maximum))
    loaded = {layer.name: layer.weights for layer in state.layers if layer.prunable}
    most = {name: math.floor(maximum * weights + 1e-9) for name, weights in loaded.items()}
    assert all(gone(applied.state)[name] <= most[name] for name in loaded)
    assert sum(gone(applied.state).values()) == min(round(0.6 * sum(loaded.values())), sum(most.values()))
    full = [name for name in loaded if gone(applied.state)[name] == most[name]]
    said = [remark for remark in applied.remarks if remark.startswith(f"no more than {round(100 * maximum)} % of a")]
    assert bool(said) == bool(full)


def test_a_maximum_leaves_the_rest_to_the_smallest_of_the_other_layers(small: Small) -> None:
    state = small()
    after = do(state, Prune(amount=0.5, scope="global", maximum=0.6))
    names = [layer.name for layer in state.layers if layer.prunable]
    most = {layer.name: math.floor(0.6 * layer.weights) for layer in state.layers}
    free = [name for name in names if gone(after)[name] < most[name]]
    cut = torch.cat([state.weight(name)[~after.masks[name]].abs() for name in free if name in after.masks])
    kept = torch.cat([state.weight(name)[after.weight(name) != 0].abs() for name in free])
    assert float(cut.max()) <= float(kept.min())


def test_a_maximum_of_one_changes_nothing(small: Small) -> None:
    for method in ("magnitude", FILTERS):
        for scope in ("layer", "global"):
            plain = do(small(), Prune(method=method, scope=scope))
            limited = do(small(), Prune(method=method, scope=scope, maximum=1.0, round_to=1))
            assert all(torch.equal(plain.weight(name), limited.weight(name)) for name in widths(plain))


def test_a_maximum_that_is_reached_is_refused(small: Small) -> None:
    state = do(small(), Prune(amount=0.3))
    with pytest.raises(BenchError, match="already at the maximum of 30 %"):
        do(state, Prune(amount=0.8, maximum=0.3))


# reports


def test_asked_against_achieved_is_said_once_for_each_reason(line: State) -> None:
    applied = doing(line, Prune(method=FILTERS, amount=0.85, amounts={"0": 0.5}))
    assert applied.remarks[:3] == (
        "left whole: 10, because these outputs are the answers of the model, one for each class",
        "one of each stays: instead of 85 %, 5 of 6 are gone from 4",
        "only whole channels go: instead of 85 %, 55 of 64 are gone from 6",
    )


def test_a_channel_ratio_is_told_in_parameters(line: State) -> None:
    applied = doing(line, Prune(method=FILTERS, amount=0.5))
    old, new = (sum(p.numel() for p in state.model.parameters()) for state in (line, applied.state))
    assert applied.remarks[-1].startswith(f"parameters {old:,} → {new:,}: ")
    assert "50 % of the channels are about 1 − (1 − 0.500)² = 75 %" in applied.remarks[-1]
    alone = doing(line, Prune(layers=("0",), method=FILTERS, amount=0.5))
    assert "1 − (1" not in alone.remarks[-1]


# series


@pytest.mark.parametrize("method", ["magnitude", FILTERS])
def test_a_lenient_prune_that_has_nothing_to_do_does_nothing_and_says_so(small: Small, method: str) -> None:
    state = do(small(), Prune(layers=("layer*",), method=method, amount=0.5))
    again = Prune(layers=("layer*",), method=method, amount=0.5, lenient=True)
    applied = doing(state, again)
    assert applied.remarks[0].startswith("nothing changed: ")
    assert applied.state is not state
    assert fingerprint(applied.state) == fingerprint(state)
    with pytest.raises(BenchError, match="no such layer"):
        do(state, Prune(layers=("nope",), method=method, lenient=True))


def test_more_steps_than_channels_end_where_one_cut_ends(small: Small) -> None:
    steps = gradual(Prune(method=FILTERS, amount=0.5), None, 20, "cubic")
    assert widths(do(small(), *steps)) == widths(do(small(), Prune(method=FILTERS, amount=0.5)))
