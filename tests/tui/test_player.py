"""A recording played for a class: keys in, pictures out. Predictions and takeovers leave the recording as it is."""

import sys
from pathlib import Path

import fake_worker
import pytest
from hosting import PENDING, Host, seen, until
from sample import LOAD, NOTE, OPENING, lenet_session, taught_events, taught_session
from stub import app_on

from labbench.session.events import Finished, Started
from labbench.session.jsonl import read
from labbench.session.operations import Load, Note, Prune, Undo
from labbench.session.prose import plain
from labbench.tui.app import LabbenchApp
from labbench.tui.presenter import PresenterClock
from labbench.tui.screens.bench import BenchScreen, PlayerScreen
from labbench.tui.screens.chapters import ChaptersScreen
from labbench.tui.screens.confirm import Confirm
from labbench.tui.screens.note import NoteForm
from labbench.tui.screens.reader import Reader
from labbench.tui.takeover import take_over

WORKER = [sys.executable, str(Path(fake_worker.__file__))]
SIZES = [(80, 24), (120, 40), (200, 50)]
NOTED, ASKED, ANSWERED = 2, 4, 5
"""Steps of the lesson: the first note, the question, the prune that answers it."""


async def at(app, pilot, step):
    """Stand at the end of a step."""
    await until(pilot, lambda: app.playback.player.position)
    app.playback.go(step)
    app.touch()
    await until(pilot, lambda: not app.stale and f"step {step} of" in seen(app))


def standing(app):
    return len(app.playback.session.steps)


# notes


@pytest.mark.parametrize("size", SIZES)
async def test_a_note_is_shown_as_markdown_and_holds_the_player(size):
    app = app_on(recording=taught_session())
    async with app.run_test(size=size) as pilot:
        app.playback.player.faster(100)
        await until(pilot, lambda: "1 · Zeros" in seen(app) and "• and multiplied" in seen(app))
        text = seen(app)
        assert "Zeros and time" in text and "Nothing gets faster" in text
        assert "1 · Zeros" in text and "‖ paused" in text and "chapter 1 of 3 · step 2 of 8" in text
        assert "conv1" in text
        await pilot.press("space")
        await until(pilot, lambda: standing(app) == ASKED)
        assert app.playback.player.paused


async def test_nothing_in_a_note_acts():
    hostile = (
        "[@click=app.quit]x[/] [go](https://example.org) <b>b</b> ![i](file:///etc/passwd) \x1b]0;title\x07 \x1b[31m"
    )
    session = taught_session(list(taught_events())[:3])
    note = Note(text=hostile, chapter="[@click=app.quit]t", ask="[@click=app.quit]q\x1b[0m?")
    session.append(5.0, Started(operation=note))
    session.append(6.0, Finished(operation=note))
    app = app_on(recording=session)
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 2)
        await until(pilot, lambda: "@click=app.quit]x" in seen(app))
        text = seen(app)
        for words in ("[@click=app.quit]x[/]", "[go](https://example.org)", "[@click=app.quit]t", "[@click=app.quit]q"):
            assert words in text
        assert "\x1b" not in text and "\x07" not in text
        strips = app.screen._compositor.render_strips(app.size)
        styles = [segment.style for strip in strips for segment in strip if segment.style]
        assert not [style for style in styles if style.link or "@click" in style.meta]
        row = next(number for number, line in enumerate(text.splitlines()) if "@click=app.quit]x" in line)
        for column in range(2, 40, 3):
            await pilot.click(offset=(column, row))
        assert app.is_running and app.link.sent == []


async def test_playing_on_at_notes_is_a_key():
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("n")
        app.playback.player.faster(100)
        await until(pilot, lambda: app.playback.player.ended)
        assert app.playback.guessed == {}


async def test_a_long_note_is_cut_with_a_word_and_read_in_full():
    note = Note(text="\n\n".join(f"paragraph {number}" for number in range(40)))
    session = taught_session(list(taught_events())[:3])
    session.append(5.0, Started(operation=note))
    session.append(6.0, Finished(operation=note))
    app = app_on(recording=session)
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 2)
        await until(pilot, lambda: "⏎ reads it all" in seen(app))
        assert "conv1" in seen(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Reader))
        await pilot.press("end")
        await until(pilot, lambda: "paragraph 39" in seen(app))


