"""What follows from a list of events: history, undo and redo, curves, what runs, what went wrong."""

import msgspec
import pytest
from session_examples import EVENTS, HERE, LOAD, finished, row, snapshot

from labbench.session.events import (
    AnyEvent,
    Closed,
    Died,
    Failed,
    Finished,
    Metric,
    Progress,
    Ready,
    Restored,
    Sparsity,
    Started,
    restore_along,
)
from labbench.session.operations import AnyOperation, Evaluate, Finetune, Freeze, Jump, Name, Note, Prune, Redo, Undo
from labbench.session.session import Session

HALF, MOST = Prune(amount=0.5), Prune(amount=0.8)


def session_of(*events: AnyEvent) -> Session:
    session = Session("a lesson")
    for number, event in enumerate(events):
        session.append(float(number), event)
    return session


def session_doing(*operations: AnyOperation) -> Session:
    return session_of(*[event for operation in operations for event in finished(operation)])


def test_the_sparsity_is_drawn_after_whatever_changes_it_and_ends_with_that_of_the_model_now() -> None:
    train, dense, cut = Finetune(epochs=1), snapshot(), snapshot(row(nonzero=39))
    drawn = [Started(operation=train), Metric(name="sparsity", x=1.0, y=0.0), Finished(operation=train, snapshot=dense)]
    session = session_of(*finished(LOAD, dense), *drawn, *finished(HALF, cut))
    assert session.gone.points == [(1.0, 0.0), (1.0, cut.prunable.sparsity)]
    assert session.gone.points[-1][1] == pytest.approx(0.61)
    for operation, found in ((Note(text="a"), None), (Undo(), dense), (Note(text="b"), None), (Redo(), cut)):
        session.append(99.0, Finished(operation=operation, snapshot=found))
    assert [y for _, y in session.gone.points] == [0.0, cut.prunable.sparsity, 0.0, cut.prunable.sparsity]
    assert session.curves["sparsity"].points == [(1.0, 0.0)]


def test_the_way_to_the_model_now_has_no_other_branch_in_it() -> None:
    models = [snapshot(row(nonzero=nonzero)) for nonzero in (100, 50, 20, 70)]
    session = session_of(*finished(LOAD, models[0]), *finished(HALF, models[1]), *finished(MOST, models[2]))
    session.append(9.0, Finished(operation=Undo(), snapshot=models[1]))
    assert session.way == (models[0], models[1])
    session.append(9.0, Finished(operation=Undo()))  # where no figures came, those of the point are known
    assert (session.snapshot, session.way) == (models[0], (models[0],))
    session.append(9.0, Finished(operation=HALF, snapshot=models[3]))
    assert session.way == (models[0], models[3])


def test_the_accuracy_of_the_running_finetune_is_none_of_a_run_before() -> None:
    train = Finetune(epochs=2)
    drawn = [Started(operation=train), Metric(name="validation/accuracy", x=1.0, y=0.9)]
    session = session_of(*finished(LOAD), *drawn)
    assert session.epoch_accuracy == 0.9
    session.append(9.0, Finished(operation=train, snapshot=snapshot()))
    assert session.epoch_accuracy is None
    session.append(9.0, Started(operation=train))
    assert session.epoch_accuracy is None


def test_the_history_has_every_finished_operation_in_order() -> None:
    session = session_doing(LOAD, HALF, Note(text="hm"), Undo(), Evaluate())
    assert [step.number for step in session.steps] == [1, 2, 3, 4, 5]
    assert [step.operation for step in session.steps] == [LOAD, HALF, Note(text="hm"), Undo(), Evaluate()]


def test_undo_takes_back_the_last_change_and_redo_does_it_again() -> None:
    session = session_doing(LOAD, HALF, MOST, Undo())
    assert session.changes == (LOAD, HALF)
    assert session.redoable == (MOST,)
    assert session_doing(LOAD, HALF, MOST, Undo(), Undo(), Redo()).changes == (LOAD, HALF)
    assert session_doing(LOAD, HALF, MOST, Undo(), Undo(), Redo()).redoable == (MOST,)


def test_notes_and_evaluations_are_no_changes_and_keep_what_can_be_redone() -> None:
    session = session_doing(LOAD, HALF, Undo(), Note(text="hm"), Evaluate())
    assert session.changes == (LOAD,)
    assert session.redoable == (HALF,)


def test_a_change_after_undo_forgets_what_could_be_redone() -> None:
    assert session_doing(LOAD, HALF, Undo(), MOST).redoable == ()


def test_nothing_is_lost_of_what_was_left() -> None:
    session = session_doing(LOAD, HALF, Undo(), MOST, Name(name="most"), Jump(to="2"))
    assert session.changes == (LOAD, HALF)
    assert session.tree.under(1) == (2, 4)
    assert session.tree.name_of(4) == "most"
    session.append(9.0, Finished(operation=Jump(to="most"), snapshot=snapshot()))
    assert session.changes == (LOAD, MOST)
    session.append(9.0, Finished(operation=Undo()))
    assert session.redoable == (MOST,)


