"""A front end's end of the pipe. `Client` talks to a worker process, `Player` reads a recording; both give events."""

import asyncio
import contextlib
import math
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO

from msgspec import Struct

from labbench import folders
from labbench.priority import stand_back
from labbench.session.events import AnyEvent, AnyRequest, Died, Failed, Finished, Stop
from labbench.session.jsonl import decode_event, encode
from labbench.session.operations import Note
from labbench.session.session import Session
from labbench.session.writing import privately

LINE_LIMIT = 64 * 2**20  # bytes of one event: a snapshot of 1,000 layers and 100 classes is under 1 MB
TERM_AFTER, KILL_AFTER = 2.0, 4.5  # seconds after which a worker that was told to end is told louder; 5 is the promise
HEARS = 0.3  # seconds in which whoever reads its requests has taken one
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Waiting threads sleep instead of spinning: on 2 cores ResNet-20 trained 10 % slower alone, and more than 9 times
faster beside one busy program."""
LAST_WORDS = 4  # lines of its log that explain a worker's death
LOOK = 1.0  # seconds between two looks whether the worker has said anything
SILENT = 15.0  # seconds without a word after which it does not answer; the blank lines it is alive with are 2 apart
LATE = 60.0  # seconds until its first word: torch may have to be read from a slow disk


class Silence(Struct, frozen=True):
    """The worker, which tells every other second that it is alive, does not: it was stopped, or hangs as a whole. Said
    again and again while it lasts. No event of the bench, and never recorded."""

    seconds: float
    """So far; 0: it is heard again."""
    told: bool = False
    """Whether this silence was told before."""


def _opened(log: Path) -> IO[bytes]:
    """The log, or, where it cannot be written, a file without a name: a worker's last words are heard all the same."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return open(log, "a+b", opener=privately)
    except OSError:
        pass
    try:
        return tempfile.TemporaryFile()
    except OSError:  # nothing can be written anywhere
        return Path(os.devnull).open("r+b")


def worker_command(data_dir: Path | None = None, checkpoints: Path | None = None) -> list[str]:
    """The command that starts a worker with these folders, or the platform's own."""
    return [
        sys.executable,
        "-P",  # nothing in the folder where labbench is started is imported unless somebody asks for it
        "-m",
        "labbench.worker",
        "--alive",
        "--data-dir",
        str(data_dir or folders.data()),
        "--checkpoints",
        str(checkpoints or folders.checkpoints()),
    ]


