"""A run that is interrupted and done again ends as one that was not, and has lost no more than the epoch it was in."""

import math
import os
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from bench_examples import Small, do, noise, restore_of, state_of
from test_resume import Counting, Dropping, each_run, worked_on

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.paused import Paused, read, save
from labbench.bench.states.rescue import FIRST, RUNS, SHARE, Found, Known, Place, Rescue
from labbench.bench.states.state import State
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Applied, Tools
from labbench.session.events import Metric, Progress, Sparsity
from labbench.session.operations import PLAIN, AnyOperation, Finetune, Load, Note, Prune

LOAD = Load(model="lenet-300-100", dataset="digits", device="cpu")


def tune(**settings: Any) -> Finetune:
    """A run that computes as it is written: what is tried out first may come out otherwise the next time."""
    return Finetune(**({**PLAIN} | settings))


TUNE = tune(epochs=3, batch_size=50, lr=0.02)


class Killed(BaseException):
    """The process ends here."""


class Seen(Place):
    """Where one run is kept after every epoch, or after none but `only`; and what was."""

    def __init__(self, path: Path, only: Container[int] = range(1000)) -> None:
        super().__init__(path.parent, path.name)
        self.path, self.only = path.with_suffix(".run"), only
        self.kept: list[int] = []
        self.noted: list[int] = []

    def keep(self, paused: Paused) -> None:
        if paused.measured in self.only:
            super().keep(paused)
            self.kept.append(paused.measured)

    def note(self, known: Known) -> None:
        super().note(known)
        self.noted.append(known.epoch)

    @property
    def rescue(self) -> Rescue:
        return Rescue(self, share=1e9, first=0.0)


def run(state: State, operation: Finetune, place: Seen, until: float = 1e9) -> tuple[Applied, list[Any]]:
    """Do it, until so many epochs are measured and the next has begun."""
    events: list[Progress | Metric | Sparsity] = []

    def hear(event: Progress | Metric | Sparsity) -> None:
        if isinstance(event, Metric) and event.name == "train/loss" and event.x > until:
            raise Killed
        events.append(event)

    applied = apply(operation, state, Tools(lambda name, options, side: state.data, hear, rescue=place.rescue))
    return applied, events


def figures(events: list[Any]) -> dict[tuple[str, float], float | None]:
    return {(one.name, one.x): one.y for one in events if isinstance(one, Metric) and one.name != "step/loss"}


def tables(events: list[Any]) -> dict[int, dict[str, int]]:
    return {one.epoch: one.nonzero for one in events if isinstance(one, Sparsity)}


@each_run
def test_an_interrupted_run_ends_as_one_that_was_not(small: Small, how: dict[str, Any], tmp_path: Path) -> None:
    state, place = worked_on(small()), Seen(tmp_path / "run")
    operation = tune(epochs=4, batch_size=40, **how)
    whole, expected = run(state, operation, Seen(tmp_path / "whole"))
    for epochs in (1, 3):
        with pytest.raises(Killed):
            run(state, operation, place, epochs)
    assert place.kept == [1, 2, 3]
    made, events = run(state, operation, place)
    assert place.kept == [1, 2, 3, 4]
    assert made.operation == whole.operation == operation
    assert fingerprint(made.state) == fingerprint(whole.state)
    assert made.state.accuracy == whole.state.accuracy
    assert made.remarks == ("went on after epoch 3, where it was interrupted", *whole.remarks)
    assert figures(events) == figures(expected)
    assert tables(events) == tables(expected)
    assert events[0].note == "goes on after epoch 3, where it was interrupted"


