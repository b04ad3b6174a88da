"""What an audience predicts: read from a line, answered by the next step that has the figure, ranked by closeness."""

import pytest
from session_examples import LOAD, snapshot

from labbench.session.chapters import Chapter, chapter_at, chapters
from labbench.session.check import BadInput
from labbench.session.events import Finished
from labbench.session.operations import Evaluate, Note, Prune, Undo
from labbench.session.predictions import answer, parse, verdicts
from labbench.session.session import Session


def test_guesses_are_percent_or_counts() -> None:
    assert parse("92, 95.5 % ;0", "accuracy") == (0.92, 0.955, 0.0)
    assert parse("250k, 1.2 M, 431080", "parameters") == (250e3, 1.2e6, 431080)
    assert parse("", "macs") == parse(" , ", "sparsity") == ()


@pytest.mark.parametrize(
    ("text", "figure", "words"),
    [
        ("much", "accuracy", "percent, such as 92, 95.5"),
        ("92 95", "accuracy", "commas between them"),
        ("250k", "sparsity", "percent"),
        ("12 %", "macs", "numbers, such as 250k, 1.2M"),
        ("101", "accuracy", "at most 100 %"),
        ("-3", "sparsity", "percent"),
        ("1e5", "macs", "numbers"),
        (",".join("1" * 41), "accuracy", "at most 40 guesses"),
    ],
)
def test_what_is_no_guess_is_refused_with_what_would_be(text: str, figure: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        parse(text, figure)


ACCURACY = Note(text="Watch.", ask="What will the accuracy be?")
SPARSITY = Note(text="And?", ask="How much is gone?", figure="sparsity")


def session(*done: tuple[object, object]) -> Session:
    made = Session()
    for number, (operation, found) in enumerate(done):
        made.append(number, Finished(operation=operation, snapshot=found))  # type: ignore[arg-type]
    return made


def test_the_next_step_that_has_the_figure_answers() -> None:
    taught = session(
        (LOAD, snapshot(validation=0.9)),
        (ACCURACY, None),
        (Note(text="another"), None),
        (Prune(), snapshot()),
        (Undo(), snapshot(validation=0.8, test=0.7)),
        (Evaluate(), snapshot(validation=0.8, test=0.7)),
    )
    step = answer(taught, 2)
    assert step and step.number == 5
    assert verdicts(taught, {2: (0.5,)}) == ()
    taught.steps = taught.steps[:5]
    (verdict,) = verdicts(taught, {2: (0.5, 0.9, 0.75)})
    assert verdict.actual == 0.8
    assert verdict.guesses == (0.75, 0.9, 0.5)


def test_an_evaluation_answers_with_the_split_it_measured() -> None:
    taught = session((LOAD, snapshot()), (ACCURACY, None), (Evaluate(), snapshot(validation=0.8, test=0.7)))
    assert verdicts(taught, {2: (0.7,)})[0].actual == 0.7


def test_two_questions_in_a_row_have_one_answer_each_and_a_skipped_one_none() -> None:
    taught = session((LOAD, snapshot()), (ACCURACY, None), (SPARSITY, None), (Prune(), snapshot(validation=0.6)))
    both = verdicts(taught, {2: (0.5,), 3: (0.25,)})
    assert [verdict.question for verdict in both] == [ACCURACY, SPARSITY]
    assert [verdict.actual for verdict in both] == [0.6, 0.0]
    assert verdicts(taught, {2: (), 3: (0.25,)}) == (both[1],)
    assert verdicts(session((LOAD, snapshot()), (ACCURACY, None)), {2: (0.5,)}) == ()


def test_chapters_begin_with_notes_that_have_a_title() -> None:
    taught = session(
        (LOAD, snapshot()), (Note(text="a", chapter="One"), None), (Note(text="b"), None), (Prune(), snapshot()),
        (Note(text="c", chapter="Two\nlines"), None),
    )  # fmt: skip
    found = chapters(taught)
    assert found == (Chapter("One", 2), Chapter("Two lines", 5))
    assert [chapter_at(found, step) for step in range(6)] == [0, 0, 1, 1, 1, 2]
    assert chapters(session((LOAD, snapshot()))) == ()