class Client:
    """A worker process and the two pipes to it. Its stderr goes to the log file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, words: IO[bytes]) -> None:
        self._process = process
        self._log = log
        self._words = words
        self._log_start = words.tell()
        self._closing = False
        self.ended = False
        """Whether the user ended it."""

    @classmethod
    async def start(cls, command: Sequence[str] | None = None, log: Path | None = None) -> "Client":
        """Start a worker. Raises `OSError` where the command cannot be run."""
        log = log or folders.log()
        words = _opened(log)
        try:
            process = await asyncio.create_subprocess_exec(
                *(command or worker_command()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=words,
                limit=LINE_LIMIT,
                env={**PATIENT, **os.environ},
                process_group=0,  # ctrl+c in the terminal is the front end's to handle
            )
        except BaseException:
            words.close()
            raise
        stand_back(process.pid)  # at once: importing torch keeps a core busy for seconds
        return cls(process, log, words)

    @property
    def pid(self) -> int:
        """The process number of the worker."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the worker still runs."""
        return self._process.returncode is None

    async def send(self, request: AnyRequest) -> None:
        """Send one request. To a dead worker it is lost: `events` has said `Died`."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            stdin.write(encode(request))
            await stdin.drain()

    async def events(self) -> AsyncIterator[AnyEvent | Silence]:
        """Every event of the worker, and its silence. Ends after `close`, or with `Died` if the worker ended by itself.

        A worker that never said a blank line is not expected to: it may be silent for as long as it likes.
        """
        stdout = self._process.stdout
        assert stdout is not None
        silent, limit, told = 0.0, LATE, False
        while True:
            event: AnyEvent
            try:
                async with asyncio.timeout(LOOK):
                    line = await stdout.readline()
                if not line:
                    break
                if told:
                    yield Silence(seconds=0.0)
                silent, told = 0.0, False
                if line.isspace():
                    limit = SILENT
                    continue
                limit = math.inf if limit == LATE else limit
                event = decode_event(line)
            except TimeoutError:  # counted, not timed: while this program was suspended, nobody listened
                silent += LOOK
                if silent >= limit and not self._closing:
                    yield Silence(seconds=silent, told=told)
                    told = True
                continue
            except ValueError as error:  # no event, or a line beyond the limit
                event = Failed(error=f"the worker said what cannot be read: {error}", bug=True)
            yield event
        code = await self._process.wait()
        if not self._closing:
            yield Died(error=self._obituary(code))

    async def close(self, patience: float = TERM_AFTER) -> None:
        """End the worker: at once when idle, within 5 s in any case. It is asked, and told after `patience` seconds."""
        self._closing = True
        await self._ask_to_end()
        for seconds, number in ((patience, signal.SIGTERM), (KILL_AFTER - patience, signal.SIGKILL)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), seconds)
            self._signal(number)
        await self._process.wait()
        self._words.close()

    def kill(self) -> None:
        """End the worker without asking it, because the user says so: it does not answer. `events` says `Died`."""
        self.ended = True
        self._signal(signal.SIGKILL)

    def suspend(self) -> None:
        """Let the worker stand still, as the program does that ctrl+z suspends."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let a worker that stands still go on."""
        self._signal(signal.SIGCONT)

    async def _ask_to_end(self) -> None:
        """Say stop, and that nothing follows. One that reads nothing any more is not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARS):
                await self.send(Stop())
        if self._process.stdin:
            self._process.stdin.close()

    def _signal(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _obituary(self, code: int) -> str:
        if self.ended:
            return "the worker did not answer and was ended"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._words.seek(self._log_start)
        lines = [line for line in self._words.read().decode(errors="replace").splitlines() if line.strip()]
        words = f": {' / '.join(lines[-LAST_WORDS:])}" if lines and code > 0 else ""
        return f"the worker {how}{words}" + (f" (log: {self._log})" if self._log.exists() else "")


class Player:
    """A worker that reads a file: gives the events of a recording at their time, with pause, step and speed."""

    SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    LONGEST_WAIT = 3.0  # seconds at speed 1: nobody watches a user think

    def __init__(self, recording: Session) -> None:
        self.recording = recording
        self.position = 0
        """How many events were given."""
        self.paused = False
        self.pausing = True
        """Whether to pause where a note was given."""
        self.speed = 1.0
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether all was played."""
        return self.position >= len(self.recording.events)

    async def events(self) -> AsyncIterator[AnyEvent]:
        """The events from the position on, each when it is due; waits while paused. Ends only when it is closed."""
        while True:
            self._changed.clear()
            if self.paused or self.ended:
                await self._changed.wait()
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._wait())
            if self._changed.is_set():
                continue  # pause, step or speed: look again
            self.position += 1
            event = self.recording.events[self.position - 1][1]
            self.paused = self.pausing and _is_note(event)
            yield event

    def pause(self) -> None:
        """Stand still."""
        self.paused = True
        self._changed.set()

    def toggle(self) -> bool:
        """Pause or go on; returns whether it is paused now."""
        self.paused = not self.paused
        self._changed.set()
        return self.paused

    def faster(self, steps: int = 1) -> float:
        """Go up (or, negative, down) the speeds; returns the speed now."""
        place = self.SPEEDS.index(self.speed) + steps
        self.speed = self.SPEEDS[min(max(place, 0), len(self.SPEEDS) - 1)]
        self._changed.set()
        return self.speed

    def step(self) -> Sequence[AnyEvent]:
        """Pause, and give at once every event up to the end of the next operation."""
        self.paused = True
        start = self.position
        while not self.ended:
            self.position += 1
            if isinstance(self.recording.events[self.position - 1][1], Finished | Failed):
                break
        self._changed.set()
        return [event for _, event in self.recording.events[start : self.position]]

    def back(self) -> Session:
        """Pause, and go back to before the last finished operation; returns the session as it was then."""
        ends = [0] + [
            number
            for number, (_, event) in enumerate(self.recording.events[: self.position], 1)
            if isinstance(event, Finished | Failed)
        ]
        last = ends.pop()
        return self.stand(last if last < self.position or not ends else ends[-1])

    def go(self, step: int) -> Session:
        """Pause at the end of a finished operation by its number, 0 for the beginning; returns the session then."""
        ends = [number for number, (_, event) in enumerate(self.recording.events, 1) if isinstance(event, Finished)]
        return self.stand([0, *ends][min(max(step, 0), len(ends))])

    def stand(self, position: int) -> Session:
        """Pause after so many events; returns the session as it was then."""
        self.position = position
        self.pause()
        session = Session(self.recording.title)
        for seconds, event in self.recording.events[:position]:
            session.append(seconds, event)
        return session

    def _wait(self) -> float:
        before = self.recording.events[self.position - 1] if self.position else None
        seconds, _ = self.recording.events[self.position]
        gap = min(seconds - before[0], self.LONGEST_WAIT) if before else 0.0
        if before and _is_note(before[1]) and not self.pausing:
            gap = max(gap, self.LONGEST_WAIT)  # time to read
        return max(gap, 0.0) / self.speed


def _is_note(event: AnyEvent) -> bool:
    return isinstance(event, Finished) and isinstance(event.operation, Note)