WIDE = "|\n".join(("|a" * 900, "|-" * 900, "|a" * 900, ""))


@pytest.mark.parametrize("text", ["- a\n" * 1000, WIDE, "*a_" * 6600], ids=["long", "wide", "marks"])
async def test_no_note_is_too_much(text):
    session = taught_session(list(taught_events())[:3])
    session.append(5.0, Started(operation=Note(text=text)))
    session.append(6.0, Finished(operation=Note(text=text)))
    app = app_on(recording=session)
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 2)
        await until(pilot, lambda: "⏎ reads it all" in seen(app))
        assert len(app.screen.query("*")) < 300
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Reader))


def test_plain_words_have_no_marks():
    assert plain(OPENING.text).splitlines() == [
        "Zeros and time", "Half of it goes. Nothing gets faster:", "• zeros are stored", "• and multiplied",
    ]  # fmt: skip
    assert plain(NOTE.text) == NOTE.text.replace("\n", " ")


# steps and chapters


async def test_steps_go_both_ways():
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 3)
        await pilot.press("right", "right")
        assert standing(app) == ANSWERED
        await pilot.press("left")
        assert standing(app) == ASKED
        await until(pilot, lambda: "What will the accuracy be?" in seen(app))
        await pilot.press("left", "left")
        await until(pilot, lambda: standing(app) == NOTED)


@pytest.mark.parametrize(
    ("keys", "step"),
    [("right enter", 4), ("right right enter", 6), ("left enter", 2), ("down enter", 4), ("G end enter", 8)],
)
async def test_a_chapter_or_step_is_chosen_from_the_list(keys, step):
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 3)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, ChaptersScreen))
        await until(pilot, lambda: "1  Zeros" in seen(app) and "prune all layers to 50 %" in seen(app))
        await pilot.press(*keys.split())
        await until(pilot, lambda: isinstance(app.screen, PlayerScreen))
        assert standing(app) == step
        assert app.playback.session.snapshot == app.playback.player.recording.steps[step - 1].snapshot


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_ahead_is_not_told_before_it_is_asked_for(size):
    ahead = ("Too much", "90 %", "42.0 %", "finetune")
    app = app_on(recording=taught_session())
    async with app.run_test(size=size) as pilot:
        await at(app, pilot, 3)
        assert not [word for word in ahead if word in seen(app)]
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, ChaptersScreen) and "97.8 %" in seen(app))
        assert not [word for word in ahead if word in seen(app)]
        assert "2  …" in seen(app) and "5  …" in seen(app), "one can go there all the same"
        await pilot.press("a")
        await until(pilot, lambda: all(word in seen(app) for word in ahead))
        await pilot.press("escape")
        app.playback.go(6)
        app.playback.go(1)
        await pilot.press("c")
        await until(pilot, lambda: "42.0 %" in seen(app))  # it was seen before
        assert "finetune" not in seen(app)


async def test_without_chapters_the_list_has_the_steps():
    app = app_on(recording=lenet_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 3)
        assert "step 3 of 10" in seen(app) and "chapter" not in seen(app).splitlines()[-2]
        await pilot.press("c")
        await until(pilot, lambda: "Steps 10" in seen(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, PlayerScreen))
        assert standing(app) == 3


# predictions


async def type_guess(app, pilot, text):
    app.playback.player.faster(100)
    await at(app, pilot, ASKED)
    await until(pilot, lambda: app.bench.card.asking and app.focused is not None and app.focused.id == "guess")
    await pilot.press(*("space" if letter == " " else letter for letter in text), "enter")


@pytest.mark.parametrize("size", SIZES)
async def test_a_prediction_is_answered_by_the_next_step(size):
    recording = taught_session()
    events = list(recording.events)
    app = app_on(recording=recording)
    async with app.run_test(size=size) as pilot:
        await type_guess(app, pilot, "92, 45")
        assert app.playback.guessed == {ASKED: (0.92, 0.45)}
        await until(pilot, lambda: standing(app) == ANSWERED)
        await until(pilot, lambda: "45.0 %   3.0 points too high" in seen(app))
        text = seen(app)
        assert text.index("45.0 %   3.0 points") < text.index("92.0 %   50.0 points too high")
        assert app.playback.player.paused
        assert text.count("█") > 20
        await pilot.press("right")
        await until(pilot, lambda: "points too high" not in seen(app))
        assert recording.events == events


