"""From the command line to the first picture: the worker imports torch while the screen is imported and drawn."""

import asyncio
import gc
from pathlib import Path
from typing import Any

from labbench import folders
from labbench.client import worker_command
from labbench.exits import say
from labbench.leftovers import sweep_own
from labbench.session.session import Session
from labbench.tui.link import Link


def main(*, recording: Session | None = None, data_dir: Path | None = None, **given: Any) -> int:
    """Run the app on what `LabbenchApp` takes; returns the exit code.

    Raises `BadFile` where the session file cannot be continued.
    """
    gc.disable()  # importing leaves no garbage, and looking for it takes a tenth of the time; the app turns it on again
    return asyncio.run(_run(recording=recording, data_dir=data_dir, **given))


async def _run(*, recording: Session | None, data_dir: Path | None, **given: Any) -> int:
    link = None if recording else Link(worker_command(data_dir), folders.log())
    if link:
        await link.begin()
    try:
        from labbench.tui.app import LabbenchApp
        from labbench.tui.signals import quit_on_signals

        app = LabbenchApp(recording=recording, data_dir=data_dir, link=link, **given)
        sweep_own(data_dir)
        quit_on_signals(app)
        await app.run_async()
    finally:
        if link:
            await link.close(patience=0)  # the app has closed it, unless it could not even begin
    if app.farewell:
        say(app.farewell)
    return app.return_code or app.code