@pytest.mark.parametrize(
    ("kept", "again"), [((), "epochs 1 to 3 were"), ((1,), "epochs 2 to 3 were"), ((2,), "epoch 3 was")]
)
def test_a_run_goes_on_after_the_last_finished_epoch_wherever_it_was_kept(
    small: Small, tmp_path: Path, kept: tuple[int, ...], again: str
) -> None:
    state, operation = worked_on(small()), tune(epochs=4, batch_size=40)
    whole, expected = run(state, operation, Seen(tmp_path / "whole"))
    place = Seen(tmp_path / "run", kept)
    with pytest.raises(Killed):
        run(state, operation, place, 3)
    with pytest.raises(Killed):  # while it computes again what was finished
        run(state, operation, place, 2)
    assert place.noted == [1, 2, 3]
    made, events = run(state, operation, place)
    assert place.noted == [1, 2, 3, 4]
    assert fingerprint(made.state) == fingerprint(whole.state)
    assert made.state.accuracy == whole.state.accuracy
    assert made.remarks == (
        "went on after epoch 3, where it was interrupted",
        f"{again} computed again, to the same figures",
        *whole.remarks,
    )
    first = events[0]
    assert first.note.startswith("goes on after epoch 3, where it was interrupted; epoch")
    assert first.note.endswith(f"{again.rpartition(' ')[0]} {'is' if kept == (2,) else 'are'} computed again first")
    assert first.epoch == (kept[0] + 1 if kept else 1)
    for event in events:
        if isinstance(event, Progress) and event.phase == "train":
            assert event.again == (3 if event.epoch <= 3 else 0)
    assert figures(events) == figures(expected)
    assert tables(events) == tables(expected)


def test_what_comes_out_otherwise_the_second_time_is_said(small: Small, tmp_path: Path) -> None:
    state, operation, place = small(), tune(epochs=3, batch_size=40), Seen(tmp_path / "run", ())
    with pytest.raises(Killed):
        run(state, operation, place, 2)
    known = place.find().known
    assert known is not None
    assert known.epoch == 2
    place.note(msgspec.structs.replace(known, top1=0.5, loss=0.25))
    made, _ = run(state, operation, place)
    assert made.remarks[1] == (
        f"epochs 1 to 2 were computed again, to other figures: {100 * known.top1:.2f} % validation, "
        f"loss {known.loss:.6g}; before 50.00 % validation, loss 0.25"
    )


