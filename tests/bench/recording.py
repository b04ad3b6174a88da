"""What recording costs a training: `python tests/bench/recording.py` trains without it and with it, in turn.

With it, every event goes the whole way, which is that of two processes otherwise: encoded by the worker; decoded, taken
into a session and written to its file by whoever records, on another core if there is one. And the run is kept for the
case of an interruption, as a worker keeps it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from side_by_side import Timed, arguments, show, side_by_side

from labbench import folders
from labbench.bench.apply import apply
from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.states.paused import Paused
from labbench.bench.states.rescue import Known, Place, Rescue
from labbench.bench.states.state import Data, State
from labbench.bench.tools import Tools
from labbench.session.events import Finished, Started
from labbench.session.jsonl import VERSION, Header, Writer, decode_event, encode
from labbench.session.operations import Finetune, Load
from labbench.session.session import Session
from labbench.session.thinning import Thinning

CASES = (("lenet-300-100", "digits", 60), ("lenet-5", "digits", 16), ("resnet-20", "digits", 3))


def opened(model: str, dataset: str) -> State:
    """A model of the catalogue on its data."""
    images = DATASETS[dataset].read(Reading(folders.data()))
    tools = Tools(lambda name, options, side: Data(name, images, DATASETS[name].flip, side))
    return apply(Load(model=model, dataset=dataset, device="cpu"), None, tools).state


class Recorder:
    """Everything that is done for one recorded run, and how long that took: time of the thread, whatever else runs."""

    def __init__(self, folder: Path) -> None:
        self.told = self.taken = 0.0
        self.session = Session()
        self.session.thinning = Thinning()
        (folder / "run.jsonl").unlink(missing_ok=True)
        self.writer = Writer(folder / "run.jsonl", Header(labbench=VERSION))
        self.began = time.perf_counter()

    def take(self, event: Any) -> None:
        """One event, from the worker to the file."""
        began, now = time.thread_time(), time.perf_counter()
        line = encode(event)
        told = time.thread_time()
        heard = decode_event(line)
        self.session.append(now - self.began, heard)
        self.writer.write(now - self.began, heard)
        self.told += told - began
        self.taken += time.thread_time() - told


class TimedRescue(Rescue):
    """A place for the run, as a worker has one, and how long all that took."""

    seconds = 0.0

    def note(self, known: Known) -> None:
        """What is done after each epoch."""
        began = time.thread_time()
        super().note(known)
        self.seconds += time.thread_time() - began

    def keep(self, pause: Callable[[], Paused], last: bool = False) -> None:
        """And after some."""
        began = time.thread_time()
        super().keep(pause, last)
        self.seconds += time.thread_time() - began


def sides(state: State, operation: Finetune, folder: Path, shares: list[str]) -> dict[str, Callable[[], object]]:
    """Training alone, and recorded."""
    tools = Tools(lambda name, options, side: state.data)

    def recorded() -> None:
        began, recorder = time.thread_time(), Recorder(folder)
        recorder.take(Started(operation=operation))
        rescue = TimedRescue(Place(folder, "run"))
        apply(operation, state, Tools(tools.data, recorder.take, rescue=rescue))
        recorder.take(Finished(operation=operation))
        recorder.writer.close()
        assert rescue.place
        rescue.place.drop()
        whole = time.thread_time() - began
        told, keeping, taken = (part / whole for part in (recorder.told, rescue.seconds, recorder.taken))
        shares.append(
            f"of {whole:.2f} s of this thread: {told:.2%} telling events, {keeping:.2%} keeping the run; "
            f"in the other process {taken:.2%} for {len(recorder.session.events)} events"
        )

    return {"training": partial(apply, operation, state, tools), "training, recorded": recorded}


def cases(options: argparse.Namespace) -> Iterator[Timed]:
    """One for each model."""
    with tempfile.TemporaryDirectory() as folder:
        for model, dataset, epochs in CASES:
            state, shares = opened(model, dataset), list[str]()
            both = sides(state, Finetune(epochs=epochs), Path(folder), shares)
            yield side_by_side(f"{model} on {dataset}, {epochs} epochs", both, options.rounds)
            print("\n".join(f"    {line}" for line in shares[1:]))


if __name__ == "__main__":
    options = arguments(__doc__, rounds=7).parse_args()
    show(options, cases(options))
