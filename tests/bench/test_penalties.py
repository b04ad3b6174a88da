"""Which tensors a regularizer is for, and what it does in a run."""

from typing import Any

import msgspec
import pytest
import torch
from bench_examples import Small, do, doing, noise, state_of
from torch import nn

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.regularizers import REGULARIZERS
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.bench.training.run import set_up
from labbench.session.events import Metric, Progress, Sparsity
from labbench.session.operations import Cluster, Finetune, Freeze, Prune

FEW: dict[str, Any] = {"batch_size": 40, "augment": False}


def penalized(state: State, **settings: Any) -> set[str]:
    """Names of the parameters that a run would penalize."""
    run = set_up(Finetune(**settings), state)
    assert run.penalty is not None
    found = {id(tensor) for tensor in run.penalty.tensors}
    return {name for name, parameter in run.model.named_parameters() if id(parameter) in found}


def test_all_prunable_layers_that_are_not_frozen_are_penalized(small: Small) -> None:
    every = {f"{layer.name}.weight" for layer in small().layers if layer.prunable}
    assert penalized(small(), regularizer="l1") == every
    frozen = do(small(), Freeze(layers=("layer1", "fc")))
    left = {name for name in every if not name.startswith(("layer1", "fc"))}
    assert penalized(frozen, regularizer="l1") == left
    assert penalized(small(), regularizer="l1", penalized=("*.conv2", "fc")) == {
        *("layer1.0.conv2.weight", "layer2.0.conv2.weight", "fc.weight"),
    }


def test_network_slimming_is_for_the_scales_of_batch_norms(small: Small) -> None:
    scales = {f"{layer.name}.weight" for layer in small().layers if layer.kind == "norm"}
    assert penalized(small(), regularizer="bn-l1") == scales
    assert penalized(small(), regularizer="bn-l1", penalized=("conv1", "layer1.0.bn2")) == {
        *("bn1.weight", "layer1.0.bn2.weight"),
    }
    frozen = do(small(), Freeze(layers=("layer1",)))
    assert penalized(frozen, regularizer="bn-l1") == {name for name in scales if not name.startswith("layer1")}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"regularizer": "hoyr"}, r"no such regularizer: hoyr; the regularizers are l1, .*; did you mean hoyer\?"),
        ({"regularizer": "l1", "penalized": ("nope",)}, "no such layer: nope"),
        ({"regularizer": "l1", "penalized": ("conv1",)}, "cannot penalize conv1: frozen; unfreeze first"),
        ({"regularizer": "bn-l1", "penalized": ("conv1",)}, "every batch norm that was named is frozen"),
        ({"regularizer": "bn-l1", "penalized": ("fc",)}, "is for the scales of batch norms, and fc has none"),
    ],
)
def test_what_cannot_be_penalized_is_refused_with_a_sentence(
    small: Small, settings: dict[str, Any], sentence: str
) -> None:
    state = do(small(), Freeze(layers=("conv1",)))
    with pytest.raises(BenchError, match=sentence):
        doing(state, Finetune(**FEW, **settings))


def test_a_model_without_batch_norms_has_no_scales_to_penalize() -> None:
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)), noise((1, 4, 4)))
    with pytest.raises(BenchError, match=r"bn-l1 is for the scales of batch norms, and \* has none"):
        doing(state, Finetune(regularizer="bn-l1"))


def metrics(state: State, operation: Finetune) -> tuple[State, dict[str, list[float]]]:
    events: list[Progress | Metric | Sparsity] = []
    made = apply(operation, state, Tools(lambda name, options, side: state.data, events.append)).state
    found: dict[str, list[float]] = {}
    for event in events:
        if isinstance(event, Metric) and event.y is not None:
            found.setdefault(event.name, []).append(event.y)
    return made, found


def test_the_penalty_is_reported_beside_the_loss_and_not_in_it() -> None:
    """With steps too small to move a weight, both are those of the weights as they stand."""
    torch.manual_seed(0)
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)), noise((1, 4, 4)))
    still = Finetune(epochs=2, lr=1e-30, weight_decay=0.0, batch_size=8, augment=False, schedule="constant")
    _, without = metrics(state, still)
    _, found = metrics(state, Finetune(**{**msgspec.structs.asdict(still), "regularizer": "l1", "strength": 0.25}))
    assert "train/penalty" not in without
    assert found["train/loss"] == without["train/loss"]
    assert found["train/penalty"] == pytest.approx([0.25 * float(state.weight("1").abs().sum())] * 2)


@pytest.mark.parametrize(
    ("name", "strength", "small_share"), [("l1", 0.02, 0.3), ("hoyer-square", 0.02, 0.3), ("transformed-l1", 0.02, 0.3)]
)
def test_weights_really_go_towards_zero(small: Small, name: str, strength: float, small_share: float) -> None:
    train: dict[str, Any] = {"epochs": 12, **FEW, "lr": 0.02, "keep": "last", "weight_decay": 0.0}

    def share(state: State) -> float:
        weights = torch.cat([state.weight(layer.name).flatten() for layer in state.layers if layer.prunable])
        return float((weights.abs() < 1e-2).float().mean())

    without = share(do(small(), Finetune(**train)))
    penalties = metrics(small(), Finetune(**train, regularizer=name, strength=strength))
    assert share(penalties[0]) > without + small_share
    curve = penalties[1]["train/penalty"]
    assert curve[-1] < 0.8 * curve[0]


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_zeros_frozen_layers_and_clusters_hold_under_every_regularizer(small: Small, name: str, optimizer: Any) -> None:
    state = do(small(), Prune(amount=0.6), Cluster(layers=("layer2.0.conv2",), k=4), Freeze(layers=("layer1", "fc")))
    train = Finetune(epochs=2, **FEW, optimizer=optimizer, lr=0.01, regularizer=name, strength=0.01, keep="last")
    after, found = metrics(state, train)
    assert all(value > 0 for value in found["train/penalty"])
    for layer, mask in state.masks.items():
        assert not after.weight(layer)[~mask].any()
    for layer in state.frozen:
        old, new = state.module(layer).state_dict(), after.module(layer).state_dict()
        assert all(torch.equal(old[key], new[key]) for key in old)
    assert len(after.weight("layer2.0.conv2").unique(dim=0)) == 4
    assert not torch.equal(after.weight("layer2.0.conv2"), state.weight("layer2.0.conv2"))


def test_the_group_hoyer_square_makes_filters_more_unequal(small: Small) -> None:
    train: dict[str, Any] = {"epochs": 12, **FEW, "lr": 0.05, "keep": "last", "weight_decay": 0.0}

    def spread(name: str, strength: float) -> float:
        """How unequal the norms of the filters are: standard deviation over mean."""
        state = do(small(), Finetune(**train, regularizer=name, strength=strength))
        norms = state.weight("layer2.0.conv1").flatten(1).norm(dim=1)
        return float(norms.std() / norms.mean())

    assert spread("group-hoyer-square", 0.1) > spread("", 0.0)