def test_a_run_computes_as_it_did_before_also_where_only_its_last_epoch_is_known(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, place = small(), Seen(tmp_path / "run", ())
    operation = Finetune(epochs=2, batch_size=40)
    chosen = tune(epochs=2, batch_size=40)
    monkeypatch.setattr("labbench.bench.training.loop.chosen_way", lambda *_: (chosen, ()))
    with pytest.raises(Killed):
        run(state, operation, place, 1)
    monkeypatch.delattr("labbench.bench.training.loop.chosen_way")  # it is not asked once more
    made, _ = run(state, operation, place)
    assert made.operation == chosen
    assert made.remarks[1] == "epoch 1 was computed again, to the same figures"


def test_a_stopped_and_a_resumed_run_can_be_interrupted_too(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = state_of(Dropping(), noise((1, 4, 4)))
    whole = do(state, tune(epochs=4, batch_size=8, lr=0.1))
    broken = tune(epochs=4, batch_size=8, lr=0.1, steps=7)  # of 3 in an epoch
    for operation, begin in ((broken, state), (Finetune(resume=True), do(state, broken))):
        place = Seen(tmp_path / str(operation.resume))
        expected, points = run(begin, operation, Seen(tmp_path / f"whole-{operation.resume}"))
        with pytest.raises(Killed):
            run(begin, operation, place, 1.5)
        made, others = run(begin, operation, place)
        assert made.operation == expected.operation
        assert fingerprint(made.state) == fingerprint(expected.state)
        assert made.remarks[1:] == expected.remarks
        assert figures(others) == figures(points)
        last = made.state
    assert fingerprint(last) == fingerprint(whole)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_whose_front_end_is_gone_goes_on_where_it_was_stopped(keep: Any, tmp_path: Path) -> None:
    """Whoever stopped it never heard what came of it, and asks for the same once more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = state_of(Dropping(), noise((1, 4, 4)))
    operation = tune(epochs=3, batch_size=8, lr=0.1, keep=keep)
    total = Counting(math.inf)
    tools = Tools(lambda name, options, side: state.data, stopped=total)
    whole = apply(operation, state, tools)
    _, expected = run(state, operation, Seen(tmp_path / "whole"))
    for looks in range(4, total.calls, 5):
        place = Seen(tmp_path / str(looks))
        try:
            stopped = apply(operation, state, replace(tools, stopped=Counting(looks), rescue=Rescue(place)))
        except Stopped:  # before any step
            continue
        made, events = run(state, operation, place)
        assert made.operation == operation
        assert fingerprint(made.state) == fingerprint(whole.state), looks
        assert figures(events) == figures(expected)
        if stopped.state.paused:
            assert made.remarks[0].startswith("went on ")
            assert made.remarks[1:] == whole.remarks


@pytest.mark.parametrize("wrong", ["another operation", "another model", "another optimizer", "broken"])
def test_what_cannot_be_used_is_left_alone(small: Small, wrong: str, tmp_path: Path) -> None:
    operation = tune(epochs=2, batch_size=40)
    state, place = small(), Seen(tmp_path / "run")
    expected, _ = run(state, operation, Seen(tmp_path / "whole"))
    with pytest.raises(Killed):
        run(state, operation, place, 1)
    found = read(place.path)
    assert found is not None
    match wrong:
        case "another operation":
            save(replace(found, operation=tune(epochs=3)), place.path)
        case "another model":
            save(replace(found, weights={"fc.weight": torch.zeros(3)}), place.path)
        case "another optimizer":
            save(replace(found, optimizer={"state": {}, "param_groups": []}), place.path)
        case _:
            place.path.write_bytes(place.path.read_bytes()[:-50])
    made, _ = run(state, operation, place)
    assert fingerprint(made.state) == fingerprint(expected.state)
    assert made.remarks[1:] == ("epoch 1 was computed again, to the same figures", *expected.remarks)


@pytest.mark.parametrize("line", [b"", b"\n", b"{}", b'{"epoch": 1}', b"[" * 100_000, b"\xff\n", b"another operation"])
def test_an_epoch_that_cannot_be_used_is_left_alone(small: Small, line: bytes, tmp_path: Path) -> None:
    operation = tune(epochs=2, batch_size=40)
    state, place = small(), Seen(tmp_path / "run", ())
    expected, _ = run(state, operation, Seen(tmp_path / "whole"))
    if line.startswith(b"another"):
        place.note(Known(tune(epochs=3), 1, 0.5, 1.0))
    else:
        (tmp_path / "run.epoch").write_bytes(line)
    made, _ = run(state, operation, place)
    assert fingerprint(made.state) == fingerprint(expected.state)
    assert made.remarks == expected.remarks


@pytest.mark.parametrize("slow", [1, 2, 8])
def test_keeping_costs_no_more_than_its_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slow: int
) -> None:
    """Slow: a disk or another program makes it take so many times as long."""
    now = 0.0
    busy = 0.0
    monkeypatch.setattr("labbench.bench.states.rescue.time.perf_counter", lambda: now)
    monkeypatch.setattr("labbench.bench.states.rescue.time.thread_time", lambda: busy)
    written = []

    class Slow(Place):
        def keep(self, paused: Paused) -> None:
            nonlocal now, busy
            now, busy = now + 0.02 * slow, busy + 0.02
            written.append(now)

    rescue = Rescue(Slow(tmp_path, "run"))
    rescue.begin()
    while now < 100:
        now += 0.3  # an epoch
        rescue.keep(lambda: None)  # type: ignore[arg-type, return-value]
    assert written[0] == pytest.approx(FIRST + 0.1 + 0.02 * slow)  # after the first epoch that ends later
    assert (len(written) - 1) * 0.02 <= 100 * SHARE
    assert (len(written) - 1) * 0.02 * slow <= 100 * 2 * SHARE
    assert len(written) > 80 * SHARE / 0.02 / max(slow / 2, 1)  # it does use what it may


@pytest.mark.parametrize(("takes", "every"), [(0.0001, 1), (0.005, 34)])
def test_each_epoch_is_noted_unless_the_disk_is_too_slow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, takes: float, every: int
) -> None:
    now = 0.0
    monkeypatch.setattr("labbench.bench.states.rescue.time.perf_counter", lambda: now)
    noted = []

    class Slow(Place):
        def note(self, known: Known) -> None:
            nonlocal now
            now += takes
            noted.append(known.epoch)

    rescue = Rescue(Slow(tmp_path, "run"), first=math.inf)
    rescue.begin()
    for epoch in range(1, 1001):
        now += 0.025
        rescue.note(Known(TUNE, epoch, 0.5, 1.0))
    assert noted == list(range(1, 1001, every))
    assert len(noted) * takes <= 2 * SHARE * now + takes


# At the timeline


def same(state: State) -> State:
    return state


class Bench:
    """A timeline that is killed after so many epochs of its next run, and the one that follows it."""

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.tools, self.epochs = tools, 1e9
        self.timeline = Timeline(Cache(folder, 10**9))
        self.timeline._rescue = self._eager  # type: ignore[method-assign]

    def _eager(self, operation: AnyOperation, state: State | None) -> Rescue:
        return replace(Timeline._rescue(self.timeline, operation, state), share=1e9, first=0.0)

    def hear(self, event: Any) -> None:
        if isinstance(event, Metric) and event.name == "train/loss" and event.x > self.epochs:
            raise Killed

    def do(self, *operations: AnyOperation) -> Applied:
        for operation in operations:
            applied = self.timeline.do(operation, replace(self.tools, report=self.hear), same)
        return applied

    def killed(self, operation: AnyOperation, epochs: int) -> "Bench":
        self.epochs = epochs
        with pytest.raises(Killed):
            self.do(operation)
        other = Bench(self.tools, self.timeline.cache.store.folder)
        other.timeline.restore(restore_of(self.timeline), self.tools, same)
        return other


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "runs").glob("*"))


def test_the_same_operation_at_the_same_point_goes_on_and_nothing_of_it_stays(tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    whole = Bench(tools, tmp_path / "whole").do(LOAD, Prune(), TUNE)
    bench = Bench(tools, folder)
    bench.do(LOAD, Prune())
    bench = bench.killed(TUNE, 1).killed(TUNE, 2)
    bench.do(Note(text="what was that?"))
    applied = bench.do(TUNE)
    assert applied.remarks[0] == "went on after epoch 2, where it was interrupted"
    assert fingerprint(applied.state) == fingerprint(whole.state)
    assert files(folder) == [".epoch", ".run"], "nobody has heard yet that it is done"
    bench.do(Note(text="done"))
    assert files(folder) == []


def test_who_hears_that_a_run_failed_or_ended_and_does_it_again_begins_anew(tools: Tools, tmp_path: Path) -> None:
    bench = Bench(tools, tmp_path)
    bench.do(LOAD, TUNE)
    bench.timeline.tree.now = 1
    assert not any("interrupted" in remark for remark in bench.do(TUNE).remarks)
    bench.timeline.settle()
    assert files(tmp_path) == []
    with pytest.raises(BenchError, match="loss became"):
        bench.do(Finetune(lr=1e20, epochs=2))
    bench.do(Note(text="oh"))
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("before", "operation"),
    [
        ((Prune(amount=0.4),), TUNE),
        ((), TUNE),
        ((Prune(),), msgspec.structs.replace(TUNE, seed=1)),
        ((Prune(),), msgspec.structs.replace(TUNE, epochs=4)),
    ],
)
def test_anything_else_begins_anew(tools: Tools, tmp_path: Path, before: Any, operation: Finetune) -> None:
    bench = Bench(tools, tmp_path)
    bench.do(LOAD, Prune())
    bench.killed(TUNE, 1)
    other = Bench(tools, tmp_path)
    assert not any("interrupted" in remark for remark in other.do(LOAD, *before, operation).remarks)


def test_runs_that_nobody_comes_back_to_make_room(small: Small, tmp_path: Path) -> None:
    paused = do(small(), tune(epochs=2, batch_size=40, steps=3)).paused
    assert paused is not None
    for number in range(RUNS + 3):
        place = Place(tmp_path / "runs", f"{number:02}")
        place.note(Known(TUNE, 1, 0.5, 1.0))
        if number % 2:
            place.keep(paused)
            (tmp_path / "runs" / f".{number:02}.run.4711.part").touch()
        for path in (tmp_path / "runs").glob(f"*{number:02}.*"):
            os.utime(path, (number, number))
    names = {path.name.removeprefix(".").partition(".")[0] for path in (tmp_path / "runs").iterdir()}
    assert names == {f"{number:02}" for number in range(3, RUNS + 3)}
    Place(tmp_path / "runs", "03").drop()
    assert not list((tmp_path / "runs").glob("*03.*"))
    assert Place(tmp_path / "runs", "03").find() == Found()
