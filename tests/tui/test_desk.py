"""The desk: what is sent when, what waits, what is refused."""

import pytest
from fake_worker import ENVIRONMENT
from sample import LOAD, accuracy, lenet_rows, lenet_session, pruned, snapshot

from labbench.session import jsonl, recipe
from labbench.session.events import (
    Died,
    Failed,
    Finished,
    Metric,
    Preview,
    Previewed,
    Progress,
    Ready,
    Restore,
    Restored,
    Sparsity,
    Started,
    Stop,
    Trust,
)
from labbench.session.operations import Evaluate, Finetune, Freeze, Load, Note, Prune
from labbench.session.series import gradual
from labbench.tui.desk import Desk
from labbench.tui.record import Record
from labbench.tui.stepper import Stepper

READY = Ready(environment=ENVIRONMENT)
ROWS = lenet_rows()


class Bench:
    """A desk, what it sent and what it said."""

    def __init__(self, session=None):
        self.sent, self.said = [], []
        record = Record()
        if session:
            record.session = session
        self.asked, self.offered = [], []
        self.desk = Desk(
            record,
            self.sent.append,
            lambda sentence, severity: self.said.append(sentence),
            lambda question, answer: self.asked.append((question, answer)),
            lambda question, answer: self.offered.append((question, answer)),
        )

    def answer(self, yes):
        """What is asked last is answered."""
        self.asked.pop()[1](yes)

    def hear(self, *events):
        for event in events:
            self.desk.take(event)

    def finish(self, operation, rows=ROWS):
        made = None if isinstance(operation, Note) else snapshot(rows, {"validation": accuracy(0.9)})
        self.hear(Started(operation=operation), Finished(operation=operation, snapshot=made))


@pytest.fixture
def bench():
    made = Bench()
    made.hear(READY)
    made.desk.perform(LOAD)
    made.finish(LOAD)
    made.sent.clear()
    return made


def test_what_is_chosen_while_the_worker_warms_up_is_sent_when_it_is_there():
    bench = Bench()
    bench.desk.perform(LOAD)
    assert not bench.sent
    bench.hear(READY)
    assert bench.sent == [LOAD]


def test_an_operation_is_refused_while_another_runs(bench):
    bench.desk.perform(Finetune())
    bench.desk.perform(Prune())
    bench.hear(Started(operation=Finetune()))
    bench.desk.perform(Prune())
    assert bench.sent == [Finetune()]
    assert bench.said == ["finetune is running: s stops it"] * 2


def test_a_note_waits_for_the_run(bench):
    bench.desk.perform(Finetune())
    bench.desk.perform(Note(text="look"))
    assert bench.sent == [Finetune()]
    bench.finish(Finetune())
    assert bench.sent == [Finetune(), Note(text="look")]


def test_stop_is_sent_at_once(bench):
    bench.desk.perform(Finetune())
    bench.desk.stop()
    assert bench.sent == [Finetune(), Stop()]


def test_another_load_begins_another_session(bench):
    first = bench.desk.session
    bench.desk.perform(Load(model="resnet-20", dataset="shapes"))
    assert bench.desk.session is not first
    assert [type(request).__name__ for request in bench.sent] == ["Restore", "Load"]
    assert bench.sent[0] == Restore()
    bench.hear(Restored(snapshot=None))
    bench.finish(bench.sent[1])
    assert len(bench.desk.session.steps) == 1
    assert bench.desk.record.recording


def test_a_session_is_restored_when_the_worker_is_there():
    session = lenet_session()
    bench = Bench(session)
    bench.hear(READY)
    assert bench.sent == [session.restore()]
    assert bench.desk.situation.worker == "restoring"
    bench.hear(Restored(snapshot=session.snapshot))
    assert bench.desk.situation.worker == "ready"


def test_what_is_done_again_to_restore_is_not_recorded_twice():
    session = lenet_session()
    bench = Bench(session)
    bench.hear(READY)
    known = len(session.events)
    progress = Progress(phase="train", fraction=0.3, epoch=1, epochs=6)
    bench.hear(progress, Metric(name="step/loss", x=0.5, y=2.0), Sparsity(epoch=1, nonzero={"conv1": 3}))
    assert len(session.events) == known
    assert bench.desk.situation.restoring == progress


def test_a_dead_worker_is_told_and_the_next_one_restored(bench):
    bench.desk.perform(Finetune())
    bench.hear(Started(operation=Finetune()), Died(error="the worker was ended by SIGKILL"))
    assert bench.desk.running == ""
    assert bench.desk.situation.worker == "starting"
    assert bench.said == ["the worker was ended by SIGKILL"]
    bench.hear(READY)
    assert [point.operation for point in bench.sent[-1].points] == [LOAD]


