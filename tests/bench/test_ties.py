"""Clustered filters that are computed once for each cluster train as those that are all computed."""

from typing import Any

import pytest
import torch
from bench_examples import do, exact, noise, shaken, state_of
from test_prefix import agree
from torch import nn

from labbench.bench.states.state import State
from labbench.bench.training.run import Run, set_up
from labbench.session.operations import Cluster, Finetune, Freeze, Prune

FEW = {"batch_size": 8, "epochs": 2}


@pytest.fixture(scope="module")
def wide() -> State:
    """A convolution of 64 filters with a bias among others."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 64, 3, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.Flatten()]
    return shaken(state_of(nn.Sequential(*layers, nn.Linear(64 * 9, 10)), noise((1, 8, 8))))


def unique(run: Run) -> list[str]:
    return [name for name, module in run.model.named_modules() if "forward" in vars(module)]


@pytest.mark.parametrize("how", [{}, {"optimizer": "adam", "lr": 0.01}, {"clip": 0.1}, {"regularizer": "l1"}], ids=str)
@pytest.mark.parametrize("first", [(), (Prune(amount=0.4),)], ids=["dense", "pruned"])
def test_unique_filters_change_nothing_but_rounding(wide: State, how: dict[str, Any], first: tuple[Any, ...]) -> None:
    state = do(exact(wide), *first, Cluster(layers=("0", "3"), fraction=0.4))
    if not first:
        assert unique(set_up(Finetune(engine="fast"), state)) == ["0", "3"]
    plain, fast = (do(state, Finetune(**FEW, **how, engine=engine)) for engine in ("plain", "fast"))
    agree(plain, fast, 1e-12)
    assert len(fast.weight("3").unique(dim=0)) == len(state.weight("3").unique(dim=0)) <= 26
    assert not any("forward" in vars(module) for module in fast.model.modules())


@pytest.mark.parametrize(
    ("done", "how"),
    [
        ((Cluster(layers=("3",), fraction=0.8),), {}),
        ((Cluster(layers=("3",), fraction=0.4, method="components"),), {}),
        ((Cluster(layers=("3",), fraction=0.4), Freeze(layers=("3",))), {}),
        ((Cluster(layers=("3",), fraction=0.4),), {"tied": False}),
        ((Cluster(layers=("3",), fraction=0.4),), {"engine": "plain"}),
    ],
    ids=["many", "components", "frozen", "not tied", "plain"],
)
def test_filters_are_all_computed_where_that_is_as_fast_or_they_are_not_held_equal(
    wide: State, done: tuple[Any, ...], how: dict[str, Any]
) -> None:
    assert unique(set_up(Finetune(**{"engine": "fast", **how}), do(wide, *done))) == []


def test_members_that_are_pruned_otherwise_are_all_computed(wide: State) -> None:
    state = do(wide, Cluster(layers=("3",), fraction=0.4))
    mask = torch.ones_like(state.weight("3"), dtype=torch.bool)
    alike = (state.clusters["3"][:, None] == state.clusters["3"]).sum(1)
    mask[int(alike.argmax()), 0] = False
    other = State(**{**vars(state), "masks": {"3": mask}})
    assert unique(set_up(Finetune(engine="fast"), other)) == []