@pytest.mark.parametrize("letter", ["q", "t", "T", "c", "n", "B", "?", "+", "x", "ä"])
async def test_a_letter_typed_as_an_answer_does_nothing_else(letter):
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, ASKED)
        await until(pilot, lambda: app.bench.card.asking and app.focused is not None and app.focused.id == "guess")
        await until(pilot, lambda: "esc all keys" in seen(app).splitlines()[-1])
        assert "space pause" in seen(app).splitlines()[-1] and "T take over" not in seen(app).splitlines()[-1]
        for typed in ("", "9"):
            app.focused.value = typed
            await pilot.press(letter)
            await until(pilot, lambda: "only numbers are typed here" in seen(app))
            assert app.focused.value == typed
        assert isinstance(app.screen, PlayerScreen) and standing(app) == ASKED and not app.bench.has_class("-big")
        assert not app.presenter.shown and not app._notifications and app.playback.player.speed == 1
        await pilot.press("escape", "B")
        assert app.bench.has_class("-big")  # the line was left: keys are keys again
        await until(pilot, lambda: "T take over" in seen(app).splitlines()[-1])


async def test_an_empty_answer_skips_and_the_recording_goes_on():
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await type_guess(app, pilot, "")
        await until(pilot, lambda: standing(app) > ASKED)
        assert app.playback.told is None or isinstance(app.playback.told, Note)


async def test_what_is_no_number_is_told_and_nothing_is_lost():
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await type_guess(app, pilot, "92, 120")
        await until(pilot, lambda: "accuracy is at most 100 %" in seen(app))
        assert standing(app) == ASKED
        await pilot.press("backspace", "enter")
        assert app.playback.guessed == {ASKED: (0.92, 0.12)}


@pytest.mark.parametrize(("key", "step"), [("right", ANSWERED), ("left", 3), ("space", None)])
async def test_keys_of_the_player_work_while_the_answer_is_empty(key, step):
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, ASKED)
        await until(pilot, lambda: app.bench.card.asking and app.focused is not None and app.focused.id == "guess")
        await pilot.press(key)
        if step is None:
            assert not app.playback.player.paused
        else:
            await until(pilot, lambda: standing(app) == step)


async def test_a_question_that_is_asked_again_knows_its_answer():
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await type_guess(app, pilot, "92, 45")
        await at(app, pilot, ASKED)
        await until(pilot, lambda: "92 %, 45 %" in seen(app))


# clock and figures


async def test_the_clock_is_shown_and_hidden_and_runs_through_pauses(monkeypatch):
    now = 100.0
    monkeypatch.setattr("labbench.tui.presenter.monotonic", lambda: now)
    clock = PresenterClock()
    assert clock.words == ""
    clock.shown = True
    now = 862.0
    assert clock.words.startswith("12:42 · ")
    assert clock.moved() and not clock.moved()
    now = 863.0
    assert clock.moved()
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 3)
        await pilot.press("t")
        await until(pilot, lambda: " 0:00 · " in seen(app))
        now += 7.0
        await until(pilot, lambda: " 0:07 · " in seen(app))
        await pilot.press("t")
        await until(pilot, lambda: " 0:07 · " not in seen(app))


@pytest.mark.parametrize("size", SIZES)
async def test_big_figures_leave_the_note_and_the_keys(size):
    app = app_on(recording=taught_session())
    async with app.run_test(size=size) as pilot:
        await at(app, pilot, ASKED)
        await until(pilot, lambda: app.focused is not None and app.focused.id == "guess")
        await pilot.press("escape", "B")  # whoever guesses types letters: they are keys when the line is left
        await until(pilot, lambda: "parameters not zero" in seen(app))
        text = seen(app)
        assert "98.3 → 97.8 %" in text and "431,080 → 215,830  ×2.00" in text and "3 prune all layers to 50 %" in text
        assert "What will the accuracy be?" in text and "step 4 of 8" in text
        assert text.count("█") > 100
        assert "conv1" not in text
        await pilot.press("B")
        await until(pilot, lambda: "conv1" in seen(app))


