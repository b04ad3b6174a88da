"""The app and its worker in processes of their own, for a test to kill: `killable.py app PIDS` starts labbench without
arguments, trains a model or goes on with what was interrupted, as whoever only presses Enter; PIDS names its worker.

`killable.py worker` is the real worker, but it rests after each epoch, so that it can be hit.
"""

import asyncio
import sys
import time
from pathlib import Path

from hosting import seen

from labbench import folders
from labbench.session.operations import PLAIN, Finetune, Load
from labbench.session.writing import whole
from labbench.tui.app import LabbenchApp
from labbench.tui.screens.confirm import Confirm

LOAD = Load(model="lenet-300-100", dataset="digits", device="cpu")
TUNE = Finetune(epochs=8, lr=0.002, optimizer="adam", **PLAIN)
WORKER = [sys.executable, str(Path(__file__)), "worker"]
PAUSE = 0.3  # seconds after each epoch


async def app(pids: Path) -> None:
    new = not folders.sessions().exists()
    made = LabbenchApp(load=LOAD if new else None, command=WORKER)
    async with made.run_test(size=(120, 40)) as pilot:
        while True:
            await pilot.pause(0.05)
            if isinstance(made.screen, Confirm) and made.screen.is_mounted and "enter" in seen(made):
                await pilot.press("enter")
            elif new and made.desk.session.steps:
                new = False
                made.desk.perform(TUNE)
            if made.link._client:
                with whole(pids) as part:
                    part.write_text(str(made.link._client.pid))


def worker() -> int:
    from labbench import worker
    from labbench.bench.states.rescue import Rescue

    there = Rescue.note

    def slowly(rescue, known):
        there(rescue, known)
        time.sleep(PAUSE)

    Rescue.note = slowly
    sys.argv[1:] = []
    return worker.main()


if __name__ == "__main__":
    sys.exit(worker() if sys.argv[1] == "worker" else asyncio.run(app(Path(sys.argv[2]))))
