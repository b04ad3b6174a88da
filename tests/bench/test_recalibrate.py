"""Batch-norm statistics measured anew, against sums over the images."""

import copy

import pytest
import torch
from bench_examples import Small, do, doing, noise, state_of, untouched
from torch import nn

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.tools import Tools
from labbench.session.operations import Cluster, Finetune, Freeze, Prune, Recalibrate


def test_the_statistics_are_the_average_over_all_batches() -> None:
    """With as many batches as there are images to fill, the mean of the first norm is that of all images."""
    torch.manual_seed(0)
    data = noise((3, 4, 4), images=40)
    state = state_of(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 10)), data)
    made = do(state, Recalibrate(batches=10, batch_size=4))
    x = data.normalized(data.on(state.device)["train"][0])
    norm = made.model[0]
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)))
    assert int(norm.num_batches_tracked) == 10
    assert norm.momentum == 0.1
    assert not any(module.training for module in made.model.modules())


def test_the_variance_is_the_mean_of_those_of_the_batches() -> None:
    data = noise((3, 4, 4), images=24)
    state = state_of(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 10)), data)
    made = do(state, Recalibrate(batches=10, batch_size=24))
    x = data.normalized(data.on(state.device)["train"][0])
    torch.testing.assert_close(made.model[0].running_var, x.var((0, 2, 3)))


def test_no_parameter_moves_and_the_given_state_stands(small: Small) -> None:
    state = do(small(), Prune(amount=0.4), Cluster(layers=("layer2.0.conv2",), k=4), Finetune(epochs=1, batch_size=40))
    with untouched(state):
        made = do(state, Recalibrate(batches=10, batch_size=20))
    for name, parameter in state.model.named_parameters():
        assert torch.equal(parameter, made.model.get_parameter(name))
    assert not torch.equal(
        made.model.get_buffer("layer2.0.bn1.running_mean"), state.model.get_buffer("layer2.0.bn1.running_mean")
    )
    assert made.masks.keys() == state.masks.keys() and made.clusters.keys() == state.clusters.keys()
    assert made.accuracy == {}
    assert all(parameter.requires_grad for parameter in made.model.parameters())


def test_frozen_norms_stand_still_and_the_others_are_measured_behind_them(small: Small) -> None:
    state = do(small(), Finetune(epochs=1, batch_size=40), Freeze(layers=("conv1", "layer1")))
    made = do(state, Recalibrate(batches=10, batch_size=20))
    moved = {
        name.rpartition(".")[0]
        for name, buffer in state.model.named_buffers()
        if not torch.equal(buffer, made.model.get_buffer(name))
    }
    assert moved == {"layer2.0.bn1", "layer2.0.bn2", "layer2.0.shortcut.1"}
    assert made.last["layer2.0.bn1"] == "recalibrated"


def test_it_is_the_same_for_the_same_seed_whatever_was_measured_before(small: Small) -> None:
    one = do(small(), Recalibrate(batches=12, batch_size=30, seed=1))
    again = do(one, Recalibrate(batches=12, batch_size=30, seed=1))
    other = do(small(), Recalibrate(batches=12, batch_size=30, seed=2))
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)


def test_a_batch_may_be_larger_than_the_data_and_all_batches_together_too(small: Small) -> None:
    for operation in (Recalibrate(batches=10, batch_size=1000), Recalibrate(batches=50, batch_size=30)):
        norm = do(small(), operation).model.get_submodule("bn1")
        assert int(norm.num_batches_tracked) == operation.batches


def test_it_helps_after_a_cut(small: Small) -> None:
    trained = do(small(), Finetune(epochs=15, batch_size=20, lr=0.05))
    cut = do(trained, Prune(method="group-magnitude", amount=0.3))

    def loss(state):  # type: ignore[no-untyped-def]
        x, y = state.data.on(state.device)["train"]
        with torch.no_grad():
            return float(nn.functional.cross_entropy(copy.deepcopy(state.model)(state.data.normalized(x)), y))

    assert loss(do(cut, Recalibrate(batches=10, batch_size=20))) < 0.8 * loss(cut)


def test_without_a_batch_norm_or_with_all_of_them_frozen_it_is_refused(small: Small) -> None:
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)), noise((1, 4, 4)))
    with pytest.raises(BenchError, match="test has no batch norm: there are no statistics to measure anew"):
        doing(state, Recalibrate())
    with pytest.raises(BenchError, match="every batch norm is frozen and keeps its statistics; unfreeze some first"):
        doing(do(small(), Freeze(layers=("*",))), Recalibrate())


def test_a_stop_leaves_the_model_as_it_was(small: Small) -> None:
    calls = iter(range(100))
    tools = Tools(lambda name, options, side: small().data, stopped=lambda: next(calls) > 4)
    with untouched(small()), pytest.raises(Stopped):
        apply(Recalibrate(), small(), tools)
