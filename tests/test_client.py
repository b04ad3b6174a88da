"""The two ends that a front end can hold: a worker that may misbehave, and a recording that plays."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from labbench import client as client_module
from labbench.client import Client, Player
from labbench.session.events import AnyEvent, Died, Failed, Finished, Metric, Progress, Ready, Started, Stop
from labbench.session.operations import AnyOperation, Evaluate, Finetune, Load, Note, Prune
from labbench.session.session import Session

FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
LOAD = Load(model="lenet-5", dataset="digits")

Start = Callable[..., Awaitable[tuple[Client, AsyncIterator[AnyEvent]]]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts workers, and ends those that a test leaves."""
    started: list[Client] = []

    async def begin(command: list[str] = FAKE) -> tuple[Client, AsyncIterator[AnyEvent]]:
        client = await Client.start(command, tmp_path / "labbench.log")
        started.append(client)
        return client, client.events()

    yield begin
    for client in started:
        if client.alive:
            os.kill(client.pid, signal.SIGKILL)
        await client.close()


async def until(events: AsyncIterator[AnyEvent], *kinds: type[AnyEvent]) -> list[AnyEvent]:
    """The events up to the first of these kinds."""
    found = []
    async with asyncio.timeout(30):
        async for event in events:
            found.append(event)
            if isinstance(event, kinds):
                break
    return found


async def rest(events: AsyncIterator[AnyEvent]) -> list[AnyEvent]:
    async with asyncio.timeout(30):
        return [event async for event in events]


async def test_an_operation_is_answered(start: Start) -> None:
    client, events = await start()
    assert isinstance((await until(events, Ready))[-1], Ready)
    await client.send(LOAD)
    begun, done = await until(events, Finished)
    assert begun == Started(operation=LOAD)
    assert isinstance(done, Finished) and done.operation == LOAD


async def test_a_line_that_cannot_be_read_is_a_failure_and_the_worker_goes_on(start: Start) -> None:
    client, events = await start()
    await until(events, Ready)
    await client.send(Note(text="garbage"))
    (failed,) = await until(events, Failed)
    assert isinstance(failed, Failed) and failed.bug and "cannot be read" in failed.error
    await client.send(LOAD)
    assert isinstance((await until(events, Finished))[-1], Finished)


