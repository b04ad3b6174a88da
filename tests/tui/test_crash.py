"""What breaks: one sentence and a log; and what only seems to, because it is being closed."""

import asyncio
import random
import sys
import time
from pathlib import Path

import fake_worker
import pytest
from bench_data import NORM
from textual.css.query import NoMatches
from textual.widgets import Static

from labbench.tui.app import LabbenchApp
from labbench.tui.fields import Field

WORKER = [sys.executable, str(Path(fake_worker.__file__))]


class Late(Static):
    """Looks for something when it is mounted."""

    def on_mount(self):
        self.query_one("#nothing-is-called-so")


async def test_an_error_ends_the_app_with_one_sentence_and_a_log(tmp_path, capsys):
    app = LabbenchApp(command=WORKER, log=tmp_path / "log")
    with pytest.raises(NoMatches):
        async with app.run_test(size=(80, 24)):
            app.screen.mount(Late())
            await asyncio.sleep(0.5)
    assert app.return_code == 1
    sentence = " ".join(capsys.readouterr().err.split())
    assert sentence.startswith("labbench broke: NoMatches: No nodes match '#nothing-is-called-so' on Late()")
    assert sentence.endswith(f"(traceback in {tmp_path / 'log'}; the session file has everything up to here)")
    assert "Traceback (most recent call last)" in (tmp_path / "log").read_text()


async def test_what_goes_before_it_was_there_breaks_nothing(tmp_path):
    app = LabbenchApp(command=WORKER, log=tmp_path / "log")
    async with app.run_test(size=(80, 24)):
        for widget in (Late(), Field(NORM)):
            app.screen.mount(widget)
            widget.remove()
        await asyncio.sleep(0.5)
        assert app.is_running
    assert not app.return_code
    log = (tmp_path / "log").read_text()
    assert "on Late()" in log, "else this test tests nothing"
    assert "on Field" not in log


async def test_an_app_can_be_ended_at_any_moment_of_its_start(tmp_path):
    chance = random.Random(0)
    for _ in range(8):
        app = LabbenchApp(command=WORKER, log=tmp_path / "log")
        end = chance.uniform(0, 0.3)
        async with app.run_test(size=(80, 24)):
            began = time.monotonic()
            while time.monotonic() - began < end:
                await asyncio.sleep(0.001)
        assert not app.return_code
