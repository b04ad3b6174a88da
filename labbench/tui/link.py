"""The app's line to a worker that is started again, once, when it dies. Sends requests, gives events; draws nothing."""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from labbench.client import TERM_AFTER, Client, Silence
from labbench.session.events import AnyEvent, AnyRequest, Died

AGAIN = 10.0  # seconds: a worker that dies twice within this is not started a third time by itself


class Link:
    """A worker, and the one after it."""

    def __init__(self, command: Sequence[str] | None, log: Path) -> None:
        self.log = log
        self.gone = False
        """Whether the worker died and is not started again unless the user says so."""
        self._command = command
        self._client: Client | None = None
        self._begun = False
        self._closing = False
        self._death = float("-inf")

    async def begin(self) -> None:
        """Start the worker before anybody listens. If it cannot be started, `events` says so."""
        with contextlib.suppress(OSError):
            self._client = await Client.start(self._command, self.log)
            self._begun = True

    async def events(self) -> AsyncIterator[AnyEvent | Silence]:
        """Every event of the worker, and its silence, and those of the one that is started when it dies. Ends when no
        other follows."""
        self.gone = False
        while not self._closing:
            try:
                if not self._begun:
                    self._client = await Client.start(self._command, self.log)
            except OSError as error:
                self.gone = True
                yield Died(error=f"the worker cannot be started: {error}")
                return
            self._begun = False
            assert self._client is not None
            async for event in self._client.events():
                if isinstance(event, Died):
                    now = time.monotonic()
                    self.gone, self._death = now - self._death < AGAIN and not self._client.ended, now
                yield event
            await self._client.close()
            if self.gone:
                return

    async def send(self, request: AnyRequest) -> None:
        """Send one request; without a worker it is lost."""
        if self._client:
            await self._client.send(request)

    def kill(self) -> None:
        """End a worker that does not answer; another is started."""
        if self._client:
            self._client.kill()

    def suspend(self) -> None:
        """The worker stands still until `wake`."""
        if self._client:
            self._client.suspend()

    def wake(self) -> None:
        """The worker goes on."""
        if self._client:
            self._client.wake()

    async def close(self, patience: float = TERM_AFTER) -> None:
        """End the worker, within 5 s in any case; after `patience` seconds it is not asked any more."""
        self._closing = True
        if self._client:
            await self._client.close(patience)
