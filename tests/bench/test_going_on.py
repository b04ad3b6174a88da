"""A stopped run that comes back from the checkpoints ends with the bits of one that was never stopped: every optimizer,
in every layout, by every engine, with all that a run may have to hold."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_examples import do, noise, state_of
from torch import Tensor, nn

from labbench.bench.checkpoints import Cache
from labbench.bench.measure import fingerprint
from labbench.bench.run import resumed, set_up, take_up
from labbench.bench.state import State, trace_layers
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
    "distilled": {"distill": 0.7, "schedule": "plateau", "patience": 0},
    "bf16": {"precision": "bf16", "warmup": 1},
    "the last epoch": {"keep": "last", "augment": False},
    "to a penalty of scales": {"regularizer": "bn-scale", "augment": False},
}


class Net(nn.Module):
    """Convolutions whose weights lie otherwise as channels_last, a narrow one and one of single pixels; dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.second = nn.Conv2d(10, 12, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(12)
        self.narrow = nn.Conv2d(12, 12, 3, groups=12)
        self.single = nn.Conv2d(12, 6, 1)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm2(self.second(self.norm(self.first(x)).relu())).relu()
        x = self.single(self.narrow(x).relu()).flatten(1)
        out: Tensor = self.fc(nn.functional.dropout(x, 0.2, self.training))
        return out


def opened(channels: int = 3) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return state_of(Net(channels), noise((channels, 8, 8), classes=4))


def through_the_store(state: State, loaded: State, folder: Path) -> State:
    """The state as another process finds it; the dense one comes from the timeline."""
    Cache(folder, 2**30).put("key-mark", state)
    found = Cache(folder, 2**30).get("key-mark", lambda: replace(loaded, model=loaded.copy_model()))
    assert found is not None
    return replace(found, dense=state.dense)


def goes_on_exactly(begin: State, operation: Finetune, folder: Path, steps: int = 7) -> None:
    whole = do(begin, operation)
    stopped = do(begin, replace_steps(operation, steps))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)  # another process
        found = through_the_store(stopped, LOADED[begin.data.shape[0]], folder)
        made = do(found, Finetune(resume=True))
    assert fingerprint(made) == fingerprint(whole)
    assert made.accuracy == whole.accuracy


def replace_steps(operation: Finetune, steps: int) -> Finetune:
    from msgspec.structs import replace as r
    return r(operation, steps=steps)


LOADED = {channels: opened(channels) for channels in (1, 3)}

@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", OPTIMIZERS)
@pytest.mark.parametrize("channels", [1,3])
def test_a(channels, how, kind, layout, engine, tmp_path):
    begin = do(LOADED[channels], *KINDS[kind])
    goes_on_exactly(begin, Finetune(epochs=4, batch_size=8, layout=layout, engine=engine, precision="fp32", **OPTIMIZERS[how]), tmp_path)