def test_figures_measured_later_belong_to_their_point() -> None:
    session = session_of(*finished(LOAD, snapshot(fingerprint="1")), *finished(HALF, snapshot(fingerprint="2")))
    session.append(3.0, Finished(operation=Evaluate(), snapshot=snapshot(fingerprint="2", device="cuda")))
    assert session.steps[1].snapshot == snapshot(fingerprint="2")
    assert session.snapshots[2] == snapshot(fingerprint="2", device="cuda")


@pytest.mark.parametrize("operations", [(LOAD, Undo()), (LOAD, HALF, Redo()), (Undo(),)])
def test_an_undo_or_redo_of_nothing_does_not_follow(operations: tuple[AnyOperation, ...]) -> None:
    with pytest.raises(ValueError, match=r"nothing to (undo|redo)"):
        session_doing(*operations)


def test_restore_asks_for_the_changes_and_for_what_can_be_redone() -> None:
    restore = session_doing(LOAD, HALF, MOST, Undo()).restore()
    assert restore == msgspec.structs.replace(restore_along((LOAD, HALF, MOST), ("f00d",) * 3, now=2), count=4)


def test_the_snapshot_is_that_of_the_last_operation_that_measured() -> None:
    first, second = snapshot(fingerprint="1"), snapshot(fingerprint="2")
    session = session_of(*finished(LOAD, first), *finished(HALF, second), *finished(Note(text="hm")))
    assert session.snapshot == second
    assert session.before == second
    assert session.loaded == first
    assert [step.snapshot for step in session.steps] == [first, second, second]


def test_curves_go_on_through_two_runs() -> None:
    def run(*losses: float | None) -> list[AnyEvent]:
        operation = Finetune(epochs=len(losses))
        points = [Metric(name="train/loss", x=float(x), y=y) for x, y in enumerate(losses, 1)]
        return [Started(operation=operation), *points, Finished(operation=operation, snapshot=snapshot())]

    session = session_of(*finished(LOAD), *run(3.0, 2.0), *finished(HALF), *run(2.5, None, 1.0))
    assert session.runs == [0.0, 2.0]
    assert session.curves["train/loss"].points == [(1.0, 3.0), (2.0, 2.0), (3.0, 2.5), (4.0, None), (5.0, 1.0)]


def test_what_runs_is_known_with_its_progress_until_it_ends() -> None:
    operation = Finetune()
    half = Progress(phase="train", fraction=0.5)
    layers = Sparsity(epoch=1, nonzero={"conv1": 3})
    session = session_of(*finished(LOAD), Started(operation=operation), half, layers)
    assert (session.running, session.progress, session.live) == (operation, half, layers)
    session.append(9.0, Finished(operation=operation, snapshot=snapshot()))
    assert (session.running, session.progress, session.live) == (None, None, None)


def test_a_refusal_leaves_the_model_and_says_why_until_something_is_finished() -> None:
    refused = Failed(error="no such layer: nope", operation=Prune(layers=("nope",)))
    session = session_of(*finished(LOAD), *finished(HALF), refused)
    assert session.changes == (LOAD, HALF)
    assert session.problem == refused
    assert session.running is None
    session.append(9.0, finished(Freeze(layers=("conv1",)))[1])
    assert session.problem is None


def test_a_line_that_could_not_be_read_does_not_end_what_runs() -> None:
    session = session_of(*finished(LOAD), Started(operation=HALF), Failed(error="cannot be read", bug=True))
    assert session.running == HALF


def test_a_dead_worker_ends_what_ran_and_loses_nothing_before() -> None:
    died = Died(error="the worker was ended by SIGKILL")
    session = session_of(*finished(LOAD), *finished(HALF), Started(operation=Finetune()), died)
    assert session.running is None
    assert session.problem == died
    assert session.changes == (LOAD, HALF)


def test_opening_again_ends_what_was_running_when_all_was_lost() -> None:
    session = session_of(*finished(LOAD), Started(operation=HALF), Ready(environment=HERE))
    assert session.running is None
    assert session.environment == HERE
    again = snapshot(fingerprint="again")
    session.append(9.0, Restored(snapshot=again, recomputed=1))
    assert session.snapshot == again


def test_all_events_are_kept_as_they_came() -> None:
    session = session_of(*EVENTS)
    assert [event for _, event in session.events] == list(EVENTS)
    assert session.seconds == len(EVENTS) - 1


def test_only_right_after_a_stopped_run_there_is_one_to_go_on_with() -> None:
    broken = Finetune(epochs=3, steps=7)
    session = session_of(*finished(LOAD), *finished(broken))
    assert session.stopped == broken
    for operation in (Note(text="hm"), Evaluate()):
        for event in finished(operation):
            session.append(9.0, event)
    assert session.stopped == broken
    for event in finished(Finetune(epochs=3, resume=True)):
        session.append(10.0, event)
    assert session.stopped is None
    for event in finished(Undo()):
        session.append(11.0, event)
    assert session.stopped == broken
    assert session_of(*finished(LOAD)).stopped is None
    assert Session().stopped is None


