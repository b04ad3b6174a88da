"""Freezing by type and by share: which layers that means, and how much of the model they are."""

import re

import pytest
import torch
from bench_examples import Opened, Small, do, doing, untouched

from labbench.bench.errors import BenchError
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.states.state import State
from labbench.session.figures import frozen_share
from labbench.session.operations import Finetune, Freeze


def frozen_layers(state: State) -> list[str]:
    return [layer.name for layer in state.layers if layer.prunable and layer.name in state.frozen]


@pytest.mark.parametrize("first", [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.99, 1.0])
def test_the_first_share_of_layers_or_weights_is_that_of_a_slow_count(opened: Opened, first: float) -> None:
    state = opened("resnet-20", "B")
    layers = [layer for layer in state.layers if layer.prunable]
    whole, total = sum(layer.weights for layer in layers), 0
    by_layers, by_weights = [], []
    for number, layer in enumerate(layers, 1):
        total += layer.weights
        by_layers += [layer.name] if number <= round(first * len(layers)) else []
        by_weights += [layer.name] if total <= first * whole else []
    for of, expected in (("layers", by_layers), ("weights", by_weights)):
        operation = Freeze(first=first, of=of)  # type: ignore[arg-type]
        if expected:
            with untouched(state):
                assert frozen_layers(do(state, operation)) == expected
        else:
            with pytest.raises(BenchError, match="is no layer at all; conv1 alone needs") as refused:
                do(state, operation)
            needed = float(re.findall(r"needs ([\d.]+) %", str(refused.value))[0]) / 100
            assert frozen_layers(do(state, Freeze(first=needed, of=of))) == ["conv1"]  # type: ignore[arg-type]


def test_ten_percent_of_resnet_18s_layers_are_a_third_of_a_percent_of_its_weights(opened: Opened) -> None:
    made = doing(opened("resnet-18"), Freeze(first=0.1))
    share = frozen_share(snapshot(made.state, final=False))
    assert made.remarks == ("that is conv1, layer1.0.conv1",)
    assert (share.layers, share.layers_all) == (2, 21)
    assert (share.weights, share.weights_all) == (9 * 64 + 36_864, 11_163_200)
    assert f"{share.of_weights:.2%}" == "0.34%"
    more = frozen_share(snapshot(do(opened("resnet-18"), Freeze(first=0.143)), final=False))
    assert (more.layers, f"{more.of_weights:.1%}") == (3, "0.7%")


def test_a_type_is_frozen_within_what_is_named_with_or_without_the_norms(small: Small) -> None:
    convolutions = [layer.name for layer in small().layers if layer.kind == "conv"]
    state = do(small(), Freeze(types="conv"))
    assert frozen_layers(state) == convolutions
    assert {"bn1", "layer2.0.bn2"} <= state.frozen
    assert do(small(), Freeze(types="linear")).frozen == {"fc"}
    assert do(small(), Freeze(layers=("layer1",), types="conv", norms=False)).frozen == {
        "layer1.0.conv1", "layer1.0.conv2",
    }  # fmt: skip
    halves = do(small(), Freeze(layers=("layer2",), first=0.67))
    assert frozen_layers(halves) == ["layer2.0.conv1", "layer2.0.conv2"]
    with pytest.raises(BenchError, match="no linear layer is named by layer1"):
        do(small(), Freeze(layers=("layer1",), types="linear"))


def test_a_frozen_share_and_its_norms_stand_still_while_the_rest_learns(small: Small) -> None:
    state = do(small(), Freeze(first=0.5))
    after = do(state, Finetune(epochs=1, lr=0.05, optimizer="adam"))
    for layer in state.layers:
        old, new = state.module(layer.name).state_dict(), after.module(layer.name).state_dict()
        same = all(torch.equal(old[key], new[key]) for key in old)
        assert same == (layer.name in state.frozen), layer.name


def test_a_share_is_described_in_words() -> None:
    assert Freeze(layers=("conv1",)).describe() == "freeze conv1"
    assert Freeze(first=0.1).describe() == "freeze the first 10 % of all layers"
    assert Freeze(types="conv", first=0.125, of="weights", norms=False).describe() == (
        "freeze the first 12.5 % of the weights of all layers (convolutions) but not the norms behind"
    )
