"""Where numbers fail a run, it is said which setting is to blame, and the model is as before."""

from typing import Any

import pytest
import torch
from bench_examples import Small, do, noise, state_of, untouched, with_weights
from torch import nn

from labbench.bench.errors import BenchError
from labbench.bench.states.state import State
from labbench.bench.training import diverged
from labbench.session.operations import PLAIN, Finetune, Prune, Recalibrate

AS_BEFORE = r"the run is stopped and the model is as before; try "
BLAMED: list[tuple[dict[str, Any], str]] = [
    ({"lr": 1e20}, "a smaller lr than 1e+20"),
    ({"lr": 1e308}, "a smaller lr than 1e+308"),
    ({"lr": 1e308, "optimizer": "adam", "engine": "fast"}, "a smaller lr than 1e+308"),
    ({"regularizer": "l1", "strength": 1e30}, "a smaller strength than 1e+30"),
    ({"regularizer": "hoyer-square", "strength": 1e308}, "a smaller strength than 1e+308"),
    ({"weight_decay": 1e30}, "a smaller weight_decay than 1e+30"),
    ({"weight_decay": 1e308, "optimizer": "adam"}, "a smaller weight_decay than 1e+308"),
    ({"weight_decay": 1e308, "engine": "fast"}, "a smaller weight_decay than 1e+308"),
    ({"distill": 0.5, "temperature": 1e30}, "a temperature nearer to 4 than 1e+30"),
    ({"distill": 0.5, "temperature": 1e308}, "a temperature nearer to 4 than 1e+308"),
    ({"loss": "scaled-softmax", "scale": 1e308}, "a scale nearer to 10 than 1e+308"),
    (
        {"weight_decay": 1e30, "regularizer": "l1", "strength": 1e30},
        "a smaller strength than 1e+30 and a smaller weight_decay than 1e+30",
    ),
]


@pytest.mark.parametrize(("settings", "words"), BLAMED, ids=[words for _, words in BLAMED])
def test_the_setting_that_is_to_blame_is_named(small: Small, settings: dict[str, Any], words: str) -> None:
    state = do(small(), Prune(amount=0.5))
    with untouched(state), pytest.raises(BenchError) as refusal:
        do(state, Finetune(**({**PLAIN} | {"epochs": 4, "batch_size": 40} | settings)))
    assert str(refusal.value).endswith(f"the run is stopped and the model is as before; try {words}")


@pytest.mark.parametrize("settings", [{"clip": 1e308}, {"clip": 1e-300}, {"distill": 0.5, "temperature": 1e-30}])
def test_numbers_that_are_only_odd_do_not_end_a_run(small: Small, settings: dict[str, Any]) -> None:
    do(do(small(), Prune()), Finetune(epochs=1, batch_size=40, **settings))


def test_a_model_that_was_not_finite_before_is_to_blame_itself(small: Small) -> None:
    weight = small().weight("fc").clone()
    weight[0, 0] = torch.nan
    with pytest.raises(BenchError, match="no setting is to blame: the model's own answers are not finite before any"):
        do(with_weights(small(), {"fc": weight}), Finetune(epochs=1, batch_size=40, weight_decay=1e30))


def test_what_cannot_be_found_out_in_time_is_the_learning_rate(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diverged, "PATIENCE", -1.0)
    with pytest.raises(BenchError, match=AS_BEFORE + r"a smaller lr than 0\.05"):
        do(small(), Finetune(epochs=1, batch_size=40, weight_decay=1e30))


# One value per channel


def narrow(images: int) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    return state_of(net, noise((1, 4, 4), images=images))


def test_a_batch_of_one_image_is_too_small_for_batch_norm() -> None:
    with pytest.raises(BenchError, match="batch_size must be at least 2: batch norm cannot train on a single value"):
        do(narrow(24), Finetune(epochs=1, batch_size=1))
    for operation in (Finetune(epochs=1), Recalibrate()):
        with pytest.raises(BenchError, match="there must be more than one training image: batch norm"):
            do(narrow(1), operation)
