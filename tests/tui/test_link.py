"""The line to a real process: one that dies is started again, once."""

import sys
from pathlib import Path

import fake_worker

from labbench.session.events import Died, Ready
from labbench.session.operations import Note
from labbench.tui.link import Link

WORKER = [sys.executable, str(Path(fake_worker.__file__))]


async def test_a_worker_that_dies_is_started_again_once(tmp_path):
    link = Link(WORKER, tmp_path / "log")
    heard = []
    async for event in link.events():
        heard.append(type(event))
        if isinstance(event, Ready):
            await link.send(Note(text="killed"))
    assert heard == [Ready, Died, Ready, Died]
    assert link.gone


async def test_a_worker_that_cannot_be_started_is_told(tmp_path):
    link = Link(["/no/such/program"], tmp_path / "log")
    events = [event async for event in link.events()]
    assert [type(event) for event in events] == [Died]
    assert "cannot be started" in events[0].error
    assert link.gone


async def test_closing_ends_the_events_without_a_death(tmp_path):
    link = Link(WORKER, tmp_path / "log")
    heard = []
    async for event in link.events():
        heard.append(type(event))
        await link.close()
    assert heard == [Ready]
    assert not link.gone
