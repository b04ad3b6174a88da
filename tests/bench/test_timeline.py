"""Undo, redo and restore: walks over states that never give another state than was there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_examples import picture, restore_of

from labbench.bench.errors import BenchError, Stopped
from labbench.bench.measuring.accuracy import measured
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.timeline import IN_MEMORY, Timeline
from labbench.bench.tools import Tools
from labbench.session.events import Point, Restore, restore_along
from labbench.session.keys import state_key
from labbench.session.operations import (
    AnyOperation,
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Jump,
    Load,
    Name,
    Note,
    Prune,
    Redo,
    Undo,
    as_asked,
)

LOAD = Load(model="lenet-300-100", dataset="digits", device="cpu")
OTHER = Load(model="lenet-300-100", dataset="digits", device="cpu", seed=7)
TUNE = Finetune(epochs=1, batch_size=50, lr=0.02)
CUT = Prune(layers=("fc1",), method="group-magnitude", amount=0.6)


def same(state: State) -> State:
    """A `measure` that measures nothing."""
    return state


class Bench:
    """A timeline with its tools."""

    def __init__(self, tools: Tools, folder: Path, measure: Callable[[State], State] = same) -> None:
        self.tools, self.measure = tools, measure
        self.timeline = Timeline(Cache(folder, 10**9))

    def do(self, *operations: AnyOperation) -> str:
        """Do operations; gives the fingerprint afterwards."""
        for operation in operations:
            self.timeline.do(operation, self.tools, self.measure)
        return fingerprint(self.state)

    @property
    def state(self) -> State:
        assert self.timeline.state is not None
        return self.timeline.state

    def restored(self, tools: Tools, folder: Path, *, marks: bool = True) -> "Bench":
        """Another bench that was asked to stand where this one stands."""
        other = Bench(tools, folder)
        other.timeline.restore(restore_of(self.timeline, marks=marks), tools, same)
        return other


@pytest.fixture
def bench(tools: Tools, tmp_path: Path) -> Bench:
    return Bench(tools, tmp_path / "cache")


def test_a_recording_that_does_not_say_which_filters_went_is_restored_all_the_same(
    bench: Bench, tmp_path: Path
) -> None:
    found = bench.do(LOAD, CUT)
    recorded = bench.timeline.done[-1].operation
    assert as_asked(recorded) == CUT != recorded
    other = Bench(bench.tools, tmp_path / "empty")
    other.timeline.restore(restore_along((LOAD, CUT)), bench.tools, same)
    assert fingerprint(other.state) == found and other.timeline.recomputed == 2


def test_undo_and_redo_walk_over_the_same_states(bench: Bench) -> None:
    prints = [bench.do(operation) for operation in (LOAD, Prune(), TUNE, CUT)]
    states = [bench.state]
    assert bench.do(Undo()) == prints[2]
    states.append(bench.state)
    assert [bench.do(Undo()), bench.do(Undo())] == [prints[1], prints[0]]
    assert [bench.do(Redo()), bench.do(Redo()), bench.do(Redo())] == prints[1:]
    assert bench.state is states[0]
    assert bench.timeline.recomputed == 0


def test_undo_gives_the_state_itself_while_it_is_in_memory(bench: Bench) -> None:
    bench.do(LOAD, Prune())
    before, look = bench.state, picture(bench.state)
    bench.do(TUNE, Undo())
    assert bench.state is before
    assert picture(bench.state) == look


def test_undo_before_the_load_and_redo_of_nothing_are_refused(bench: Bench) -> None:
    with pytest.raises(BenchError, match="nothing to undo"):
        bench.timeline.do(Undo(), bench.tools, same)
    bench.do(LOAD)
    with pytest.raises(BenchError, match="nothing to undo: the model is as it was opened"):
        bench.do(Undo())
    with pytest.raises(BenchError, match="nothing to redo: nothing was undone"):
        bench.do(Redo())
    bench.do(Prune(), Undo(), Redo())
    with pytest.raises(BenchError, match="nothing to redo"):
        bench.do(Redo())
    assert len(bench.timeline.done) == 2


def test_a_new_change_leaves_nothing_to_redo(bench: Bench) -> None:
    bench.do(LOAD, Prune(amount=0.3), Undo(), Prune(amount=0.4))
    with pytest.raises(BenchError, match="nothing to redo"):
        bench.do(Redo())


def test_a_refused_change_leaves_what_can_be_redone(bench: Bench) -> None:
    bench.do(LOAD, Prune(amount=0.3), Undo())
    state = bench.state
    with pytest.raises(BenchError, match="no such layer"):
        bench.do(Prune(layers=("nope",)))
    assert bench.state is state
    bench.do(Redo())
    assert bench.state.masks


def test_notes_and_evaluations_are_not_undone(bench: Bench) -> None:
    bench.do(LOAD, Prune())
    bench.do(Note(text="half is gone"), Evaluate(), Note(text="see"))
    assert set(bench.state.accuracy) == {"test"}
    bench.do(Undo())
    assert not bench.state.masks
    bench.do(Note(text="and back"), Evaluate(split="validation"), Redo())
    assert set(bench.state.accuracy) == {"test"}, "the figures of a state are remembered with it"
    bench.do(Undo())
    assert set(bench.state.accuracy) == {"validation"}


def test_a_note_before_the_first_model_is_refused_with_a_sentence(bench: Bench) -> None:
    with pytest.raises(BenchError, match="no model is open"):
        bench.timeline.do(Note(text="hello"), bench.tools, same)
    assert bench.timeline.state is None


def test_what_is_done_is_measured_and_remembered_with_its_figures(tools: Tools, tmp_path: Path) -> None:
    bench = Bench(tools, tmp_path, lambda state: measured(state, "validation", lambda _: None, lambda: False))
    bench.do(LOAD, Prune(), Undo())
    assert set(bench.state.accuracy) == {"validation"}
    other = bench.restored(tools, tmp_path)
    assert other.state.accuracy == bench.state.accuracy


def test_states_that_left_the_memory_come_back_from_the_cache(bench: Bench) -> None:
    amounts = [0.1 * number for number in range(1, IN_MEMORY + 3)]
    prints = [bench.do(LOAD), *[bench.do(Prune(amount=amount)) for amount in amounts]]
    back = [bench.do(Undo()) for _ in amounts]
    assert back == prints[-2::-1]
    assert bench.timeline.recomputed == 0
    assert bench.state.load == LOAD


def test_states_that_left_memory_and_cache_are_computed_again(bench: Bench, tmp_path: Path) -> None:
    changes = (
        TUNE,
        Prune(amount=0.5),
        CUT,
        Cluster(layers=("fc2",), k=9),
        Freeze(layers=("fc2",)),
        TUNE,
        Prune(amount=0.9),
    )
    prints = [bench.do(operation) for operation in (LOAD, *changes)]
    shutil.rmtree(tmp_path / "cache")
    assert [bench.do(Undo()) for _ in changes] == prints[-2::-1]
    assert bench.timeline.recomputed > 0


# Two loads


def test_undo_goes_back_over_a_second_load(bench: Bench, tmp_path: Path) -> None:
    prints = [bench.do(operation) for operation in (LOAD, Prune(amount=0.3), OTHER, Prune(amount=0.5))]
    assert [bench.do(Undo()) for _ in range(3)] == prints[2::-1]
    assert [bench.do(Redo()) for _ in range(3)] == prints[1:]
    shutil.rmtree(tmp_path / "cache")
    bench.timeline._states = type(bench.timeline._states)({bench.timeline.done[-1].key: bench.state})
    assert [bench.do(Undo()) for _ in range(3)] == prints[2::-1]


def test_the_same_load_twice_is_the_same_state(bench: Bench, tools: Tools, tmp_path: Path) -> None:
    prints = [bench.do(operation) for operation in (LOAD, Prune(amount=0.3), LOAD, Prune(amount=0.3))]
    assert prints[:2] == prints[2:]
    assert [bench.do(Undo()) for _ in range(3)] == prints[2::-1]
    other = bench.restored(tools, tmp_path / "cache")
    assert other.timeline.recomputed == 0
    assert [other.do(Redo()) for _ in range(3)] == prints[1:]


# Restore

WHOLE = (LOAD, TUNE, Prune(amount=0.5), Cluster(layers=("fc2",), k=9), CUT, Freeze(layers=("fc1",)), TUNE)


def test_a_session_is_restored_from_the_cache_without_computing(bench: Bench, tools: Tools, tmp_path: Path) -> None:
    mark = bench.do(*WHOLE)
    other = bench.restored(tools, tmp_path / "cache")
    assert other.timeline.recomputed == 0
    assert fingerprint(other.state) == mark
    assert other.state.frozen == {"fc1"}
    assert [other.do(Undo()) for _ in range(3)] == [bench.do(Undo()) for _ in range(3)]
    assert other.timeline.recomputed == 0


@pytest.mark.parametrize("with_marks", [True, False])
def test_a_session_is_restored_without_the_cache_to_the_same_state(
    bench: Bench, tools: Tools, tmp_path: Path, with_marks: bool
) -> None:
    mark = bench.do(*WHOLE)
    other = bench.restored(tools, tmp_path / "empty", marks=with_marks)
    assert fingerprint(other.state) == mark
    assert other.timeline.recomputed == len(WHOLE)
    assert other.do(Undo()) == bench.do(Undo())
    assert other.do(Redo(), Prune(amount=0.9)) == bench.do(Redo(), Prune(amount=0.9))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("back", [1, 3])
def test_what_was_undone_can_be_redone_after_a_restore(
    bench: Bench, tools: Tools, tmp_path: Path, cached: bool, back: int
) -> None:
    prints = [bench.do(operation) for operation in WHOLE]
    bench.do(*[Undo()] * back)
    other = bench.restored(tools, tmp_path / ("cache" if cached else "empty"))
    assert fingerprint(other.state) == prints[-1 - back]
    assert [other.do(Redo()) for _ in range(back)] == prints[len(WHOLE) - back :]
    with pytest.raises(BenchError, match="nothing to redo"):
        other.do(Redo())
    assert (other.timeline.recomputed == 0) == cached


def test_a_stopped_run_is_restored_to_what_it_kept(bench: Bench, tools: Tools, tmp_path: Path) -> None:
    calls = iter(range(10**6))
    bench.do(LOAD)
    stopping = Tools(tools.data, stopped=lambda: next(calls) > 40)
    made = bench.timeline.do(Finetune(epochs=3, batch_size=50, lr=0.02), stopping, same).operation
    assert isinstance(made, Finetune)
    assert 0 < made.steps < 12
    other = bench.restored(tools, tmp_path / "empty")
    assert fingerprint(other.state) == fingerprint(bench.state)


def test_a_stop_while_it_computes_again_leaves_the_timeline_as_it_was(
    bench: Bench, tools: Tools, tmp_path: Path
) -> None:
    bench.do(LOAD, TUNE, Prune(), TUNE)
    there = Bench(tools, tmp_path / "empty")
    there.do(OTHER, Prune(amount=0.2), Prune(amount=0.3), Undo())
    state, done, undone, look = there.state, there.timeline.done, there.timeline.tree.ahead(), picture(there.state)
    for looks in (0, 5, 60, 90):
        calls = iter(range(10**6))
        stopping = Tools(tools.data, stopped=lambda calls=calls, looks=looks: next(calls) >= looks)
        operations = tuple(change.operation for change in bench.timeline.done)
        shutil.rmtree(tmp_path / "empty")  # what was done again before the stop would be found there
        with pytest.raises(Stopped):
            there.timeline.restore(restore_along(operations), stopping, same)
        assert there.state is state
        assert (there.timeline.done, there.timeline.tree.ahead()) == (done, undone)
        assert picture(there.state) == look
    there.do(Redo())


def test_a_stop_while_undo_computes_again_leaves_the_timeline_as_it_was(
    bench: Bench, tools: Tools, tmp_path: Path
) -> None:
    bench.do(LOAD, TUNE, Prune())
    shutil.rmtree(tmp_path / "cache")
    bench.timeline._states = type(bench.timeline._states)({bench.timeline.done[-1].key: bench.state})
    state, done = bench.state, bench.timeline.done
    with pytest.raises(Stopped):
        bench.timeline.do(Undo(), Tools(tools.data, stopped=lambda: True), same)
    assert bench.state is state
    assert bench.timeline.done == done


def test_a_restore_that_cannot_be_had_leaves_the_timeline_as_it_was(bench: Bench) -> None:
    bench.do(LOAD, Prune())
    state, done = bench.state, bench.timeline.done
    for wanted, words in (
        (restore_along([Prune()]), "a session begins with load"),
        (restore_along([LOAD, Prune(layers=("nope",))]), "no such layer: nope"),
        (restore_along([Load(model="nope", dataset="digits")]), "no such model"),
        (restore_along([LOAD, Prune()], now=3), "stands at point 3, which is not there"),
        (Restore(points=(Point(number=1, parent=0, operation=LOAD),) * 2, now=1, count=2), "point 1 .* not follow"),
        (Restore(points=(Point(number=1, parent=7, operation=LOAD),), now=1, count=1), "from point 7, which is not"),
    ):
        with pytest.raises(BenchError, match=words):
            bench.timeline.restore(wanted, bench.tools, same)
        assert bench.state is state
        assert bench.timeline.done == done


def test_an_empty_session_is_restored_to_no_state(bench: Bench) -> None:
    bench.timeline.restore(Restore(), bench.tools, same)
    assert bench.timeline.state is None


def test_a_cache_that_cannot_be_written_costs_nothing_but_computing_again(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    bench = Bench(tools, tmp_path / "file")
    prints = [bench.do(operation) for operation in (LOAD, Prune(amount=0.3), Prune(amount=0.5))]
    assert bench.do(Undo()) == prints[1]


def test_a_file_of_the_cache_is_not_taken_for_another_state(bench: Bench, tools: Tools, tmp_path: Path) -> None:
    bench.do(LOAD, TUNE)
    marks = bench.timeline.done[0].key.rpartition("-")[2], "0" * 16
    other = Bench(tools, tmp_path / "cache")
    other.timeline.restore(restore_along([LOAD, TUNE], marks), tools, same)
    assert other.timeline.recomputed == 1
    assert fingerprint(other.state) == fingerprint(bench.state)


def test_a_key_names_the_operations_since_the_load(bench: Bench) -> None:
    bench.do(LOAD, Prune(amount=0.3))
    first = bench.timeline.done[-1].key
    bench.do(OTHER, Prune(amount=0.3))
    second = bench.timeline.done[-1].key
    bench.do(LOAD, Prune(amount=0.3))
    assert bench.timeline.done[-1].key == first != second
    assert state_key("", LOAD, "") == state_key(first, LOAD, "")


def test_every_point_stays_and_can_be_jumped_to(bench: Bench, tools: Tools, tmp_path: Path) -> None:
    prints = [bench.do(operation) for operation in (LOAD, Prune(amount=0.3), Prune(amount=0.6))]
    bench.do(Undo(), Name(name="light"), Note(text="a branch"))
    branch = bench.do(Prune(amount=0.9))
    assert bench.do(Jump(to="3")) == prints[2]
    assert bench.do(Undo()) == bench.do(Jump(to="light")) == prints[1]
    assert bench.do(Redo()) == prints[2], "redo leads to where one was last"
    assert bench.do(Jump(to="7"), Undo(), Redo()) == branch
    other = bench.restored(tools, tmp_path / "empty")
    assert fingerprint(other.state) == branch
    assert other.do(Jump(to="3")) == prints[2]
    assert other.do(Jump(to="light")) == prints[1]
    assert bench.timeline.recomputed == 0


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (Jump(to="9"), "no point 9; points are 1, 2"),
        (Jump(to="nope"), "no point nope"),
        (Jump(to="3"), "step 3 changed nothing"),
        (Name(name="half", at="1"), "half is what step 2 is called"),
        (Name(name="other", at="nope"), "no point nope"),
    ],
)
def test_a_jump_or_a_name_that_cannot_be_leaves_the_timeline_as_it_was(
    bench: Bench, operation: AnyOperation, words: str
) -> None:
    bench.do(LOAD, Prune(), Name(name="half"))
    state, count = bench.state, bench.timeline.tree.count
    with pytest.raises(BenchError, match=words):
        bench.do(operation)
    assert bench.state is state
    assert (bench.timeline.tree.count, bench.timeline.tree.names) == (count, {"half": 2})
