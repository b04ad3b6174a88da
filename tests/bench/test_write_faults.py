"""What the bench writes, exports, checkpoints and runs under way, is the old or the new after a fault at every call."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_examples import Small, do
from faults import Disk, every_fault

from labbench.bench.errors import BenchError
from labbench.bench.states import checkpoints, paused, rescue
from labbench.bench.states.checkpoints import Cache, read, save
from labbench.bench.states.paused import Paused
from labbench.bench.states.state import State
from labbench.session.operations import Finetune, Prune


@pytest.fixture(autouse=True)
def over_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch and safetensors write in one go goes over the disk of the moment, too: half of it where that fails."""

    def over_it(write: Callable[..., None]) -> Callable[..., None]:
        def written(content: Any, path: Path, *more: Any) -> None:
            place = getattr(path, "name", None if hasattr(path, "write") else path)  # None: into memory
            if Disk.used and place:
                half = lambda: Path(place).write_bytes(b"half")  # noqa: E731
                Disk.used.call("save", lambda: write(content, path, *more), half)
            else:
                write(content, path, *more)

        return written

    monkeypatch.setattr(torch, "save", over_it(torch.save))
    monkeypatch.setattr(checkpoints, "save_file", over_it(checkpoints.save_file))
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda file: None, raising=False)


@pytest.fixture
def states(small: Small) -> tuple[State, State]:
    """One, and another."""
    state = small("lenet-300-100")
    return state, do(state, Prune(amount=0.5))


def zeros(tensors: Any) -> int:
    return sum(int((tensor == 0).sum()) for tensor in tensors)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_an_export_is_the_old_or_the_new_after_every_fault(
    states: tuple[State, State], ending: str, tmp_path: Path
) -> None:
    name = f"model.{ending}"
    cases = every_fault(
        tmp_path,
        lambda folder: save(states[0], folder / name),
        lambda folder: save(states[1], folder / name),
        lambda folder: zeros(read(folder / name)[0].values()),
        (OSError, BenchError),
    )
    assert cases > 10


def test_a_state_in_the_cache_is_there_or_not_after_every_fault_and_the_run_goes_on(
    states: tuple[State, State], tmp_path: Path
) -> None:
    def put(folder: Path) -> None:
        Cache(folder, 2**30).put("a", states[1])

    def look(folder: Path) -> object:
        store = Cache(folder, 2**30).store
        entry = store.get("a")
        return entry and [store.checked(piece).name for piece in entry.pieces]

    assert every_fault(tmp_path, lambda folder: None, put, look, ()) > 30
    for folder in (tmp_path / "full-9", tmp_path / "killed-20"):
        found = Cache(folder, 2**30).get("a", lambda: states[0])
        assert found and zeros(found.model.state_dict().values()) == zeros(states[1].model.state_dict().values())


def test_a_run_under_way_is_the_old_or_the_new_after_every_fault(tmp_path: Path) -> None:
    early = Paused(
        operation=Finetune(steps=3),
        step=3,
        measured=0,
        weights={"fc": torch.ones(300)},
        optimizer={},
        scaler={},
        plateau=(None, 0, 0.1),
        drawn=torch.zeros(8),
        random=(),
        totals=torch.zeros(3),
        best=None,
    )
    late = replace(early, step=9)

    def keep(run: Paused) -> Callable[[Path], None]:
        return lambda folder: rescue.Place(folder, "run").keep(run)

    def look(folder: Path) -> int:
        found = paused.read(folder / "run.run")
        return found.step if found else 0

    assert every_fault(tmp_path, keep(early), keep(late), look, ()) > 10
