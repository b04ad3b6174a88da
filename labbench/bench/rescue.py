"""Where a run under way leaves what it takes to go on, so that what interrupts it (a killed process, a power cut) costs
no more than the epoch it was in. A cache: without it the run begins anew and comes to the same end."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from labbench.bench.paused import Paused

SHARE = 0.003  # of a run's time that may be computed for keeping it; it may wait twice as long, for a disk or a core
FIRST = 2.0  # seconds: a run that is shorter is sooner done again


def nowhere() -> Paused | None:
    """The `find` where nothing is ever left."""
    return None


@dataclass
class Rescue:
    """The place of one run.

    After a measured epoch the run is kept, but not before `FIRST` seconds, and after each writing not until it has been
    worth it: in all, the run computes for it at most `SHARE` of its time, stands still for it at most twice that, and
    one writing more. What was learned since is what an interruption costs.
    A run that is stopped is kept where it stands: who asked for that may be gone, as when the front end was killed.
    """

    find: Callable[[], Paused | None] = nowhere
    """The run as it was kept by whoever did the same before and was interrupted."""
    write: Callable[[Paused], None] | None = None
    share: float = SHARE
    first: float = FIRST
    _due: float = float("inf")

    def begin(self) -> Paused | None:
        """The run begins: where from, if not from its first step."""
        self._due = time.perf_counter() + self.first
        return self.find()

    def keep(self, pause: Callable[[], Paused], last: bool = False) -> None:
        """An epoch was measured, or it is the last chance: keep the run, if it is due or that."""
        began, busy = time.perf_counter(), time.thread_time()
        if self.write and (last or began >= self._due):
            self.write(pause())
            now = time.perf_counter()
            self._due = now + max((time.thread_time() - busy) / self.share, (now - began) / (2 * self.share))
