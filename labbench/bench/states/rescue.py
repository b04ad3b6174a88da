"""Where a run under way leaves what it takes to go on, so that what interrupts it (a killed process, a power cut) costs
no more than the epoch it was in. A cache: without it the run begins anew and comes to the same end."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from labbench.bench.states import paused as runs
from labbench.bench.states.paused import Paused
from labbench.bench.unkept import Unkept
from labbench.session import reading
from labbench.session.events import Metric, Progress, Sparsity
from labbench.session.operations import Finetune
from labbench.session.store import EPOCH, RUN
from labbench.session.thinning import Thinning
from labbench.session.writing import PRIVATE

Report = Callable[[Progress | Metric | Sparsity], None]

SHARE = 0.003  # of a run's time that may be computed for keeping it; it may wait twice as long, for a disk or a core
FIRST = 2.0  # seconds: a run that is shorter is sooner done again
LIMIT = 2**20  # bytes of what is noted of an epoch
RUNS = 8  # interrupted runs that are kept for whoever comes back

WRITING = threading.Lock()
"""Held while a run is being kept."""


class Known(Struct, frozen=True):
    """The last epoch that was finished: so little that it can be written after every one."""

    operation: Finetune
    """As it is done: nothing is open how it computes."""
    epoch: int
    top1: float
    """Its validation figures."""
    loss: float


class Found(NamedTuple):
    """What is there of a run that was interrupted."""

    paused: Paused | None = None
    known: Known | None = None
    """Its epoch is later than that of `paused` where the run was not kept after every one."""


class Place:
    """The files of one run. A folder that cannot be written costs epochs, no more; `unkept` knows why."""

    def __init__(self, folder: Path, name: str, unkept: Unkept | None = None) -> None:
        self._run, self._epoch = folder / f"{name}{RUN}", folder / f"{name}{EPOCH}"
        self.unkept = unkept or Unkept()

    def find(self) -> Found:
        """What whoever did the same before and was interrupted has left; nothing of it where it is broken."""
        known = None
        with suppress(OSError, ValueError):
            known = msgspec.json.decode(reading.content(self._epoch, LIMIT).split(b"\n")[0], type=Known)
        return Found(runs.read(self._run), known)

    def note(self, known: Known) -> None:
        """An epoch is finished. One line, in one go over the one before: a kill leaves the one or the other."""
        with self.unkept.tolerated("checkpoints"):
            try:
                file = os.open(self._epoch, os.O_WRONLY)
            except FileNotFoundError:
                self._epoch.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self._epoch, os.O_WRONLY | os.O_CREAT, PRIVATE)
                self._make_room()
            try:
                os.pwrite(file, msgspec.json.encode(known) + b"\n", 0)
            finally:
                os.close(file)

    def keep(self, paused: Paused) -> None:
        """Keep all of it: one plain file, written again and again, with no part in common with what else is there."""
        with self.unkept.tolerated("checkpoints"):
            runs.save(paused, self._run)
            self._make_room()

    def drop(self) -> None:
        """Nobody goes on with it; nor with what a killed process has half written of it."""
        with suppress(OSError):
            for file in self._run.parent.glob(f"*{self._run.stem}.*"):
                with suppress(OSError):
                    file.unlink()

    def _make_room(self) -> None:
        """Those that nobody came back to go."""
        used: dict[str, float] = {}
        for file in self._run.parent.glob("*"):
            name = file.name.removeprefix(".").partition(".")[0]
            used[name] = max(used.get(name, 0.0), file.stat().st_mtime)
        for name in sorted(used, key=lambda name: used[name])[:-RUNS]:
            Place(self._run.parent, name).drop()


class Told:
    """Reports, and remembers of curves and tables what a recording keeps of them."""

    def __init__(self, report: Report) -> None:
        self.events: list[Metric | Sparsity] = []
        self._report = report
        self._thinning = Thinning()

    def __call__(self, event: Progress | Metric | Sparsity) -> None:
        """Report it."""
        self._report(event)
        if isinstance(event, Metric | Sparsity) and self._thinning.admit(0.0, event):
            self.events.append(event)


@dataclass
class Rescue:
    """When a run leaves what.

    After each epoch its number is noted, so that whoever comes back goes on after it; only where epochs are so short,
    or a disk so slow, that the run would stand still for it for more than twice `SHARE` of its time is one left out.
    All that it takes is kept less often: not before `FIRST` seconds, and after each writing not until it has been worth
    it. In all, the run computes for it at most `SHARE` of its time, stands still for it at most twice that, and one
    writing more. The epochs between are computed again.
    A run that is stopped is kept where it stands: who asked for that may be gone, as when the front end was killed.
    """

    place: Place | None = None
    share: float = SHARE
    first: float = FIRST
    _due: float = float("inf")
    _noted: int = 0
    _next: float = 0.0
    """When the next epoch may be noted."""

    def begin(self) -> Found:
        """The run begins: where from, if not from its first step."""
        self._due = time.perf_counter() + self.first
        found = self.place.find() if self.place else Found()
        self._noted = found.known.epoch if found.known else 0
        return found

    @property
    def trouble(self) -> str:
        """That nothing could be kept, in two words; empty where all was."""
        return "no checkpoints" if self.place and "checkpoints" in self.place.unkept.reasons else ""

    def note(self, known: Known) -> None:
        """An epoch was measured. One that was noted before is not noted again."""
        began = time.perf_counter()
        if self.place and known.epoch > self._noted and began >= self._next:
            self.place.note(known)
            now = time.perf_counter()
            self._next = now + (now - began) / (2 * self.share)

    def keep(self, pause: Callable[[], Paused], last: bool = False) -> None:
        """Between two epochs, or it is the last chance: keep the run, if it is due or that."""
        began, busy = time.perf_counter(), time.thread_time()
        if self.place and (last or began >= self._due):
            with self.place.unkept.tolerated("checkpoints"), WRITING:
                self.place.keep(pause())
            now = time.perf_counter()
            self._due = now + max((time.thread_time() - busy) / self.share, (now - began) / (2 * self.share))
