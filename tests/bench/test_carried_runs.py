"""A stopped run that came from another machine goes on only where it left the state that is there, to the last bit."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_examples import restore_of

from labbench.bench.states import paused as runs
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.paused import Paused
from labbench.bench.states.state import State
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Tools
from labbench.session.operations import PLAIN, Finetune, Load
from labbench.session.store import RUN, Store

LOAD = Load(model="lenet-5", dataset="digits", device="cpu")
RESUME = Finetune(resume=True)


def same(state: State) -> State:
    return state


def stopped(keep: str) -> Finetune:
    """Within its third epoch; the best one is known."""
    return Finetune(**PLAIN, epochs=3, batch_size=50, lr=0.02, steps=9, keep=keep)  # type: ignore[arg-type]


def carried(there: Cache, kept: Store, changed: Callable[[Paused], Paused]) -> None:
    """Put all checkpoints into another store, as `unpack` does, and what takes the place of the run among them."""
    for entry in there.store.entries():
        found = there.store.get(entry.key)
        assert found
        text, pieces = found.text, found.pieces
        parts = [(piece.names, there.store.object_path(piece.object).read_bytes()) for piece in pieces]
        kept.put(entry.key, text, parts, here=False)
        if entry.key.endswith(RUN):
            paused = there.get_run(entry.key.removesuffix(RUN))
            assert paused
            tensors: dict[str, torch.Tensor] = {}
            nest = runs.without_tensors(runs.content_of(changed(paused)), tensors)
            kept.put(entry.key, json.dumps(nest), Cache(kept.folder, 2**30)._parts(tensors), here=False)


def moved(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor + 1e-3 for name, tensor in weights.items()}


CHANGES: dict[str, tuple[str, Callable[[Paused], Paused]]] = {
    "the last step's weights": ("last", lambda run: replace(run, weights=moved(run.weights))),
    "the best epoch's weights": (
        "best",
        lambda run: replace(run, best=run.best and (run.best[0], moved(run.best[1]), run.best[2])),
    ),
    "no best epoch": ("best", lambda run: replace(run, best=None)),
    "other settings": ("best", lambda run: replace(run, operation=Finetune(**PLAIN, epochs=3, lr=0.5, steps=9))),
    "fewer weights": ("last", lambda run: replace(run, weights={})),
}


@pytest.fixture
def bench(tools: Tools, tmp_path: Path) -> Iterator[Callable[[str], Timeline]]:
    """A bench where a run was stopped."""

    def begin(keep: str) -> Timeline:
        timeline = Timeline(Cache(tmp_path / "here", 2**30))
        for operation in (LOAD, stopped(keep)):
            timeline.do(operation, tools, same)
        return timeline

    yield begin


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_run_that_left_the_state_goes_on_elsewhere(
    bench: Callable[[str], Timeline], keep: str, tools: Tools, tmp_path: Path
) -> None:
    here = bench(keep)
    carried(here.cache, Store(tmp_path / "there"), lambda run: run)
    there = Timeline(Cache(tmp_path / "there", 2**30))
    there.restore(restore_of(here), tools, same)
    assert there.recomputed == 0
    expected, made = (fingerprint(one.do(RESUME, tools, same).state) for one in (here, there))
    assert made == expected


@pytest.mark.parametrize("what", CHANGES)
def test_any_other_run_is_not_used_and_the_stopped_one_is_done_again(
    bench: Callable[[str], Timeline], what: str, tools: Tools, tmp_path: Path
) -> None:
    keep, change = CHANGES[what]
    here = bench(keep)
    carried(here.cache, Store(tmp_path / "there"), change)
    there = Timeline(Cache(tmp_path / "there", 2**30))
    there.restore(restore_of(here), tools, same)
    assert there.recomputed == 1
    expected, made = (fingerprint(one.do(RESUME, tools, same).state) for one in (here, there))
    assert made == expected


def test_a_run_from_elsewhere_belongs_to_no_other_state(
    bench: Callable[[str], Timeline], tools: Tools, tmp_path: Path
) -> None:
    here = bench("last")
    key, state = here.done[-1].key, here.state
    carried(here.cache, Store(tmp_path / "there"), lambda run: run)
    there = Cache(tmp_path / "there", 2**30)
    assert state and there.get_run(key, state)
    assert there.get_run(key) is None
    assert here.cache.get_run(key), "what was computed here needs no proof"