def test_a_failure_that_is_nobodys_leaves_the_run_alone(bench):
    bench.desk.perform(Finetune())
    bench.hear(Started(operation=Finetune()), Failed(error="the worker said what cannot be read"))
    assert bench.desk.running == "finetune"
    bench.hear(Failed(error="the loss became nan", operation=Finetune()))
    assert bench.desk.running == ""


def test_changed_figures_are_stressed_until_the_next_operation(bench):
    bench.finish(Prune(layers=("fc2",)), (*ROWS[:3], *pruned(ROWS[3:], 0.5)))
    assert ("fc2", "zero") in bench.desk.fresh
    bench.hear(Started(operation=Evaluate()))
    assert not bench.desk.fresh


def test_a_recipe_goes_step_by_step_or_all_at_once(bench):
    steps = (Freeze(layers=("conv1",)), Note(text="one"), Prune())
    bench.desk.stepper = Stepper(recipe.Recipe(title="lesson", steps=steps))
    assert bench.desk.situation.recipe.startswith("lesson · next 1 of 3: freeze conv1")
    bench.desk.step_recipe(onward=False)
    bench.finish(steps[0])
    assert bench.sent == [steps[0]]
    bench.desk.step_recipe(onward=True)
    bench.finish(steps[1])
    assert bench.sent == list(steps)
    bench.finish(steps[2])
    assert bench.desk.situation.recipe == ""


def test_a_note_written_meanwhile_does_not_stop_a_recipe(bench):
    steps = (Finetune(), Prune())
    bench.desk.stepper = Stepper(recipe.Recipe(title="lesson", steps=steps))
    bench.desk.step_recipe(onward=True)
    bench.desk.perform(Note(text="look"))
    bench.finish(steps[0])
    bench.finish(Note(text="look"))
    assert bench.sent == [Finetune(), Note(text="look"), Prune()]


def test_a_step_that_fails_stays_and_stops_the_recipe(bench):
    steps = (Prune(layers=("nope",)), Prune())
    bench.desk.stepper = Stepper(recipe.Recipe(title="lesson", steps=steps))
    bench.desk.step_recipe(onward=True)
    bench.hear(Failed(error="no such layer: nope", operation=steps[0]))
    assert bench.sent == [steps[0]]
    assert "1 of 2" in bench.desk.situation.recipe


def test_previews_are_asked_one_at_a_time_and_the_latest_wins(bench):
    wanted = [Prune(amount=amount) for amount in (0.1, 0.2, 0.3)]
    assert [bench.desk.preview(operation) for operation in wanted] == [""] * 3
    assert bench.sent == [Preview(operation=wanted[0])]
    bench.desk.take_preview(Previewed(operation=wanted[0]))
    assert bench.sent == [Preview(operation=wanted[0]), Preview(operation=wanted[2])]


def test_no_preview_while_something_runs(bench):
    bench.desk.perform(Finetune())
    assert "finetune" in bench.desk.preview(Prune())
    assert bench.sent == [Finetune()]


def test_opening_a_file_continues_it_and_a_broken_one_is_refused(bench, tmp_path):
    path = tmp_path / "lesson.jsonl"
    with jsonl.Writer(path, jsonl.Header(labbench=jsonl.VERSION)) as writer:
        for seconds, event in lenet_session().events:
            writer.write(seconds, event)
    bench.desk.open_file(path)
    assert bench.desk.session.changes == lenet_session().changes
    assert bench.sent == [bench.desk.session.restore()]
    (tmp_path / "bad.toml").write_text("title = 3")
    bench.desk.open_file(tmp_path / "bad.toml")
    assert "bad.toml" in bench.said[-1]
    assert bench.desk.stepper is None


def test_a_recipe_file_is_stepped_through(bench, tmp_path):
    path = tmp_path / "lesson.toml"
    path.write_text(recipe.write(recipe.Recipe(title="lesson", steps=(LOAD, Prune()))))
    bench.desk.open_file(path)
    assert "next 1 of 2: open lenet-5" in bench.desk.situation.recipe


def test_a_load_that_fails_leaves_the_session_before_it_as_it_was(bench):
    first, path = bench.desk.session, bench.desk.record.path
    load = Load(model="resnet-20", dataset="cifar10")
    bench.desk.perform(load)
    bench.hear(Restored(snapshot=None), Started(operation=load))
    failed = bench.desk.record.path
    bench.hear(Failed(error="cifar10 is not there", operation=load))
    assert bench.desk.session is first
    assert bench.sent[-1] == first.restore()
    assert path.exists()
    assert not failed.exists()
    bench.hear(Restored(snapshot=first.snapshot))
    bench.finish(Evaluate())
    assert len(jsonl.read(path)[1].steps) == 2


