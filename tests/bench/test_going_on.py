"""A stopped run that comes back from the checkpoints ends with the bits of one that was never stopped: every optimizer,
in every layout, by every engine, with all that a run may have to hold."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from bench_examples import do, noise, state_of
from test_resume import Counting
from torch import Tensor, nn

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.bench.training.run import lying_as
from labbench.session.operations import AnyOperation, Cluster, Finetune, Freeze, Prune

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.0},
    "momentum": {},
    "nesterov": {"nesterov": True, "clip": 0.5},
    "adam": {"optimizer": "adam", "lr": 0.01},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.05},
}
KINDS: dict[str, tuple[AnyOperation, ...]] = {
    "whole": (),
    "masked": (Prune(amount=0.5),),
    "tied filters": (Cluster(layers=("second",), k=3),),
    "tied entries": (Cluster(layers=("second",), k=3, method="components"),),
    "odd widths": (Prune(layers=("first",), amount=0.4, method="group-magnitude"),),
    "frozen beginning": (Freeze(layers=("first", "norm")),),
}
HOW: dict[str, dict[str, Any]] = {
    "penalized": {"regularizer": "hoyer-square", "schedule": "one-cycle"},
    "with penalized scales": {"regularizer": "bn-l1", "augment": False},
    "distilled": {"distill": 0.7, "schedule": "plateau", "patience": 0},
    "bf16": {"precision": "bf16", "warmup": 1},
}
WAYS = [("channels_last", "fast"), ("channels_last", "plain"), ("contiguous", "fast"), ("contiguous", "plain")]


class Net(nn.Module):
    """Convolutions whose weights lie otherwise in channels_last, one for each channel and one of single pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.second = nn.Conv2d(10, 12, 3, stride=2, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(12)
        self.each = nn.Conv2d(12, 12, 3, groups=12)
        self.single = nn.Conv2d(12, 6, 1)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second_norm(self.second(self.norm(self.first(x)).relu())).relu()
        x = self.single(self.each(x).relu()).flatten(1)
        out: Tensor = self.fc(nn.functional.dropout(x, 0.2, self.training))
        return out


def opened(model: Any, channels: int = 3) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return state_of(model(channels), noise((channels, 8, 8), classes=4))


LOADED = {channels: opened(Net, channels) for channels in (1, 3)}


def through_the_store(state: State, loaded: State, folder: Path) -> State:
    """The state as another process finds it; the dense one comes from the timeline."""
    Cache(folder, 2**30).put("key-mark", state)
    found = Cache(folder, 2**30).get("key-mark", lambda: replace(loaded, model=loaded.copy_model()))
    assert found is not None
    return replace(found, dense=state.dense)


def goes_on_exactly(begin: State, loaded: State, folder: Path, **settings: Any) -> None:
    """Three epochs of three steps, stopped within the second."""
    operation = Finetune(**{"epochs": 3, "batch_size": 8, "precision": "fp32", "keep": "last"} | settings)
    whole = do(begin, operation)
    stopped = do(begin, msgspec.structs.replace(operation, steps=4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)  # as in another process
        made = do(through_the_store(stopped, loaded, folder), Finetune(resume=True))
    assert fingerprint(made) == fingerprint(whole)
    assert made.accuracy == whole.accuracy


@pytest.mark.parametrize(
    ("kind", "how", "way"),
    [*itertools.product(KINDS, OPTIMIZERS, WAYS[:1]), *itertools.product(KINDS, ("nesterov",), WAYS[1:])],
    ids=str,
)
def test_a_run_goes_on_from_the_store_to_the_same_bits(
    kind: str, how: str, way: tuple[str, str], tmp_path: Path
) -> None:
    layout, engine = way
    begin = do(LOADED[3], *KINDS[kind])
    goes_on_exactly(begin, LOADED[3], tmp_path, layout=layout, engine=engine, **OPTIMIZERS[how])


@pytest.mark.parametrize("how", OPTIMIZERS)
def test_so_it_does_with_images_of_one_channel_whose_layout_is_ambiguous(how: str, tmp_path: Path) -> None:
    goes_on_exactly(LOADED[1], LOADED[1], tmp_path, layout="channels_last", engine="fast", **OPTIMIZERS[how])


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("how", HOW)
def test_so_it_does_with_whatever_is_minimized_and_whichever_epoch_is_kept(how: str, keep: str, tmp_path: Path) -> None:
    begin = do(LOADED[3], *KINDS["masked"])
    settings = {"layout": "channels_last", "engine": "fast", "keep": keep} | HOW[how]
    goes_on_exactly(begin, LOADED[3], tmp_path, **settings)


def test_so_it_does_with_the_features_of_a_frozen_beginning_kept(tmp_path: Path) -> None:
    begin = do(LOADED[3], *KINDS["frozen beginning"])
    goes_on_exactly(begin, LOADED[3], tmp_path, layout="channels_last", engine="fast", augment=False)


def test_whatever_an_optimizer_remembers_of_a_parameter_lies_as_the_parameter() -> None:
    parameter = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    numbers = torch.randn(4, 3, 2, 2)
    state = {"step": torch.tensor(3.0), "deep": {"history": [numbers, (numbers.double(), None)]}}
    made = lying_as(parameter, state)
    first, (second, nothing) = made["deep"]["history"]
    assert first.stride() == second.stride() == parameter.stride()
    assert torch.equal(first, numbers)
    assert torch.equal(second, numbers.double())
    assert second.dtype == torch.float64
    assert (made["step"], nothing) == (state["step"], None)
    assert numbers.is_contiguous(), "what was given is as it was"


# Inside a step


class Counted(nn.Module):
    """A network that moves buffers of its own in training: a layer that counts, and instance norms that remember."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)
        self.fc = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += len(x)
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        out: Tensor = self.fc(x) * (1 + self.seen / 1000)
        return out


def test_a_step_that_was_broken_off_leaves_no_buffer_moved() -> None:
    begin = opened(Counted)
    operation = Finetune(epochs=2, batch_size=8, keep="last")
    expected = fingerprint(do(begin, operation))
    resumed = 0
    for looks in range(0, 70, 2):
        tools = Tools(lambda name, options, side: begin.data, stopped=Counting(looks))
        try:
            stopped = apply(operation, begin, tools).state
        except Stopped:
            continue
        if stopped.paused:
            resumed += 1
            assert fingerprint(do(stopped, Finetune(resume=True))) == expected, looks
    assert resumed > 15


@pytest.mark.parametrize("wrong", ["weights", "optimizer", "step", "totals", "random"])
def test_a_run_that_does_not_fit_is_refused_in_a_sentence(wrong: str) -> None:
    stopped = do(LOADED[3], Finetune(epochs=2, batch_size=8, steps=4))
    assert stopped.paused
    broken: dict[str, Any] = {
        "weights": {"fc.weight": torch.zeros(3)},
        "optimizer": {"state": {}, "param_groups": []},
        "step": 1000,
        "totals": torch.zeros(7),
        "random": (torch.zeros(3, dtype=torch.uint8),),
    }
    state = replace(stopped, paused=replace(stopped.paused, **{wrong: broken[wrong]}))
    with pytest.raises(BenchError, match="what was kept of the stopped run does not fit this model"):
        do(state, Finetune(resume=True))
