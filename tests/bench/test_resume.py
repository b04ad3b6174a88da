"""A stopped run goes on as if nothing had been: the weights at its end are those of a run that was never stopped."""

import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from bench_examples import Small, do, doing, noise, restore_of, state_of, untouched
from torch import nn

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.paused import read, save
from labbench.bench.states.state import State
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Applied, Tools
from labbench.bench.training.trial import plain
from labbench.session.events import Metric, Progress, Sparsity
from labbench.session.operations import (
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Load,
    Note,
    Prune,
    Recalibrate,
    Redo,
    Undo,
    Unfreeze,
)

RESUME = Finetune(resume=True)
RUNS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "lr": 0.05, "nesterov": True, "clip": 1.0},
    "adam": {"optimizer": "adam", "lr": 0.01, "schedule": "one-cycle", "regularizer": "hoyer-square"},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "schedule": "multi-step", "weight_decay": 0.05},
    "plateau": {"schedule": "plateau", "patience": 0, "gamma": 0.5, "watch": "accuracy"},
    "distilled": {"distill": 0.7, "schedule": "ramp"},
    "bf16": {"precision": "bf16", "warmup": 1},
    "last": {"keep": "last", "augment": False, "label_smoothing": 0.1},
}
each_run = pytest.mark.parametrize("how", RUNS.values(), ids=RUNS)


def listened(
    state: State, operation: Finetune, stopped: Callable[[], bool] = lambda: False
) -> tuple[Applied, list[Metric]]:
    events: list[Progress | Metric | Sparsity] = []
    applied = apply(operation, state, Tools(lambda name, options, side: state.data, events.append, stopped))
    return applied, [event for event in events if isinstance(event, Metric) and event.name != "step/loss"]


def worked_on(state: State) -> State:
    """Something of everything that a run has to hold."""
    return do(state, Prune(amount=0.5), Cluster(layers=("layer2.0.conv2",), k=4), Freeze(layers=("layer1.0.conv1",)))


