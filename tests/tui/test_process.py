"""The app at a worker process: what happens is in the file, a killed worker is replaced, quitting ends it."""

import os
import sys
import time
from pathlib import Path

import fake_worker
from hosting import seen, until

from labbench.session.events import Died, Restored
from labbench.session.jsonl import read
from labbench.session.operations import Finetune, Load, Note
from labbench.tui.app import LabbenchApp

WORKER = [sys.executable, str(Path(fake_worker.__file__))]
LOAD = Load(model="lenet-5", dataset="digits")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_session_survives_its_worker_and_goes_on_later(tmp_path):
    path = tmp_path / "lesson.jsonl"
    app = LabbenchApp(session_path=path, load=LOAD, command=WORKER, log=tmp_path / "log")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "conv1" in seen(app))
        app.desk.perform(Finetune(epochs=3))
        await until(pilot, lambda: len(app.desk.session.steps) == 2)
        app.desk.perform(Note(text="killed"))
        await until(pilot, lambda: any(isinstance(event, Restored) for _, event in app.desk.session.events))
        assert app.desk.worker == "ready"
        await pilot.press("u")
        await until(pilot, lambda: len(app.desk.session.steps) == 3)
        pid = app.link._client.pid
        began = time.monotonic()
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
        assert time.monotonic() - began < 5
        assert not alive(pid)
    _, session, notice = read(path)
    assert not notice
    assert session.changes == (LOAD,)
    assert session.redoable == (Finetune(epochs=3),)
    assert [type(event) for _, event in session.events].count(Died) == 1

    again = LabbenchApp(session_path=path, command=WORKER, log=tmp_path / "log")
    async with again.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: again.desk.worker == "ready")
        await pilot.press("U")
        await until(pilot, lambda: len(again.desk.session.steps) == 4)
    assert read(path)[1].changes == (LOAD, Finetune(epochs=3))


async def test_quitting_a_run_keeps_what_the_worker_says_last(tmp_path):
    path = tmp_path / "lesson.jsonl"
    app = LabbenchApp(session_path=path, load=LOAD, command=WORKER, log=tmp_path / "log")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "conv1" in seen(app))
        app.desk.perform(Finetune(epochs=3, seed=13))  # runs until it is stopped
        await until(pilot, lambda: app.desk.session.progress)
        await pilot.press("ctrl+c", "ctrl+c")
        await until(pilot, lambda: not app.is_running)
    assert read(path)[1].changes == (LOAD, Finetune(epochs=3, seed=13))


async def test_a_session_that_names_code_asks_and_no_is_the_answer_of_enter(tmp_path):
    path = tmp_path / "lesson.jsonl"
    own = Load(model="net.py:build", dataset="digits")
    app = LabbenchApp(session_path=path, load=own, command=WORKER, log=tmp_path / "log")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "conv1" in seen(app))
    again = LabbenchApp(session_path=path, command=WORKER, log=tmp_path / "log")
    async with again.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Import and run it" in seen(again))
        await pilot.press("enter")
        await until(pilot, lambda: "Import and run it" not in seen(again))
        assert again.desk.worker == "unrestored"
        assert "conv1" in seen(again)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "Import and run it" in seen(again))
        await pilot.press("y")
        await until(pilot, lambda: again.desk.worker == "ready")