async def test_a_line_without_end_is_a_failure(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LINE_LIMIT", 2000)
    _, events = await start([sys.executable, "-c", "print('x' * 100_000)"])
    found = await until(events, Died)
    assert isinstance(found[0], Failed) and "cannot be read" in found[0].error


async def test_a_worker_that_ends_by_itself_leaves_its_last_words(start: Start) -> None:
    client, events = await start()
    await until(events, Ready)
    await client.send(Note(text="die"))
    (died,) = await rest(events)
    assert isinstance(died, Died)
    assert "ended with exit code 7: out of memory" in died.error and "labbench.log" in died.error
    assert not client.alive


async def test_only_the_words_of_this_worker_are_quoted(start: Start, tmp_path: Path) -> None:
    (tmp_path / "labbench.log").write_text("yesterday's trouble\n", encoding="utf-8")
    _, events = await start([sys.executable, "-c", "raise SystemExit('today')"])
    (died,) = await rest(events)
    assert isinstance(died, Died) and "today" in died.error and "yesterday" not in died.error


async def test_a_killed_worker_is_reported_by_its_signal(start: Start) -> None:
    client, events = await start()
    await until(events, Ready)
    os.kill(client.pid, signal.SIGKILL)
    (died,) = await rest(events)
    assert isinstance(died, Died) and "was ended by SIGKILL" in died.error


async def test_what_is_sent_to_a_dead_worker_is_lost_without_noise(start: Start) -> None:
    client, events = await start()
    await until(events, Ready)
    os.kill(client.pid, signal.SIGKILL)
    await rest(events)
    for _ in range(3):
        await client.send(Note(text="x" * 100_000))


async def test_a_worker_that_cannot_be_started_is_an_os_error(start: Start) -> None:
    with pytest.raises(OSError, match="nowhere"):
        await start(["/nowhere/python"])


async def test_a_worker_stands_back_where_that_is_weighed_and_hears_no_ctrl_c(start: Start) -> None:
    client, _ = await start([sys.executable, "-c", "input()"])
    assert os.getpriority(os.PRIO_PROCESS, client.pid) >= 10
    assert os.getsid(client.pid) == os.getsid(0)  # niceness counts only within a session
    assert os.getpgid(client.pid) != os.getpgid(0)  # ctrl+c goes to the front end's group


async def test_stop_ends_a_run_that_keeps_what_was_learned(start: Start) -> None:
    client, events = await start()
    await until(events, Ready)
    await client.send(LOAD)
    await until(events, Finished)
    await client.send(Finetune(seed=13))
    await until(events, Progress)
    await client.send(Stop())
    assert isinstance((await until(events, Finished))[-1], Finished)


async def test_close_ends_an_idle_worker_without_a_death(start: Start) -> None:
    client, events = await start()
    await until(events, Ready)
    await client.close()
    assert await rest(events) == []
    assert not client.alive


async def test_close_ends_a_worker_that_hangs_and_ignores_sigterm(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client_module.KILL_AFTER < 5  # the promise; shortened here
    monkeypatch.setattr(client_module, "TERM_AFTER", 0.1)
    monkeypatch.setattr(client_module, "KILL_AFTER", 0.2)
    client, events = await start()
    await until(events, Ready)
    await client.send(Note(text="hang"))
    await until(events, Progress)
    await client.close()
    assert not client.alive
    assert await rest(events) == []


def recording() -> Session:
    session = Session("a lesson")
    finetune = Finetune(epochs=2)
    for seconds, event in (
        (1.0, Started(operation=LOAD)),
        (100.0, Finished(operation=LOAD)),
        (101.0, Started(operation=finetune)),
        (102.0, Metric(name="train/loss", x=1.0, y=2.0)),
        (103.0, Metric(name="train/loss", x=2.0, y=1.0)),
        (104.0, Finished(operation=finetune)),
        (105.0, Finished(operation=Note(text="read me"))),
        (106.0, Failed(error="no such layer: nope", operation=Prune(layers=("nope",)))),
        (107.0, Finished(operation=Evaluate())),
    ):
        session.append(seconds, event)
    return session


def operations(events: list[AnyEvent] | object) -> list[AnyOperation]:
    assert isinstance(events, list)
    return [event.operation for event in events if isinstance(event, Finished)]


async def play(player: Player, count: int) -> list[AnyEvent]:
    found: list[AnyEvent] = []
    async with asyncio.timeout(30):
        async for event in player.events():
            found.append(event)
            if len(found) == count:
                break
    return found


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> Player:
    monkeypatch.setattr(Player, "LONGEST_WAIT", 0.001)
    player = Player(recording())
    player.pausing = False
    return player


async def test_a_recording_plays_all_its_events_in_order(player: Player) -> None:
    assert await play(player, 9) == [event for _, event in player.recording.events]
    assert player.ended


async def test_a_paused_player_gives_nothing_until_it_goes_on(player: Player) -> None:
    assert player.toggle()
    playing = asyncio.ensure_future(play(player, 1))
    for _ in range(20):
        await asyncio.sleep(0)
    assert player.position == 0 and not playing.done()
    assert not player.toggle()
    assert len(await playing) == 1


def test_step_gives_everything_to_the_end_of_the_next_operation_and_pauses(player: Player) -> None:
    assert operations(list(player.step())) == [LOAD]
    assert player.paused
    assert [type(event) for event in player.step()] == [Started, Metric, Metric, Finished]
    assert [type(event) for event in player.step()] == [Finished]
    assert [type(event) for event in player.step()] == [Failed]
    assert [type(event) for event in player.step()] == [Finished]
    assert player.ended
    assert player.step() == []


async def test_playing_goes_on_behind_a_step(player: Player) -> None:
    player.step()
    player.toggle()
    assert await play(player, 7) == [event for _, event in player.recording.events[2:]]


def test_back_goes_to_before_the_last_operation(player: Player) -> None:
    player.step()
    player.step()
    session = player.back()
    assert [step.operation for step in session.steps] == [LOAD]
    assert player.position == 2
    assert session.curves == {}
    assert player.back().steps == []
    assert player.back().steps == []
    assert player.position == 0
    assert operations(list(player.step())) == [LOAD]


async def test_back_in_the_middle_of_an_operation_goes_to_its_beginning(player: Player) -> None:
    await play(player, 4)
    session = player.back()
    assert [step.operation for step in session.steps] == [LOAD]
    assert player.position == 2


def test_speed_goes_up_and_down_within_its_limits(player: Player) -> None:
    assert player.faster() == 2.0
    assert player.faster(-1) == 1.0
    assert player.faster(100) == Player.SPEEDS[-1]
    assert player.faster(-100) == Player.SPEEDS[0]


def test_a_long_pause_of_the_recording_is_cut_short_and_a_note_stays_to_be_read() -> None:
    player = Player(recording())
    player.pausing = False
    assert player._wait() == 0.0
    player.position = 1
    assert player._wait() == Player.LONGEST_WAIT
    player.position = 3
    assert player._wait() == 1.0
    player.faster()
    assert player._wait() == 0.5
    player.position = 7
    assert player._wait() == Player.LONGEST_WAIT / 2


async def test_a_player_pauses_where_a_note_was_given(player: Player) -> None:
    player.pausing = True
    events = await play(player, 7)
    assert operations(events)[-1] == Note(text="read me")
    assert player.paused
    player.toggle()
    assert len(await play(player, 2)) == 2
    assert not player.paused


def test_a_player_goes_to_any_step_in_both_directions(player: Player) -> None:
    assert [step.operation for step in player.go(3).steps] == [LOAD, Finetune(epochs=2), Note(text="read me")]
    assert player.paused and player.position == 7
    assert [step.operation for step in player.go(1).steps] == [LOAD]
    assert player.go(0).steps == [] and player.position == 0
    assert len(player.go(99).steps) == 4 and player.ended
    assert len(player.go(-1).steps) == 0