def test_a_first_load_that_fails_leaves_no_file():
    bench = Bench()
    bench.hear(READY)
    bench.desk.perform(LOAD)
    bench.hear(Started(operation=LOAD), Failed(error="no such model", operation=LOAD))
    assert not bench.desk.record.path.exists()
    bench.desk.perform(LOAD)
    bench.finish(LOAD)
    assert len(jsonl.read(bench.desk.record.path)[1].steps) == 1


OWN = Load(model="net.py:build", dataset="digits")


def own_session():
    bench = Bench()
    bench.hear(READY)
    bench.desk.trust(OWN.model)
    bench.desk.perform(OWN)
    bench.finish(OWN)
    return bench.desk.session


def test_code_that_was_asked_for_by_name_is_trusted_before_it_is_loaded():
    bench = Bench()
    bench.desk.trust(OWN.model)
    bench.desk.perform(OWN)
    assert not bench.sent
    bench.hear(READY)
    assert bench.sent == [Trust(model=OWN.model), OWN]
    assert not bench.asked


def test_a_session_that_names_code_is_restored_only_after_a_yes():
    session = own_session()
    bench = Bench(session)
    bench.hear(READY)
    assert not bench.sent
    ((question, _),) = bench.asked
    assert "net.py:build (not found from " in question
    bench.answer(False)
    assert not bench.sent
    assert bench.desk.situation.worker == "unrestored"
    assert "nothing was run: net.py:build was not allowed" in bench.said[-1]
    bench.desk.restore()
    bench.answer(True)
    assert bench.sent == [Trust(model=OWN.model), session.restore()]
    assert bench.desk.situation.worker == "restoring"


def test_the_next_worker_is_told_what_was_trusted_and_nobody_is_asked_again():
    session = own_session()
    bench = Bench(session)
    bench.hear(READY)
    bench.answer(True)
    bench.hear(Restored(snapshot=session.snapshot), Died(error="killed"))
    bench.sent.clear()
    bench.hear(READY)
    assert bench.sent == [Trust(model=OWN.model), session.restore()]
    assert not bench.asked


def test_one_question_is_asked_however_often_the_worker_dies_meanwhile():
    session = own_session()
    bench = Bench(session)
    bench.hear(READY)
    bench.hear(Died(error="killed"), READY)
    assert len(bench.asked) == 1
    bench.answer(True)
    assert bench.sent == [Trust(model=OWN.model), session.restore()]


def test_a_step_of_a_recipe_that_names_code_is_asked_about(bench):
    bench.desk.stepper = Stepper(recipe.Recipe(title="lesson", steps=(OWN, Prune())))
    bench.desk.step_recipe(onward=True)
    assert not bench.sent
    bench.answer(False)
    assert not bench.sent
    assert bench.desk.session.steps and "1 of 2" in bench.desk.situation.recipe
    bench.desk.step_recipe(onward=False)
    bench.answer(True)
    assert [type(request).__name__ for request in bench.sent] == ["Trust", "Restore", "Load"]


def test_trust_is_never_recorded():
    bench = Bench()
    bench.hear(READY)
    bench.desk.trust(OWN.model)
    bench.desk.perform(OWN)
    bench.finish(OWN)
    assert "trust" not in bench.desk.record.path.read_text()


def test_code_that_is_another_one_is_said_when_it_is_restored(bench):
    bench.hear(Restored(snapshot=None, remarks=("net.py:build is not the code that was recorded",)))
    assert bench.said == ["net.py:build is not the code that was recorded"]


def test_a_series_goes_on_by_itself_and_gives_the_recipe_back(bench):
    waiting = Stepper(recipe.Recipe(title="lesson", steps=(Evaluate(),)))
    bench.desk.stepper = waiting
    steps = gradual(Prune(amount=0.6), Finetune(epochs=1), 3, "linear")
    bench.desk.perform_series("prune by degrees", steps)
    for step in steps:
        assert bench.sent[-1] == step
        assert "prune by degrees · doing" in bench.desk.situation.recipe
        bench.finish(step)
    assert bench.sent == list(steps)
    assert bench.desk.stepper is waiting


def test_a_series_that_is_stopped_or_fails_waits_and_can_go_on(bench):
    steps = gradual(Prune(amount=0.6), Finetune(epochs=1), 2, "linear")
    bench.desk.perform_series("prune by degrees", steps)
    bench.finish(steps[0])
    bench.desk.stop()
    bench.finish(steps[1])
    assert bench.sent == [steps[0], steps[1], Stop()]
    assert "next 3 of 4" in bench.desk.situation.recipe
    bench.desk.step_recipe(onward=True)
    bench.hear(Failed(error="no", operation=steps[2]))
    assert "next 3 of 4" in bench.desk.situation.recipe
    bench.desk.step_recipe(onward=True)
    bench.finish(steps[2])
    bench.finish(steps[3])
    assert bench.desk.stepper is None


