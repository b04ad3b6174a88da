"""The start: the worker before the screen, one worker only, nothing left over where the app cannot begin."""

import gc
import os
import sys
import time
from pathlib import Path

import fake_worker
import pytest
from hosting import until

from labbench.session.events import Died, Ready
from labbench.session.jsonl import BadFile
from labbench.tui import start
from labbench.tui.app import LabbenchApp
from labbench.tui.link import Link

WORKER = [sys.executable, str(Path(fake_worker.__file__))]


async def test_a_worker_that_was_begun_is_the_one_that_is_heard(tmp_path):
    link = Link(WORKER, tmp_path / "log")
    await link.begin()
    pid = link._client.pid
    async for event in link.events():
        assert isinstance(event, Ready)
        assert link._client.pid == pid
        await link.close()


async def test_a_worker_that_cannot_be_begun_is_told_to_whoever_listens(tmp_path):
    link = Link(["/no/such/program"], tmp_path / "log")
    await link.begin()
    assert [type(event) async for event in link.events()] == [Died]


async def test_the_app_takes_over_a_worker_that_was_begun(tmp_path):
    link = Link(WORKER, tmp_path / "log")
    await link.begin()
    pid = link._client.pid
    app = LabbenchApp(link=link, log=tmp_path / "log")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.desk.worker == "ready")
        assert link._client.pid == pid
    assert not link._client.alive


def test_where_the_app_cannot_begin_its_worker_ends_at_once(tmp_path, monkeypatch):
    started = []

    class Kept(Link):
        async def begin(self):
            await super().begin()
            started.append(self._client.pid)

    busy = [sys.executable, "-c", "import time; time.sleep(60)"]  # as a worker that imports torch
    monkeypatch.setattr(start, "worker_command", lambda _: busy)
    monkeypatch.setattr(start, "Link", Kept)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("no session\n")
    began = time.monotonic()
    try:
        with pytest.raises(BadFile, match="line 1"):
            start.main(session_path=broken)
    finally:
        gc.enable()
    assert time.monotonic() - began < 1.5
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


async def test_with_the_first_picture_garbage_is_collected_again(tmp_path):
    gc.disable()
    try:
        app = LabbenchApp(command=WORKER, log=tmp_path / "log")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.desk.worker == "ready")
            assert gc.isenabled()
            assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()
