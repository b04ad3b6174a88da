"""Digits in large: what is drawn fits, is as large as it can be, and can be told apart."""

import pytest
from sample import accuracy, lenet_rows, lenet_session, pruned, running_session, snapshot, taught_events, taught_session
from textual.geometry import Size

from labbench.session.events import Finished
from labbench.session.operations import Jump, Load, Prune, Undo
from labbench.session.session import Session
from labbench.tui.digits import FONT, draw, height, largest, width
from labbench.tui.widgets.big_figures import figures, laid_out, step_words


@pytest.mark.parametrize("scale", [1, 2, 3, 5])
def test_a_drawing_has_the_size_that_was_said(scale):
    rows = draw("98.3%", scale)
    assert len(rows) == height(scale)
    assert {len(row) for row in rows} == {width("98.3%", scale)}


def test_every_sign_looks_different():
    drawn = ["\n".join(draw(sign, 2)) for sign in FONT]
    assert len(set(drawn)) == len(drawn)


def test_the_largest_fits_and_one_more_would_not():
    scale = largest("98.3%", 60, 12)
    assert width("98.3%", scale) <= 60 and height(scale) <= 12
    assert width("98.3%", scale + 1) > 60 or height(scale + 1) > 12
    assert largest("98.3%", 5, 5) == 0


def by_label(session):
    return {figure.label: figure for figure in figures(session)}


def test_the_figures_are_those_of_the_model_before_and_now():
    found = by_label(taught_session(list(taught_events())[:7]))
    assert found["accuracy · validation"].digits == "97.8%"
    assert found["accuracy · validation"].change == "98.3 → 97.8 %"
    assert found["sparsity"].digits == "50.0%"
    assert found["parameters not zero"].change.startswith("431,080 → 215,830  ×2.00")
    assert found["MACs"].digits == "2.29M"


def test_after_an_undo_they_compare_with_what_led_to_the_model_not_with_what_was_left():
    def told(*accuracies):
        session = Session()
        for seconds, (operation, share) in enumerate(accuracies):
            found = snapshot(pruned(lenet_rows(), share), {"validation": accuracy(0.98 - share / 10)})
            session.append(float(seconds), Finished(operation=operation, snapshot=found))
        return by_label(session)

    load, half, most = (
        (Load(model="lenet-5", dataset="digits"), 0.0),
        (Prune(amount=0.5), 0.5),
        (Prune(amount=0.9), 0.9),
    )
    there = told(load, half)
    back = told(load, half, most, (Undo(), 0.5))
    assert there["sparsity"].change == "0.0 → 50.0 %"
    assert back == there
    assert told(load, half, most, (Jump(to="1"), 0.0))["accuracy · validation"].change == "98.0 %"


def test_an_evaluation_shows_its_split_and_a_run_its_last_epoch():
    assert by_label(lenet_session())["accuracy · test"].digits == "97.2%"
    running = running_session()
    last = running.curves["validation/accuracy"].points[-1][1]
    assert by_label(running)["accuracy · validation"].digits == f"{100 * last:.1f}%"
    assert step_words(running).startswith("… finetune 5 epochs")


def test_without_a_model_there_is_a_sentence():
    assert "no model" in laid_out(figures(Session()), "", Size(80, 20)).plain


@pytest.mark.parametrize("size", [(38, 12), (60, 10), (78, 10), (78, 20), (118, 30), (198, 44)])
def test_all_four_fit_any_room(size):
    lines = laid_out(figures(lenet_session()), step_words(lenet_session()), Size(*size)).plain.splitlines()
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]


def test_more_room_makes_larger_digits():
    def blocks(size):
        return laid_out(figures(lenet_session()), "", Size(*size)).plain.count("█")

    assert blocks((78, 20)) < blocks((118, 30)) < blocks((198, 44))


def test_a_whole_percent_keeps_its_size():
    session = lenet_session(3)
    session.snapshot = snapshot(pruned(lenet_rows(), 0.5), {"validation": accuracy(1.0)})
    assert by_label(session)["accuracy · validation"].digits == "100%"