TUNE = Finetune(epochs=5)


def run_until(epochs: float, begin: int = 0) -> list[AnyEvent]:
    """What a run says from an epoch on, up to somewhere in another."""
    events: list[AnyEvent] = [Started(operation=TUNE)]
    for epoch in range(begin + 1, 1 + int(epochs)):
        events.append(Metric(name="step/loss", x=epoch - 0.5, y=1 / epoch))
        events.append(Metric(name="validation/accuracy", x=epoch, y=epoch / 10))
        events.append(Sparsity(epoch=epoch, nonzero={"conv1": 3}))
    if epochs % 1:
        events.append(Metric(name="step/loss", x=epochs, y=7.0))
    return events


@pytest.mark.parametrize(
    "end", [[], [Died(error="killed")], [Closed()], [Ready(environment=HERE)], [Died(error="killed"), Closed()]]
)
def test_what_neither_ended_nor_failed_was_interrupted(end: list[AnyEvent]) -> None:
    session = session_of(*finished(LOAD), *run_until(3.4), *end)
    assert session.interrupted is not None
    assert session.interrupted.operation == TUNE
    assert session.interrupted.describe().endswith("was interrupted after epoch 3 of 5")
    session.break_off()
    session.append(90.0, finished(Note(text="what was that?"))[1])
    assert session.interrupted
    session.append(91.0, finished(HALF)[1])
    assert session.interrupted is None


@pytest.mark.parametrize("end", [finished(TUNE)[1], Failed(error="the loss became nan", operation=TUNE)])
def test_what_ended_or_failed_was_not_interrupted(end: AnyEvent) -> None:
    assert session_of(*finished(LOAD), *run_until(3.4), end, Died(error="killed")).interrupted is None


def test_a_run_that_is_interrupted_once_more_is_as_far_as_it_came() -> None:
    again: list[AnyEvent] = [*run_until(3.4), Died(error="killed"), Started(operation=TUNE)]
    for more, measured in (
        ([], 3),
        ([Progress(phase="train", fraction=0.4, epoch=3)], 2),
        ([Progress(phase="train", fraction=0.2, epoch=1, again=3), Metric(name="train/loss", x=1.0, y=1.0)], 3),
        ([Progress(phase="train", fraction=0.1, epoch=1), Metric(name="step/loss", x=0.1, y=1.0)], 0),
    ):
        session = session_of(*finished(LOAD), *again, *more, Died(error="killed"))
        assert session.interrupted is not None
        assert session.interrupted.measured == measured


def test_what_was_done_again_and_refused_is_over() -> None:
    session = session_of(*finished(LOAD), *run_until(2.4), Died(error="killed"), Started(operation=TUNE))
    session.append(90.0, Failed(error="no such layer: nope", operation=HALF))
    session.append(91.0, Failed(error="the loss became nan", operation=TUNE))
    assert session.interrupted is None


def test_other_operations_are_interrupted_without_an_epoch() -> None:
    session = session_of(*finished(LOAD), Started(operation=HALF), Died(error="killed"))
    assert session.interrupted is not None
    assert session.interrupted.describe() == f"{HALF.describe()} was interrupted"
    session = session_of(*finished(LOAD), Started(operation=TUNE), Died(error="killed"))
    assert session.interrupted is not None
    assert session.interrupted.describe().endswith("was interrupted in epoch 1")


@pytest.mark.parametrize("begin", [0, 1, 3])
def test_curves_of_a_run_that_goes_on_are_those_of_one_that_was_not_interrupted(begin: int) -> None:
    before = [*finished(LOAD), *run_until(5), finished(TUNE)[1]]
    whole = session_of(*before, *run_until(5), finished(TUNE)[1])
    broken = [
        *run_until(3 if begin == 3 else 3.4),
        Died(error="killed"),
        Ready(environment=HERE),
        Restored(snapshot=snapshot()),
    ]
    session = session_of(*before, *broken, *run_until(5, begin), finished(TUNE)[1])
    assert session.curves == whole.curves
    assert session.runs == whole.runs == [0.0, 5.0]
    twice = session_of(*before, *broken, *run_until(4.2, begin), Died(error="killed"), *run_until(5, begin))
    assert twice.curves == whole.curves


def test_another_run_after_an_interrupted_one_begins_where_that_broke_off() -> None:
    other = Finetune(epochs=1)
    events = [Started(operation=other), Metric(name="step/loss", x=1.0, y=0.5)]
    session = session_of(*finished(LOAD), *run_until(2.5), Died(error="killed"), *events)
    assert session.runs == [0.0, 2.5]
    assert session.curves["step/loss"].points[-2:] == [(2.5, 7.0), (3.5, 0.5)]
