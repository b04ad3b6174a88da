"""Goals: what they say, what a model reaches of them, and where a task was met."""

import pytest
from session_examples import LOAD, finished, row, snapshot

from labbench.session.catalogue import shipped
from labbench.session.check import BadInput, check_names
from labbench.session.goals import FIGURES, goal_from, outcome, outcomes
from labbench.session.operations import AnyOperation, Evaluate, Prune, Task, Undo
from labbench.session.session import Session
from labbench.session.snapshot import Snapshot

SMALL = Task(name="small", goals=("parameters < 50 %", "accuracy >= 90 %"))


def doing(*done: tuple[AnyOperation, Snapshot | None]) -> Session:
    session = Session()
    for operation, found in done:
        for event in finished(operation, found):
            session.append(session.seconds + 1, event)
    return session


def model(nonzero: int, validation: float) -> Snapshot:
    """110 parameters, ten of them biases."""
    return snapshot(row(nonzero=nonzero), validation=validation)


@pytest.mark.parametrize(
    ("text", "found", "met"),
    [
        ("parameters < 25 %", 100 * 30 / 110, False),
        ("parameters below 30%", 100 * 30 / 110, True),
        ("parameters ≤ 30", 30, True),
        ("parameters < 30", 30, False),
        ("size >= 100 %", 100, True),
        ("sparsity above 79.9 %", 80, True),
        ("compression > 3.6", 110 / 30, True),
        ("macs at most 1000", 1000, True),
        ("distinct <= 20 %", 20, True),
        ("accuracy > 92.5 %", 93, True),
        ("worst class at least 50 %", 50, True),
        ("test accuracy > 1 %", None, False),
    ],
)
def test_a_goal_reads_its_figure_of_the_model(text: str, found: float | None, met: bool) -> None:
    goal, now = goal_from(text), model(20, 0.93)
    assert goal.reading(now) == (found if found is None else pytest.approx(found))
    assert goal.met(now) == met
    assert goal.state(now).startswith("✓ " if met else "✗ ")
    assert goal_from(goal.describe()) == goal


def test_every_figure_can_be_asked_for() -> None:
    for name in FIGURES:
        assert goal_from(f"{name} > 2{'' if name == 'compression' else ' %'}").figure == name


def test_a_reading_never_looks_like_the_goal_it_misses() -> None:
    now = snapshot(row(), validation=0.92496)
    assert goal_from("accuracy > 92.5 %").state(now) == "✗ accuracy 92.496 > 92.5 %"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("smaller", "'smaller' is no goal; a goal is a figure"),
        ("parameters < -3 %", "is no goal"),
        ("parameters < 1e99 %", "is no goal"),
        ("speed > 3", "no figure 'speed' for a goal; there are parameters, size"),
        ("accuracy > 0.9", "accuracy is in percent: write accuracy > 0.9 %"),
        ("compression > 4 %", "ratio without a percent sign"),
        ("[@click=app.quit]x", "is no goal"),
    ],
)
def test_what_is_no_goal_is_refused_with_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        goal_from(text)
    with pytest.raises(BadInput, match="task small"):
        check_names(Task(name="small", goals=(text,)), shipped())


def test_a_task_is_met_where_all_goals_are_met_at_once() -> None:
    steps: list[tuple[AnyOperation, Snapshot | None]] = [
        (LOAD, model(100, 0.95)),
        (SMALL, None),
        (Prune(), model(30, 0.60)),
        (Undo(), model(100, 0.95)),
    ]
    before = outcome(doing(*steps), SMALL)
    assert (before.met_at, before.now) == (0, False)
    assert before.states() == ("✗ parameters 100.0 < 50 %", "✓ accuracy 95.0 >= 90 %")
    after = outcome(doing(*steps, (Prune(amount=0.6), model(40, 0.91)), (Undo(), model(100, 0.95))), SMALL)
    assert (after.met_at, after.now) == (5, False)
    assert after.states() == ("✓ parameters 45.5 < 50 %", "✓ accuracy 91.0 >= 90 %")


def test_nearest_is_the_model_that_meets_most_and_misses_the_rest_by_least() -> None:
    both = Task(name="both", goals=("parameters < 40 %", "accuracy > 90 %"))
    untrained, dense = model(100, 0.10), model(100, 0.95)
    broken, close, closer = model(25, 0.12), model(25, 0.85), model(25, 0.89)
    nearest = [
        ((untrained,), 1),
        ((untrained, dense), 2),
        ((untrained, dense, broken), 2),
        ((untrained, dense, broken, close), 4),
        ((untrained, dense, broken, close, closer, close), 5),
        ((untrained, model(40, 0.85), model(60, 0.89)), 2),
    ]
    for models, number in nearest:
        found = outcome(doing(*zip((LOAD, *[Prune()] * 9), models, strict=False)), both)
        assert (found.met_at, found.nearest_at, found.nearest) == (0, number, models[number - 1])


def test_what_was_not_measured_is_farthest_and_what_is_met_is_not_missed() -> None:
    tested = goal_from("test accuracy > 90 %")
    assert tested.miss(model(100, 0.1)) == 1.0
    assert goal_from("accuracy > 90 %").miss(model(100, 0.8)) == pytest.approx(0.5)
    assert goal_from("parameters < 50 %").miss(model(100, 0.8)) == pytest.approx(0.5)
    assert goal_from("compression > 4").miss(model(100, 0.8)) == pytest.approx(0.75)
    assert goal_from("accuracy >= 80 %").miss(model(100, 0.8)) == 0.0


def test_figures_measured_later_count_for_the_same_model() -> None:
    task = Task(name="tested", goals=("parameters < 50 %", "test accuracy > 90 %"))
    session = doing(
        (LOAD, model(100, 0.9)), (Prune(), model(20, 0.9)), (Evaluate(), snapshot(row(nonzero=20), test=0.93))
    )
    assert outcome(session, task).met_at == 3


def test_what_was_reached_before_the_task_was_set_does_not_count() -> None:
    reached, back = (Prune(), model(30, 0.95)), (Undo(), model(100, 0.95))
    session = doing((LOAD, model(100, 0.95)), reached, back, (SMALL, None))
    assert [one.met_at for one in outcomes(session)] == [0]
    assert [one.met_at for one in outcomes(session, [SMALL])] == [2], "a teacher's task counts from the first step on"


def test_a_task_of_the_same_name_replaces_the_earlier_one() -> None:
    easy = Task(name="small", goals=("parameters <= 100 %",))
    session = doing((LOAD, model(100, 0.9)), (SMALL, None), (easy, None))
    assert [(one.task, one.met_at) for one in outcomes(session)] == [(easy, 3)]
    assert [(one.task, one.met_at) for one in outcomes(session, [SMALL])] == [(SMALL, 0)]


def test_goals_that_cannot_be_read_are_not_met() -> None:
    broken = Task(name="x", goals=("what",))
    found = outcome(doing((LOAD, model(1, 1.0))), broken)
    assert (found.goals, found.met_at, found.now) == ((), 0, False)
