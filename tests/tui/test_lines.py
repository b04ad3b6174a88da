"""The lines of words: heading, totals, status, strip and history, at any width and in every situation."""

import re

import pytest
from sample import lenet_rows, lenet_session, pruned, resnet_session, running_session, snapshot

from labbench.session.events import Died, Failed, Finished, Started
from labbench.session.history import NOTE, NOW, RUNNING, UNDONE, rows
from labbench.session.operations import Load, Prune, Undo
from labbench.session.session import Session
from labbench.tui.situation import Playing, Situation
from labbench.tui.widgets.caption import LINES, strip
from labbench.tui.widgets.heading import heading
from labbench.tui.widgets.history import figures
from labbench.tui.widgets.status import bar, status
from labbench.tui.widgets.totals import totals

READY = Situation(worker="ready", model=True, file="2026-11-20-122221-lenet-5-digits.jsonl", recording=True)
HELD = Situation(worker="ready", model=True, file=READY.file, held="this session is open in another labbench (pid 7)")
PLAYING = Situation(worker="ready", model=True, playing=Playing(80, 151, 2.0, True, False, step=10, steps=12))
NUMBER = re.compile(r"\d[\d,.]*\d|\d")


@pytest.mark.parametrize("width", range(40, 201, 7))
@pytest.mark.parametrize("session", [lenet_session(), running_session(), resnet_session(), Session()])
def test_heading_and_totals_fit_and_no_figure_is_cut(session, width):
    assert heading(session, READY, width).cell_len <= width
    assert heading(session, HELD, width).cell_len <= width
    assert "⊘" in heading(session, HELD, width).plain
    whole = set(NUMBER.findall(totals(session, 1000).plain))
    for line in totals(session, width).split():
        assert line.cell_len <= width
        assert set(NUMBER.findall(line.plain)) <= whole


def test_totals_say_what_is_counted_and_what_was_before():
    text = totals(lenet_session(), 120).plain
    assert "430,500 → 215,500 non-zero" in text
    assert "431,080 params" in text
    assert "100 distinct" not in text
    assert re.search(r"validation +97\.8 → 98\.3 % top-1", text)
    assert re.search(r"test +97\.2 % top-1", text)


def test_what_was_not_measured_says_how_to():
    session = Session()
    load = Load(model="lenet-5", dataset="digits")
    session.append(0.0, Started(operation=load))
    session.append(1.0, Finished(operation=load, snapshot=snapshot(lenet_rows())))
    assert "not measured: e evaluates" in totals(session, 80).plain


def test_totals_follow_a_run():
    session = running_session()
    assert "430,500 → 222,900 non-zero" in totals(session, 120).plain
    assert session.snapshot.prunable.nonzero != 222_900


def test_the_status_tells_how_far_a_run_is():
    session = running_session()
    text = status(session, Situation(worker="ready", running="finetune", model=True), 120).plain
    for part in ("finetune", "epoch 5/5", "90 %", "0:00 left", "loss 0.08", "val 90.0 %", "1,380 img/s"):
        assert part in text
    assert len(status(session, Situation(worker="ready", running="finetune"), 60).plain) <= 60
    assert bar(0.5, 10) == "━━━━━─────"
    assert bar(7.0, 4) == "━━━━"


@pytest.mark.parametrize(
    ("event", "situation", "words"),
    [
        (None, Situation(), "warming up"),
        (None, Situation(worker="ready"), "10 evaluate on test"),
        (Died(error="killed"), Situation(), "another one is being started"),
        (Died(error="killed"), Situation(worker="gone"), "ctrl+r"),
        (Died(error="killed"), Situation(worker="restoring"), "restoring the session"),
        (Failed(error="no such\nlayer"), Situation(worker="ready"), "! no such layer"),
        (None, PLAYING, "‖ paused ×2  step 10 of 12"),
    ],
)
def test_the_status_tells_where_one_stands(event, situation, words):
    session = lenet_session()
    if event:
        session.append(session.seconds, event)
    assert words in status(session, situation, 120).plain


def test_the_history_has_a_sign_for_what_holds():
    found = rows(lenet_session())
    assert [(row.number, row.sign) for row in found] == [
        (1, " "), (2, " "), (3, " "), (4, " "), (6, " "), (7, NOTE), (8, " "), (9, NOW), (10, " "),
    ]  # fmt: skip
    assert [row.number for row in found if row.quiet] == [4]
    assert rows(running_session())[-1].sign == RUNNING
    session = lenet_session()
    session.append(100.0, Finished(operation=Undo(), snapshot=snapshot(pruned(lenet_rows(), 0.5))))
    assert [row.sign for row in rows(session)].count(UNDONE) == 1


def test_a_step_shows_what_it_left_of_the_model_and_a_measurement_its_own_split():
    found = rows(lenet_session())
    assert figures(found[1]) == ("×1.00", "98.3 %")
    assert figures(found[4]) == ("×2.00", "97.8 %")
    assert figures(found[-1]) == ("", "test 97.2 %")


def test_the_strip_shows_the_note_of_a_recording_and_the_step_of_a_recipe():
    session = lenet_session()
    assert "Half of the weights" in strip(session, PLAYING, 60).plain
    assert strip(session, READY, 60).plain == ""
    recipe = Situation(worker="ready", recipe=f"lesson · next 2 of 3: {Prune().describe()}")
    assert strip(session, recipe, 80).plain == "recipe lesson · next 2 of 3: prune all layers to 50 % (magnitude)"
    assert len(strip(session, PLAYING, 20).plain.splitlines()) <= LINES
    assert "⏎ reads it all" in strip(session, PLAYING, 22).plain
