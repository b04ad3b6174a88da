"""An app whose worker is the test: what was sent is kept, what the test says is heard."""

import asyncio

from fake_worker import ENVIRONMENT
from hosting import until

from labbench.session.events import Ready, Restored
from labbench.tui.app import LabbenchApp


class StubLink:
    """Stands where the app's line to a worker stands."""

    def __init__(self):
        self.sent = []
        self.gone = False
        self.closed = False
        self._queue = asyncio.Queue()

    def hear(self, *events):
        """The worker says this."""
        for event in events:
            self._queue.put_nowait(event)

    async def events(self):
        while (event := await self._queue.get()) is not None:
            yield event

    async def send(self, request):
        self.sent.append(request)

    async def close(self):
        self.closed = True
        self._queue.put_nowait(None)


def app_on(session=None, **arguments):
    """An app at a stub worker that is ready, on a session that is there already."""
    app = LabbenchApp(**arguments)
    app.link = StubLink()
    if session is not None:
        app.desk.record.session = session
        session.environment = ENVIRONMENT
    return app


async def settled(app, pilot):
    """The app at rest: painted, its worker ready, the restored session on the screen."""
    await until(pilot, lambda: app._pump is not None)
    app.link.hear(Ready(environment=ENVIRONMENT))
    await until(pilot, lambda: app.desk.worker != "starting")
    if app.desk.worker == "restoring":
        app.link.hear(Restored(snapshot=None))
        await until(pilot, lambda: app.desk.worker == "ready")
        app.link.sent.clear()
    await until(pilot, lambda: not app.stale)
