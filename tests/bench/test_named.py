"""A name that stands in the table is never unknown: where an operation cannot mean it, it says what it is."""

import pytest
import torch
from bench_examples import doing, noise, state_of
from torch import nn

from labbench.bench.errors import BenchError
from labbench.bench.states.chosen_layers import choose
from labbench.bench.states.state import State
from labbench.session.operations import Cluster, Prune, Scan, Unprune


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(6, 1, 1))
        self.inner = nn.Sequential(nn.PReLU(), nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x * self.gamma)
        return out


@pytest.fixture(scope="module")
def state() -> State:
    shared = nn.Conv2d(6, 6, 3, padding=1)
    twin = nn.Conv2d(6, 6, 3, padding=1)
    twin.weight = shared.weight
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 6, 3),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 3)),
        Scaled(),
        shared,
        twin,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 10),
    )
    return state_of(model, noise((1, 8, 8)))


SAID = {
    "1": r"^1 is a BatchNorm2d, no conv or linear layer; the layers that can be meant here are 0, 6, 10$",
    "2": r"^2 is a ReLU, without parameters",
    "3": r"^3 is a ConvTranspose2d, no conv or linear layer",
    "4": r"^4 is a Conv2d whose weight is computed, shared or complex",
    "4.parametrizations.weight.original0": r"original0 is a parameter that belongs to no conv or linear layer",
    "5": r"^5 is a Scaled without a conv or linear layer: it holds 5\.gamma, 5\.inner\.0",
    "5.gamma": r"^5\.gamma is a parameter that belongs to no conv or linear layer",
    "5.*": r"^5\.\* means 5\.inner\.0, 5\.gamma, no conv or linear layer",
    "7": r"^7 is a Conv2d whose weight is computed, shared or complex",
    "11": r"^no such layer: 11; the layers are 0, 6, 10",
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_name_is_that_an_operation_cannot_mean(state: State, name: str) -> None:
    for operation in (
        Prune(layers=(name,), amount=0.5),
        Prune(layers=(name,), amount=0.5, method="group-magnitude"),
        Prune(amount=0.5, amounts={name: 0.5}),
        Unprune(layers=(name,)),
        Cluster(layers=(name,), k=2),
        Cluster(layers=("0",), ks={name: 2}, k=2),
        Scan(layers=(name,), at=(0.5,)),
    ):
        with pytest.raises(BenchError, match=SAID[name]):
            doing(state, operation)


def test_every_name_of_the_table_is_known(state: State) -> None:
    for layer in state.layers:
        assert choose(state, [layer.name], norms=True).layers == (layer.name,)
        if not layer.prunable:
            with pytest.raises(BenchError) as raised:
                choose(state, [layer.name])
            assert "no such layer" not in str(raised.value)


def test_an_operation_that_names_no_layer_means_all_that_it_can_change(state: State) -> None:
    assert doing(state, Prune(amount=0.5)).state.masks.keys() == {"0", "6", "10"}
    assert doing(state, Cluster(k=2)).state.clusters.keys() == {"0", "6"}  # the last layer's rows are the classes