def test_a_series_whose_first_step_is_refused_leaves_nothing_over(bench):
    waiting = Stepper(recipe.Recipe(title="lesson", steps=(Evaluate(),)))
    bench.desk.stepper = waiting
    steps = gradual(Prune(amount=0.6), None, 2, "linear")
    bench.desk.perform_series("prune by degrees", steps)
    bench.hear(Failed(error="no", operation=steps[0]))
    assert bench.desk.stepper is waiting
    bench.desk.perform_series("prune by degrees", steps)
    bench.finish(steps[0])
    bench.finish(steps[1])
    assert bench.desk.stepper is waiting


def test_no_series_begins_while_something_runs(bench):
    bench.desk.perform(Finetune())
    bench.desk.perform_series("later", (Prune(),))
    assert bench.sent == [Finetune()]
    assert bench.desk.stepper is None


RUN = Finetune(epochs=9)
MIDDLE = (Started(operation=RUN), Sparsity(epoch=4, nonzero={"conv1": 3}))


def test_a_run_that_died_with_its_worker_is_offered_again_once_the_model_is_back(bench):
    bench.desk.perform(RUN)
    bench.hear(*MIDDLE, Died(error="killed"), READY)
    assert not bench.offered
    bench.hear(Restored(snapshot=snapshot(ROWS)))
    ((question, answer),) = bench.offered
    assert question.startswith("finetune 9 epochs") and "after epoch 4 of 9" in question
    answer(True)
    assert bench.sent[-1] == RUN
    bench.hear(MIDDLE[0], Died(error="killed again"), READY, Restored(snapshot=snapshot(ROWS)))
    assert len(bench.offered) == 2
    assert bench.sent[-1] != RUN


def test_what_is_left_is_not_offered_again(bench):
    bench.hear(*MIDDLE, Died(error="killed"), READY, Restored(snapshot=snapshot(ROWS)))
    bench.offered.pop()[1](False)
    assert RUN not in bench.sent
    bench.hear(Died(error="killed again"), READY, Restored(snapshot=snapshot(ROWS)))
    assert not bench.offered
    bench.finish(Note(text="oh"))
    bench.hear(Died(error="killed again"), READY, Restored(snapshot=snapshot(ROWS)))
    assert not bench.offered


def test_a_load_that_died_with_its_worker_is_offered_again():
    bench = Bench()
    bench.hear(READY)
    bench.desk.perform(LOAD)
    bench.hear(Started(operation=LOAD), Died(error="killed"), READY)
    ((question, answer),) = bench.offered
    assert question == "open lenet-5 on digits was interrupted. Go on?"
    answer(True)
    bench.finish(LOAD)
    assert jsonl.read(bench.desk.record.path)[1].changes == (LOAD,)


def test_a_step_of_a_recipe_that_is_done_again_is_that_step(bench):
    bench.desk.stepper = Stepper(recipe.Recipe(title="lesson", steps=(RUN, Prune())))
    bench.desk.step_recipe(onward=True)
    bench.hear(*MIDDLE, Died(error="killed"), READY, Restored(snapshot=snapshot(ROWS)))
    bench.offered.pop()[1](True)
    bench.finish(RUN)
    assert "next 2 of 2" in bench.desk.situation.recipe


def test_what_another_labbench_records_is_looked_at_and_nothing_else(bench):
    path = bench.desk.record.path
    other = Bench()
    other.hear(READY)
    bench.hear(*MIDDLE)
    other.desk.open_file(path)
    assert "open in another labbench" in other.said[-1]
    other.hear(Restored(snapshot=snapshot(ROWS)))
    assert not other.offered, "it is running there"
    other.sent.clear()
    content = path.read_bytes()
    for operation in (Prune(), Note(text="hm")):
        other.desk.perform(operation)
        assert "w saves a copy and goes on there" in other.said[-1]
    assert not other.sent
    assert path.read_bytes() == content
    copy = path.with_name("copy.jsonl")
    other.desk.save_as(copy)
    other.desk.perform(Prune())
    other.finish(Prune())
    assert jsonl.read(copy)[1].changes == (LOAD, Prune())
    assert path.read_bytes() == content


def test_the_session_that_is_open_is_not_opened_again(bench):
    record = bench.desk.record
    bench.desk.open_file(record.path)
    assert bench.desk.record is record
    assert "is what is open here" in bench.said[-1]