class Dropping(nn.Module):
    """A network with dropout, which draws from the random numbers of everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


@each_run
@pytest.mark.parametrize("steps", [2, 5, 12])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(small: Small, how: dict[str, Any], steps: int) -> None:
    state = worked_on(small())
    operation = Finetune(epochs=3, batch_size=40, **how)
    whole, expected = listened(state, operation)
    broken, first = listened(state, msgspec.structs.replace(operation, steps=steps))
    with untouched(broken.state):
        made, second = listened(broken.state, RESUME)
    assert made.operation == msgspec.structs.replace(plain(operation), resume=True)
    assert fingerprint(made.state) == fingerprint(whole.state)
    assert made.state.accuracy == whole.state.accuracy
    assert made.remarks == whole.remarks
    assert made.state.paused is None
    known = {(metric.name, metric.x): metric.y for metric in first}
    known |= {(metric.name, round(metric.x + steps / 5, 9)): metric.y for metric in second}
    assert known == {(metric.name, metric.x): metric.y for metric in expected}
    again, _ = listened(broken.state, made.operation)
    assert fingerprint(again.state) == fingerprint(whole.state)


def test_a_run_may_be_stopped_and_resumed_many_times(small: Small) -> None:
    operation = Finetune(epochs=3, batch_size=40)
    whole = do(small(), operation)
    state = do(small(), msgspec.structs.replace(operation, steps=1))
    for steps in (2, 5, 6, 10, 14, 15):
        state = do(state, Finetune(resume=True, steps=steps))
        assert state.paused is not None
        assert state.paused.operation.steps == steps
        assert fingerprint(state) == fingerprint(do(small(), msgspec.structs.replace(operation, steps=steps)))
    assert fingerprint(do(state, RESUME)) == fingerprint(whole)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_that_was_stopped_anywhere_goes_on_to_the_same_end(keep: Any) -> None:
    """Inside a step, between steps, while the validation split is measured; then once more; and as it was recorded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = state_of(Dropping(), noise((1, 4, 4)))
    operation = Finetune(epochs=3, batch_size=8, lr=0.1, keep=keep)
    total = Counting(math.inf)
    whole, _ = listened(state, operation, total)
    resumed = 0
    for looks in range(0, total.calls, 3):
        try:
            broken, _ = listened(state, operation, Counting(looks))
        except Stopped:
            continue
        if broken.state.paused is None:  # it was stopped while the test split was measured
            continue
        replayed = doing(state, broken.operation)
        try:
            second, _ = listened(broken.state, RESUME, Counting(looks // 2))
        except Stopped:
            second = broken
        for last in (broken, replayed, second):
            if last.state.paused:
                assert fingerprint(do(last.state, RESUME)) == fingerprint(whole.state), looks
                resumed += 1
        if second is not broken:
            assert fingerprint(do(replayed.state, second.operation)) == fingerprint(second.state), looks
    assert resumed > 50


class Counting:
    """A `stopped` that says so from its n-th call on."""

    def __init__(self, calls: float) -> None:
        self.left, self.calls = calls, 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls > self.left


def test_dropout_draws_from_the_seed_of_the_run() -> None:
    state = state_of(Dropping(), noise((1, 4, 4)))
    one = do(state, Finetune(epochs=1, batch_size=8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)
        with untouched(state):
            other = do(state, Finetune(epochs=1, batch_size=8))
    assert fingerprint(one) == fingerprint(other)


# Refusals


@pytest.mark.parametrize(
    "between",
    [(Prune(amount=0.9),), (Freeze(layers=("fc",)), Unfreeze(layers=("fc",))), (Recalibrate(batches=10),)],
    ids=lambda operations: operations[0].describe(),
)
def test_after_anything_else_there_is_nothing_to_resume(small: Small, between: Any) -> None:
    stopped = do(small(), Finetune(epochs=2, batch_size=40, steps=3))
    with pytest.raises(BenchError, match="nothing to resume: only right after a run that was stopped can a finetune"):
        doing(do(stopped, *between), RESUME)
    for state in (small(), do(small(), Finetune(epochs=1, batch_size=40))):
        with pytest.raises(BenchError, match="nothing to resume"):
            doing(state, RESUME)


def test_measuring_and_notes_do_not_come_between(small: Small) -> None:
    stopped = do(small(), Finetune(epochs=2, batch_size=40, steps=3), Evaluate(), Note(text="let us wait"))
    assert fingerprint(do(stopped, RESUME)) == fingerprint(do(small(), Finetune(epochs=2, batch_size=40)))


def test_a_resumed_run_does_not_change_its_settings(small: Small) -> None:
    stopped = do(small(), Finetune(epochs=2, batch_size=40, lr=0.02, steps=3))
    with pytest.raises(BenchError, match=r"goes on with its settings: lr must be 0.02 or left out, not 0.1"):
        doing(stopped, Finetune(resume=True, lr=0.1))
    with pytest.raises(BenchError, match="steps must be at least 3: the run was stopped there"):
        doing(stopped, Finetune(resume=True, steps=2))
    with pytest.raises(BenchError, match=r"steps must be at most 10"):
        doing(stopped, Finetune(resume=True, steps=11))
    doing(stopped, Finetune(resume=True, lr=0.02, epochs=2))


# Files and the timeline


@each_run
def test_a_paused_run_comes_back_from_its_file(small: Small, how: dict[str, Any], tmp_path: Path) -> None:
    state = do(worked_on(small()), Finetune(epochs=2, batch_size=40, steps=6, **how))
    assert state.paused is not None
    save(state.paused, tmp_path / "run")
    found = read(tmp_path / "run")
    assert found is not None
    back = State(**{**vars(state), "paused": found})
    assert fingerprint(do(back, RESUME)) == fingerprint(do(state, RESUME))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\x80\x04."])
def test_a_file_that_is_no_paused_run_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "run").write_bytes(content)
    assert read(tmp_path / "run") is None


LOAD = Load(model="lenet-300-100", dataset="digits", device="cpu")
TUNE = Finetune(epochs=3, batch_size=50, lr=0.02, distill=0.5)
STOPPED = Finetune(epochs=3, batch_size=50, steps=6)
BROKEN = msgspec.structs.replace(TUNE, steps=6)


def same(state: State) -> State:
    return state


class Bench:
    """A timeline on a folder."""

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.tools, self.folder = tools, folder
        self.timeline = Timeline(Cache(folder, 10**9))

    def do(self, *operations: Any) -> str:
        for operation in operations:
            self.timeline.do(operation, self.tools, same)
        assert self.timeline.state is not None
        return fingerprint(self.timeline.state)

    def reopened(self, folder: Path | None = None) -> "Bench":
        """The app was closed and opened again."""
        other = Bench(self.tools, folder or self.folder)
        other.timeline.restore(restore_of(self.timeline), self.tools, same)
        return other


@pytest.fixture
def expected(tools: Tools, tmp_path: Path) -> str:
    return Bench(tools, tmp_path / "expected").do(LOAD, Finetune(epochs=1), Prune(), TUNE)


@pytest.mark.parametrize("cached", [True, False])
def test_a_run_goes_on_after_the_app_was_closed(tools: Tools, tmp_path: Path, expected: str, cached: bool) -> None:
    bench = Bench(tools, tmp_path / "cache")
    bench.do(LOAD, Finetune(epochs=1), Prune(), BROKEN)
    other = bench.reopened(None if cached else tmp_path / "empty")
    assert other.timeline.recomputed == (0 if cached else 4)
    assert other.do(RESUME) == expected
    assert other.timeline.recomputed == (0 if cached else 4)


def test_a_stopped_run_without_its_file_is_done_again(tools: Tools, tmp_path: Path, expected: str) -> None:
    bench = Bench(tools, tmp_path / "cache")
    bench.do(LOAD, Finetune(epochs=1), Prune(), BROKEN)
    (paused,) = (tmp_path / "cache" / "states").glob("*.run.json")
    paused.write_bytes(b"broken")
    other = bench.reopened()
    assert other.timeline.recomputed == 1
    assert other.do(RESUME) == expected


def test_undo_and_redo_come_back_to_what_can_be_resumed(tools: Tools, tmp_path: Path, expected: str) -> None:
    bench = Bench(tools, tmp_path / "cache")
    bench.do(LOAD, Finetune(epochs=1), Prune(), BROKEN)
    assert bench.do(Undo(), Redo(), RESUME) == expected
    assert bench.do(Undo(), Undo(), Redo(), RESUME) == expected
    assert bench.reopened().do(Undo(), Undo(), Redo(), RESUME) == expected


@pytest.mark.parametrize("lost", ["nothing", "the dense model", "everything"])
def test_a_distillation_after_a_restore_has_the_same_teacher(
    tools: Tools, tmp_path: Path, expected: str, lost: str
) -> None:
    bench = Bench(tools, tmp_path / "cache")
    bench.do(LOAD, Finetune(epochs=1))
    dense = bench.timeline.done[-1].key
    bench.do(Prune(), Freeze(layers=("fc1",)), Undo())
    if lost == "the dense model":
        bench.timeline.cache.store.drop(dense)
    other = bench.reopened(tmp_path / "empty" if lost == "everything" else None)
    assert other.do(TUNE) == expected
    assert other.reopened(tmp_path / "empty too").do(Undo(), TUNE) == expected
    state = other.timeline.state
    assert state is not None and state.dense is not None
    assert not state.dense.masks


def test_states_from_the_cache_know_their_dense_model(tools: Tools, tmp_path: Path) -> None:
    bench = Bench(tools, tmp_path / "cache")
    dense = bench.do(LOAD, Finetune(epochs=1))
    bench.do(Prune(), LOAD, Prune(amount=0.3), Undo(), Undo())
    other = bench.reopened()
    assert other.timeline.state is not None and other.timeline.state.dense is not None
    assert fingerprint(other.timeline.state.dense) == dense
    other.do(Redo())
    assert other.timeline.state.dense is None, "a load begins anew"


def test_paused_runs_leave_a_full_cache_with_their_states(tools: Tools, tmp_path: Path) -> None:
    bench = Bench(tools, tmp_path)
    bench.do(LOAD, Prune(), BROKEN)
    cache, stopped = bench.timeline.cache, bench.timeline.done[-1].key
    assert {stopped, f"{stopped}.run"} <= {entry.key for entry in cache.store.entries()}
    cache.limit = 10
    bench.do(Prune(amount=0.9))
    assert [entry.key for entry in cache.store.entries()] == [bench.timeline.done[-1].key]


def test_a_run_shares_tensors_with_its_state(tools: Tools, tmp_path: Path) -> None:
    bench = Bench(tools, tmp_path)
    bench.do(LOAD, STOPPED)
    state, run = (bench.timeline.cache.store.get(bench.timeline.done[-1].key + end) for end in ("", ".run"))
    assert state and run
    assert {piece.object for piece in state.pieces} & {piece.object for piece in run.pieces}


def test_a_run_can_be_kept_by_itself(tools: Tools, tmp_path: Path) -> None:
    bench = Bench(tools, tmp_path)
    bench.do(LOAD, STOPPED)
    assert bench.timeline.state.paused is not None
    cache = Cache(tmp_path / "other", 10**9)
    assert cache.get_run("key") is None
    cache.put_run("key", bench.timeline.state.paused)
    found = cache.get_run("key")
    assert found is not None
    assert alike(found, bench.timeline.state.paused)
    assert cache.get("key", lambda: pytest.fail("a run is no state")) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"map": [["operation", "{}"]]}', '{"tensor": "nope"}', "null", "{}"])
def test_a_run_with_other_content_is_none(tools: Tools, tmp_path: Path, text: str) -> None:
    bench = Bench(tools, tmp_path)
    bench.do(LOAD, STOPPED)
    cache, key = bench.timeline.cache, bench.timeline.done[-1].key
    cache.store.put(f"{key}.run", text, ())
    assert cache.get_run(key) is None


def alike(one: Any, other: Any) -> bool:
    """Whether two nests are of the same types and hold the same numbers."""
    if is_dataclass(one):
        return type(one) is type(other) and alike(vars(one), vars(other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)
