"""A worker that says nothing: told from one that computes, and ended however it hangs."""

import asyncio
import io
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from labbench import client as client_module
from labbench import worker as worker_module
from labbench.bench.states.checkpoints import Cache
from labbench.bench.timeline import Timeline
from labbench.client import Client, Silence
from labbench.session.events import Died, Metric, Ready, Stop
from labbench.session.jsonl import decode_event, encode
from labbench.session.operations import Note
from labbench.worker import Worker

WORD = Metric(name="train/loss", x=1.0, y=1.0)
SAY = f"print({encode(WORD).decode().strip()!r}, flush=True)"

Start = Callable[[str], Awaitable[Client]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts workers that are impatiently waited for."""
    for name, seconds in {"LOOK": 0.02, "SILENT": 0.1, "TERM_AFTER": 0.1, "KILL_AFTER": 0.2, "HEARS": 0.1}.items():
        monkeypatch.setattr(client_module, name, seconds)
    started: list[Client] = []

    async def begin(program: str) -> Client:
        started.append(await Client.start([sys.executable, "-c", program], tmp_path / "log"))
        return started[-1]

    yield begin
    for client in started:
        await client.close()


async def test_silence_after_a_sign_of_life_is_told_until_the_worker_is_heard_again(start: Start) -> None:
    client = await start(f"print(flush=True); input(); {SAY}; input()")
    events = client.events()
    first, second = await anext(events), await anext(events)
    assert isinstance(first, Silence) and isinstance(second, Silence)
    assert not first.told and second.told and 0.1 <= first.seconds < second.seconds
    await client.send(Stop())
    heard = [event async for event in _until(events, WORD) if not isinstance(event, Silence) or not event.seconds]
    assert heard == [Silence(seconds=0.0), WORD]


async def test_a_worker_that_gives_no_signs_of_life_may_be_silent(start: Start) -> None:
    client = await start(f"{SAY}; input(); {SAY}; input()")
    events = client.events()
    assert await anext(events) == WORD
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await client.send(Stop())
    assert await waiting == WORD


async def test_the_first_word_is_waited_for_longer(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LATE", 0.3)
    client = await start("input()")
    silence = await anext(client.events())
    assert isinstance(silence, Silence) and silence.seconds >= 0.3


async def test_a_worker_that_the_user_ends_says_why_it_died(start: Start) -> None:
    client = await start("print(flush=True); input()")
    client.kill()
    *_, died = [event async for event in client.events()]
    assert died == Died(error="the worker did not answer and was ended")


async def test_a_worker_that_reads_nothing_is_ended_all_the_same(start: Start) -> None:
    client = await start("import time; time.sleep(60)")
    sending = asyncio.ensure_future(client.send(Note(text="x" * 2**20)))
    await asyncio.sleep(0)
    await client.close()
    assert not client.alive
    await sending


async def test_without_a_log_a_worker_starts_and_its_last_words_are_heard(start: Start) -> None:
    client = await Client.start([sys.executable, "-c", "raise SystemExit('too bad')"], Path("/dev/null/log"))
    (died,) = [event async for event in client.events()]
    assert died == Died(error="the worker ended with exit code 1: too bad")
    await client.close()


def test_the_real_worker_gives_signs_of_life_once_it_is_ready(tmp_path: Path) -> None:
    command = client_module.worker_command(tmp_path, tmp_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert isinstance(decode_event(process.stdout.readline()), Ready)
        assert process.stdout.readline() == b"\n"
        process.communicate(timeout=120)
    assert process.returncode == 0


def test_a_worker_that_computes_gives_signs_of_life_that_break_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "BEAT", 0.0005)
    sink = io.BytesIO()
    worker = Worker(io.BufferedWriter(sink), tmp_path, Timeline(Cache(tmp_path, 0)))  # type: ignore[arg-type]
    alive = threading.Thread(target=worker.beat)
    alive.start()
    end, said = time.monotonic() + 0.3, 0
    while time.monotonic() < end:  # the main thread is busy
        worker.emit(Metric(name="x" * (said % 20_000), x=1.0, y=1.0))
        said += 1
    worker.over.set()
    alive.join()
    lines = sink.getvalue().splitlines()
    assert lines.count(b"") > 10
    assert [type(decode_event(line)) for line in lines if line] == [Metric] * said


async def _until(events: AsyncIterator[object], last: object) -> AsyncIterator[object]:
    async for event in events:
        yield event
        if event == last:
            return