async def test_big_figures_work_at_the_bench_and_give_the_table_back():
    app = app_on(lenet_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "conv1" in seen(app))
        await pilot.press("B")
        await until(pilot, lambda: "parameters not zero" in seen(app))
        await pilot.press("B")
        await until(pilot, lambda: "conv1" in seen(app) and app.focused is app.bench.table)


# take over


def test_a_takeover_has_the_events_so_far_without_what_was_only_begun(tmp_path):
    recording = taught_session()
    ends = [n for n, (_, event) in enumerate(recording.events, 1) if isinstance(event, Finished)]
    path = take_over(recording, ends[-1] - 1, tmp_path, "a lesson")  # in the last run
    header, session, notice = read(path)
    assert path.name.startswith("a-lesson-") and not notice
    assert header.title == recording.title and header.environment == recording.environment
    assert [step.operation for step in session.steps] == [step.operation for step in recording.steps[:-1]]
    assert session.running is None and session.changes == (LOAD, Prune(amount=0.5))
    assert session.restore() == taught_session(recording.events[: ends[-2]]).restore()
    assert take_over(recording, 3, tmp_path, "a lesson") != path


async def test_the_recording_becomes_a_live_bench(tmp_path, monkeypatch):
    monkeypatch.setattr("labbench.folders.sessions", lambda: tmp_path / "sessions")
    recording = taught_session()
    app = LabbenchApp(recording=recording, session_path=tmp_path / "lesson.jsonl", command=WORKER, log=tmp_path / "log")
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, ANSWERED)
        assert app.link._client is None
        await pilot.press("T")
        await until(pilot, lambda: isinstance(app.screen, Confirm) and "after step 5" in seen(app))
        await pilot.press("y")
        await until(pilot, lambda: app.playback is None and isinstance(app.screen, BenchScreen))
        assert not isinstance(app.screen, PlayerScreen)
        await until(pilot, lambda: app.desk.worker == "ready")
        assert app.situation.playing is None and app.situation.undo
        await until(pilot, lambda: "p prune" in seen(app))
        await pilot.press("u")
        await until(pilot, lambda: len(app.desk.session.steps) == ANSWERED + 1)
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
    (path,) = (tmp_path / "sessions").iterdir()
    assert path.name.startswith("lesson-")
    session = read(path)[1]
    assert [step.operation for step in session.steps] == [
        *(step.operation for step in recording.steps[:ANSWERED]), Undo(),
    ]  # fmt: skip
    assert session.changes == (LOAD, Prune(amount=0.5))
    assert not (tmp_path / "lesson.jsonl").exists()


async def test_keep_watching_keeps_watching(tmp_path, monkeypatch):
    monkeypatch.setattr("labbench.folders.sessions", lambda: tmp_path)
    app = app_on(recording=taught_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 3)
        await pilot.press("T", "n")
        await until(pilot, lambda: isinstance(app.screen, PlayerScreen))
        app.playback.go(0)
        await pilot.press("T")
        assert any("no model was opened yet" in one.message for one in app._notifications)
        assert app.playback and not list(tmp_path.iterdir())


async def test_code_of_the_recording_is_asked_about(tmp_path, monkeypatch):
    monkeypatch.setattr("labbench.folders.sessions", lambda: tmp_path)
    own = Load(model="net.py:build", dataset="digits")
    events = list(taught_events())[:3]
    events[1:] = [(1.0, Started(operation=own)), (2.0, Finished(operation=own, snapshot=events[2][1].snapshot))]
    app = LabbenchApp(recording=taught_session(events), command=WORKER, log=tmp_path / "log")
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, 1)
        await pilot.press("T", "y")
        await until(pilot, lambda: "Import and run it" in seen(app))
        await pilot.press("n")
        await until(pilot, lambda: app.desk.worker == "unrestored" and "Import and run it" not in seen(app))


# writing notes


async def test_a_note_is_written_with_a_chapter_and_a_question():
    app = Host(NoteForm())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert all(word in seen(app) for word in ("chapter", "question", "● accuracy", "○ macs", "Save"))
        await pilot.press("a", "tab", "b", "tab", "c", "tab", "right", "ctrl+o")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Note(text="a", chapter="b", ask="c", figure="sparsity")


async def test_a_note_without_a_question_has_no_figure_of_its_own():
    app = Host(NoteForm())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("a", "tab", "tab", "tab", "right", "ctrl+o")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Note(text="a")
