"""The bench without a screen: does operations one after the other through a worker and records what happens. It prints
nothing; whoever calls sees every event."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from labbench.client import Client, Silence
from labbench.exits import INTERRUPTED, by_signal, heard
from labbench.leftovers import sweep_own
from labbench.session.events import (
    AnyEvent,
    AnyRequest,
    Closed,
    Died,
    Export,
    Exported,
    Failed,
    Finished,
    Ready,
    Restore,
    Restored,
    Stop,
    Trust,
)
from labbench.session.jsonl import VERSION, Header, Writer, read
from labbench.session.operations import AnyOperation, Finetune, Load
from labbench.session.reading import text_of
from labbench.session.session import Session
from labbench.session.thinning import Thinning

Heard: TypeAlias = AnyEvent | Silence
See = Callable[[Session, Heard], None]


GRACE = 8.0  # seconds to stop in after a signal that comes only once; batch systems kill after ten or more


class CannotRun(Exception):
    """Nothing can be computed here: no worker, or not the device that was asked for."""


class Refused(Exception):
    """The bench refused a request, or broke over it."""


class Stopped(Exception):
    """The user asked to stop, or a signal did; what was done is in the session and its file."""

    def __init__(self, code: int = INTERRUPTED) -> None:
        """`code` is the exit code."""
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Begun:
    """A session to go on from, and the request that makes a bench stand where it is."""

    header: Header
    session: Session
    restore: Restore
    writer: Writer | None = None
    """Of the file that it goes on in. Without one, it goes on in a copy."""


def interrupted(out: Path) -> Begun:
    """The session of a file, to go on from where it ends. Raises `BadFile`, or `OSError` as where somebody else records
    there."""
    writer = Writer(out, None)
    try:
        header, session, _ = read(out)
    except BaseException:
        writer.close()
        raise
    return Begun(header, session, session.restore(), writer)


async def perform(
    operations: Sequence[AnyOperation],
    see: See,
    *,
    command: Sequence[str],
    title: str = "",
    out: Path | None = None,
    trusted: Iterable[str] = (),
    begun: Begun | None = None,
) -> Session:
    """Do the operations in order; ctrl+c (or SIGTERM, SIGHUP) stops the running one, keeping what was learned.

    `trusted` are the models of the user's own whose code may be run. With `begun` a session goes on; `out`, which must
    not be there, then has what was done in it before, too.

    Raises `CannotRun`, `Refused` or `Stopped`, and `OSError` where `out` cannot be written; what was done until then
    was seen, and stands in `out`.
    """
    session = begun.session if begun else Session(title)
    session.thinning = Thinning()
    async with Bench(command) as bench:
        ready = await bench.ready()
        before = [point.operation for point in begun.restore.points] if begun else []
        _check_devices([*before, *operations], ready)
        await bench.trust(trusted)
        created = datetime.now().astimezone().isoformat(timespec="seconds")
        header = Header(labbench=VERSION, title=title, created=created, environment=ready.environment)
        writer = begun.writer if begun else None
        if out and not writer:
            writer = Writer(out, begun.header if begun else header, begun.session.events if begun else ())
        start = time.monotonic() - session.seconds
        try:
            if begun and writer:
                writer.write(session.seconds, ready)
            session.append(session.seconds, ready)
            see(session, ready)
            requests: list[AnyRequest] = [*([begun.restore] if begun and begun.restore.points else []), *operations]
            for request in requests:
                async for event in bench.ask(request):
                    if isinstance(event, Silence):
                        see(session, event)
                        continue
                    seconds = time.monotonic() - start
                    session.append(seconds, event)
                    if writer:
                        writer.write(seconds, event)
                    see(session, event)
                bench.stop_if_asked()
        finally:
            if writer:
                with writer:
                    if not session.lost:
                        writer.write(time.monotonic() - start, Closed())
    return session


async def export_model(
    restore: Restore, to: Path, see: See, *, command: Sequence[str], trusted: Iterable[str] = ()
) -> tuple[Session, Exported]:
    """Stand where a session had left it and write the model to a file. Raises as `perform` does."""
    session, written = Session(), None
    async with Bench(command) as bench:
        ready = await bench.ready()
        _check_devices([point.operation for point in restore.points], ready)
        await bench.trust(trusted)
        for request in (restore, Export(path=text_of(to))):
            async for event in bench.ask(request):
                if not isinstance(event, Silence):
                    session.append(session.seconds, event)
                    written = event
                see(session, event)
            bench.stop_if_asked()
    assert isinstance(written, Exported)
    return session, written


class Bench:
    """A worker that is asked one thing at a time. The first ctrl+c asks it to stop, the second does not wait for it;
    signals that ask a program to end do the same, but wait for it no longer than `GRACE`."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._asked_by = 0
        """The signal that asked to stop; 0 for none."""
        self._deadline: asyncio.TimerHandle | None = None
        self._ready = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Bench":
        try:
            self._client = await Client.start(self._command)
            sweep_own()
        except OSError as error:
            raise CannotRun(f"the worker cannot be started: {error}") from None
        self._events: AsyncIterator[Heard] = self._client.events()
        self._main = asyncio.current_task()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, *heard())}
        for number in self._before:
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt, number)
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        for number, before in self._before.items():
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, before)
        if self._deadline:
            self._deadline.cancel()
        await self._client.close()
        if isinstance(error, asyncio.CancelledError) and self._asked_by:
            raise Stopped(by_signal(self._asked_by)) from None

    async def ready(self) -> Ready:
        """Wait until the worker has imported what it needs."""
        async for event in self._events:
            if isinstance(event, Ready):
                self._ready = True
                return event
            if isinstance(event, Died):
                raise CannotRun(event.error)
        raise CannotRun("the worker ended before it was ready")

    async def trust(self, models: Iterable[str]) -> None:
        """Allow the code of these models; the user asked for it."""
        for model in models:
            await self._client.send(Trust(model=model))

    async def ask(self, request: AnyRequest) -> AsyncIterator[Heard]:
        """Every event up to the one that answers the request. Raises `Refused` or `CannotRun` after giving the last."""
        await self._client.send(request)
        async for event in self._events:
            yield event
            match event:
                case Finished() | Restored() | Exported():
                    return
                case Failed():  # of what is asked one at a time it is the answer, even where it could not be read
                    self.stop_if_asked()
                    raise Refused(event.error)
                case Died():
                    self.stop_if_asked()  # a batch system ends all processes
                    raise CannotRun(event.error)
                case _:
                    pass
        raise CannotRun("the worker ended")

    def stop_if_asked(self) -> None:
        """Raise `Stopped` if the user pressed ctrl+c."""
        if self._asked_by:
            raise Stopped(by_signal(self._asked_by))

    def _interrupt(self, number: int) -> None:
        assert self._main
        again, self._asked_by = bool(self._asked_by), number
        if again or not self._ready:
            self._main.cancel()
            return
        if number != signal.SIGINT:  # nobody is there to press it twice
            self._deadline = asyncio.get_running_loop().call_later(GRACE, self._main.cancel)
        task = asyncio.ensure_future(self._client.send(Stop()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _check_devices(operations: Iterable[AnyOperation], ready: Ready) -> None:
    devices = ready.environment.devices
    for operation in operations:
        name = operation.device if isinstance(operation, Load | Finetune) else ""
        if name not in ("", "auto", *devices, *(device.partition(":")[0] for device in devices)):
            raise CannotRun(f"no device {name} here; there is {', '.join(devices)} (--device names another)")
