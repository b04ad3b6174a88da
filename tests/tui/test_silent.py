"""A worker that hangs under the app: it is said, it can be ended, and what quitting says is so."""

import sys
from pathlib import Path

import fake_worker
import pytest
from hosting import seen, until
from stub import app_on, settled

from labbench import client, folders
from labbench.client import Silence
from labbench.session.events import Closed, Died, Restored
from labbench.session.jsonl import read
from labbench.session.operations import Finetune, Load
from labbench.tui.app import LabbenchApp
from labbench.tui.record import Record
from labbench.tui.screens.confirm import Confirm
from labbench.tui.sources import cut_off

WORKER = [sys.executable, str(Path(fake_worker.__file__))]
LOAD = Load(model="lenet-5", dataset="digits")
RUN = Finetune(epochs=3)
HANGS = Finetune(epochs=3, seed=14)


def quick(monkeypatch):
    for name, seconds in {"LOOK": 0.05, "SILENT": 0.2, "TERM_AFTER": 0.3, "KILL_AFTER": 0.5}.items():
        monkeypatch.setattr(client, name, seconds)


def bench(tmp_path):
    return LabbenchApp(load=LOAD, command=WORKER, log=tmp_path / "log")


async def hanging(app, pilot):
    await until(pilot, lambda: "conv1" in seen(app))
    app.desk.perform(HANGS)
    await until(pilot, lambda: "does not answer" in seen(app))


def events_of(path):
    return [event for _, event in read(path)[1].events]


async def test_a_worker_that_hangs_is_said_and_K_starts_another_that_is_offered_what_ran(tmp_path, monkeypatch):
    quick(monkeypatch)
    app = bench(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await hanging(app, pilot)
        assert "s stops, K ends it" in seen(app)
        assert "K end the worker" in seen(app).splitlines()[-1]
        for times in (1, 2):  # twice within a moment, too: it did not die by itself
            pid = app.link._client.pid
            await pilot.press("K")
            await until(pilot, lambda: isinstance(app.screen, Confirm) and app.screen.is_mounted)
            assert app.link._client.pid != pid and not app.desk.silent
            assert "was interrupted in epoch 1. Go on?" in " ".join(seen(app).replace("│", "").split())
            await pilot.press("enter" if times == 1 else "n")
            if times == 1:
                await until(pilot, lambda: app.desk.silent)
        assert app.desk.session.changes == (LOAD,)
        died = [event for event in events_of(app.desk.record.path) if isinstance(event, Died | Restored)]
        assert [type(event) for event in died] == [Died, Restored] * 2
        assert died[0].error == "the worker did not answer and was ended"


async def test_quitting_over_a_worker_that_hangs_says_and_leaves_that_it_goes_on_at_the_next_start(
    tmp_path, monkeypatch
):
    quick(monkeypatch)
    app = bench(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await hanging(app, pilot)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Confirm) and app.screen.is_mounted)
        said = " ".join(seen(app).replace("│", "").split())
        assert "the worker does not answer. End it and quit? The next start offers to go on with finetune." in said
        await pilot.press("y")
        await until(pilot, lambda: not app.is_running)
    path = app.desk.record.path
    assert isinstance(events_of(path)[-1], Died)
    assert "finetune 3 epochs" in cut_off(folders.sessions()).question
    assert app.farewell.startswith("finetune 3 epochs")
    assert app.farewell.endswith(f"was interrupted in epoch 1; go on with: labbench {path}")


async def test_what_is_stopped_in_time_is_closed_in_order_and_the_farewell_says_how_to_go_on(tmp_path, monkeypatch):
    app = bench(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "conv1" in seen(app))
        app.desk.perform(Finetune(epochs=3, seed=13))  # runs until it is stopped
        await until(pilot, lambda: app.desk.session.progress)
        app.end(143)
        await until(pilot, lambda: not app.is_running)
    path = app.desk.record.path
    assert app.return_code == 143
    assert app.farewell == f"go on with: labbench {path}"
    assert isinstance(events_of(path)[-1], Closed)
    assert read(path)[1].changes == (LOAD, Finetune(epochs=3, seed=13))


async def test_a_signal_before_the_first_picture_ends_the_app_too(tmp_path):
    app = bench(tmp_path)
    app.end(129)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 129
    assert app.farewell == ""


async def test_the_farewell_names_no_file_that_is_not_there_or_not_ones_own(tmp_path):
    path = tmp_path / "a lesson.jsonl"
    assert app_on(session_path=path).farewell == ""
    record = Record(path)
    record.held = "another"
    app = app_on(session_path=path)
    path.write_text("")
    app.desk.record = record
    assert app.farewell == ""
    record.held = ""
    assert app.farewell == f"go on with: labbench '{path}'"
    record.broken = True
    lost = "not all of the session is in its file, which could not be written"
    assert app.farewell == f"{lost}; go on with: labbench '{path}'"


async def test_K_is_for_a_worker_that_does_not_answer_or_stop():
    app = app_on()
    killed = []
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        app.link.kill = lambda: killed.append(True)
        await pilot.press("escape", "escape")
        app.do("end_worker")
        assert not killed
        app.link.hear(Silence(seconds=16.0))
        await until(pilot, lambda: "silent for 0:16; K ends it" in seen(app))
        app.do("end_worker")
        assert killed == [True]
        app.link.hear(Silence(seconds=0.0))
        await until(pilot, lambda: "does not answer" not in seen(app))
        app.do("end_worker")
        assert killed == [True]
        app.desk._pending = RUN
        app.do("stop")
        app.do("end_worker")
        assert killed == [True, True]


@pytest.mark.parametrize("silent", [0.0, 20.0])
def test_a_stop_promises_only_what_it_can(silent):
    said = []
    app = app_on()
    app.desk._say = lambda sentence, severity: said.append(sentence)
    app.desk._send = lambda request: None
    app.desk.worker, app.desk._pending, app.desk.silent = "ready", RUN, silent
    app.desk.stop()
    assert said == [
        "stopping finetune, once the worker answers" if silent else "stopping finetune: what was learned is kept"
    ]
