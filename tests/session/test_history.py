"""The tree of a history as rows: branches stand aside, the way to where one stands is straight, nothing is lost."""

import random

import pytest
from session_examples import LOAD, finished, snapshot
from test_session import session_doing, session_of

from labbench.session.events import Finished, Started
from labbench.session.history import Row, rows
from labbench.session.operations import (
    AnyOperation,
    Evaluate,
    Finetune,
    Freeze,
    Jump,
    Name,
    Note,
    Prune,
    Redo,
    Task,
    Undo,
)
from labbench.session.session import Session

TRAIN, HALF, MOST = Finetune(epochs=1), Prune(amount=0.5), Prune(amount=0.8)


def drawn(session: Session) -> list[str]:
    return [f"{row.sign}{row.number} {row.lines}".rstrip() for row in rows(session)]


def test_a_history_without_branches_is_one_column_however_often_one_goes_back_and_forth() -> None:
    session = session_doing(LOAD, TRAIN, Undo(), Redo(), HALF, TRAIN, Jump(to="1"), Jump(to="6"), MOST)
    assert drawn(session) == [" 1", " 2", " 5", " 6", "▸9"]


def test_what_was_left_stands_aside_and_nothing_is_lost() -> None:
    session = session_doing(LOAD, TRAIN, HALF, TRAIN, Jump(to="2"), MOST, TRAIN, Undo(), HALF)
    assert drawn(session) == [" 1", " 2", " 3 ├", " 4 │", " 6", " 7 ├", "▸9"]
    assert [row.quiet for row in rows(session)] == [False, False, True, True, False, True, False]
    assert {row.number for row in rows(session)} == set(session.tree.items)


def test_a_branch_of_a_branch_is_indented_once_more_and_lines_lead_past_it() -> None:
    session = session_doing(LOAD, HALF, TRAIN, Undo(), MOST, Jump(to="1"), HALF)
    assert drawn(session) == [" 1", " 2 ├", " 3 │ ├", " 5 │", "▸7"]


def test_the_branch_one_goes_to_becomes_the_straight_one() -> None:
    session = session_doing(LOAD, HALF, TRAIN, Jump(to="1"), MOST, Jump(to="2"))
    assert drawn(session) == [" 1", " 5 ├", "▸2", "↶3"]


def test_undo_and_redo_move_only_the_sign() -> None:
    session = session_doing(LOAD, TRAIN, HALF, Undo(), Undo())
    assert drawn(session) == ["▸1", "↶2", "↶3"]
    session.append(9.0, Finished(operation=Redo()))
    assert drawn(session) == [" 1", "▸2", "↶3"]


def test_notes_evaluations_and_tasks_stand_under_their_point_whenever_they_were_made() -> None:
    small = Task(name="small", goals=("parameters < 25 %",), text="Make it small.")
    session = session_doing(LOAD, HALF, Undo(), MOST, Jump(to="2"), Note(text="back\nagain"), Evaluate(), small)
    found = rows(session)
    assert [(row.number, row.point, row.lines) for row in found] == [
        (1, 1, ""), (4, 4, "├ "), (2, 2, ""), (6, 2, ""), (7, 2, ""), (8, 2, ""),
    ]  # fmt: skip
    note, evaluation, task = found[3:]
    assert (note.sign, note.words, note.full) == ("✎", "back again", "back\nagain")
    assert task.full == "Make it small."
    assert [row.is_point for row in (note, evaluation, task)] == [False] * 3
    session.append(9.0, Finished(operation=Jump(to="4")))
    assert [(row.number, row.lines, row.quiet) for row in rows(session)][1:5] == [
        (2, "├ ", True), (6, "│ ", True), (7, "│ ", True), (8, "│ ", True),
    ]  # fmt: skip


def test_a_name_stands_with_its_point() -> None:
    session = session_doing(
        LOAD, TRAIN, Name(name="dense"), HALF, Name(name="first", at="1"), Name(name="start", at="1")
    )
    assert [(row.number, row.name) for row in rows(session)] == [(1, "start"), (2, "dense"), (4, "")]


def test_a_step_says_its_accuracy_and_its_compression() -> None:
    def one(number: int) -> Row:
        return next(row for row in rows(session) if row.number == number)

    half = snapshot(validation=0.9, test=0.8)
    session = session_of(*finished(LOAD, half), *finished(HALF, snapshot(test=0.7)), *finished(Evaluate(), half))
    assert one(1).accuracy == ("validation", 0.9)
    assert one(1).compression == 1.0
    assert one(2).accuracy == ("test", 0.7)
    assert one(3).accuracy == ("test", 0.8)
    assert one(3).compression is None


@pytest.mark.parametrize(
    ("running", "signs"),
    [
        (HALF, ["▸1", " 2 ├", "…5"]),
        (Evaluate(), ["▸1", "…5", "↶2"]),
        (Jump(to="2"), ["▸1", "…5", "↶2"]),
    ],
)
def test_what_runs_stands_where_it_will_be(running: AnyOperation, signs: list[str]) -> None:
    session = session_doing(LOAD, TRAIN, Undo(), Note(text="hm"))
    session.append(9.0, Started(operation=running))
    assert [line for line in drawn(session) if not line.startswith("✎")] == signs
    assert rows(session)[-1 if running == HALF else 2].step is None


def test_before_anything_is_open_there_may_be_a_note() -> None:
    assert rows(Session()) == []
    assert drawn(session_doing(Note(text="welcome"), LOAD)) == ["✎1", "▸2"]


def test_a_history_of_thousands_of_steps_is_drawn() -> None:
    session = session_doing(LOAD, *[Freeze()] * 3000)
    assert len(rows(session)) == 3001
    assert not any(row.lines for row in rows(session))


@pytest.mark.parametrize("seed", range(8))
def test_wherever_one_goes_every_point_is_there_once_below_what_it_was_made_from(seed: int) -> None:
    chance = random.Random(seed)
    session = session_doing(LOAD)
    for _ in range(60):
        points = [str(number) for number in session.tree.items]
        operation = chance.choice((HALF, TRAIN, Undo(), Redo(), Jump(to=chance.choice(points)), Evaluate()))
        try:
            session.tree.check(operation)
        except ValueError:
            continue
        session.append(session.seconds, finished(operation)[1])
    found = [row for row in rows(session) if row.is_point]
    order = [row.number for row in found]
    assert sorted(order) == list(session.tree.items)
    assert all(order.index(parent) < order.index(number) for number, parent in session.tree.parents.items() if parent)
    first_column = [row.number for row in found if not row.lines]
    assert tuple(first_column[: len(session.tree.numbers())]) == session.tree.numbers()
    assert [row.number for row in found if row.sign == "▸"] == [session.tree.now]
    assert [row.number for row in found if row.sign == "↶"] == [step.number for step in reversed(session.undone)]
