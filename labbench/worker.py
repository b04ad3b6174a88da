"""The bench in its own process: a line of JSON in, lines of JSON out. Ends when its input ends."""

import argparse
import os
import platform
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from labbench import __version__, folders
from labbench.bench import shortage
from labbench.bench.apply import apply
from labbench.bench.clusterings import CLUSTERINGS
from labbench.bench.data import cache
from labbench.bench.data.dataset import Dataset, Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.exports import export
from labbench.bench.measuring.accuracy import measured
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.methods import METHODS, function_of, has_own_target, needs_gradients
from labbench.bench.models import MODELS, Model
from labbench.bench.pruning.coupling import groups
from labbench.bench.pruning.gradients import Remembered
from labbench.bench.regularizers import REGULARIZERS
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.devices import available, machine
from labbench.bench.states.opened import other_code
from labbench.bench.states.rescue import WRITING
from labbench.bench.states.state import Data, State
from labbench.bench.states.user_model import FAULTS, OwnModels, reason
from labbench.bench.threads import one_thread
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Tools
from labbench.priority import stand_back
from labbench.session import store
from labbench.session.catalogue import Catalogue, Entry, entry_of, knobs_of, operation_entries, options_type, shipped
from labbench.session.check import BadInput
from labbench.session.events import (
    AnyEvent,
    AnyRequest,
    Environment,
    Export,
    Failed,
    Finished,
    Grouped,
    Groups,
    Preview,
    Previewed,
    Progress,
    Ready,
    Restore,
    Restored,
    Started,
    Stop,
    Trust,
)
from labbench.session.jsonl import decode_request, encode
from labbench.session.operations import AnyOperation, Load, Standing, Value
from labbench.session.own import is_own
from labbench.session.reading import path_of

Options: TypeAlias = tuple[tuple[str, Value], ...]

AFTER_STOP = 0.5  # seconds that a stopped run may still be measured for
GRACE = 10.0  # seconds that a request may take after the input has ended
LONGEST_WRITING = 60.0  # seconds that a disk may take for a run under way
QUIET = 0.1  # seconds between two reports of the same kind
BEAT = 2.0  # seconds between two blank lines, which say that the process is alive, whatever it computes


@dataclass
class Worker:
    """One bench and the pipe out. `handle` does one request."""

    out: BinaryIO
    data_dir: Path
    timeline: Timeline
    stop: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the process is about to end."""
    requests: "queue.Queue[AnyRequest | BadInput | None]" = field(default_factory=queue.Queue)
    own: OwnModels = field(default_factory=OwnModels)
    _data: dict[tuple[str, Options, int, str], Data] = field(default_factory=dict)
    _gradients: Remembered = field(default_factory=Remembered)
    _reported: float = 0.0
    _done: int = 0
    """Requests that were answered."""

    @property
    def tools(self) -> Tools:
        """What an operation needs that is done for good."""
        return Tools(self.data, self.report, self.stop.is_set, self.own, self._gradients)

    def emit(self, event: AnyEvent) -> None:
        """Write one event. Called from the main thread only."""
        self.out.write(encode(event))
        self.out.flush()

    def beat(self) -> None:
        """Say that this process is alive, until it ends: a blank line now and then, from a thread of its own."""
        with suppress(BrokenPipeError):
            while not self.over.is_set():
                self.out.write(b"\n")  # never inside another line: the buffer has a lock
                self.out.flush()
                self.over.wait(BEAT)

    def report(self, event: AnyEvent) -> None:
        """`emit`, but progress of one phase at most ten times a second; where nobody listens any more, a stop."""
        if isinstance(event, Progress) and event.phase != "train":
            now = time.monotonic()
            if now - self._reported < QUIET:
                return
            self._reported = now
        try:
            self.emit(event)
        except BrokenPipeError:
            self.stop.set()

    def data(self, name: str, options: Mapping[str, Value], side: int) -> Data:
        """A data set by name and checked options, at least `side` pixels high and wide; read anew if files change."""
        dataset, reading = DATASETS[name], Reading(self.data_dir, self.report, self.stop.is_set)
        files = cache.fingerprint(dataset, reading, options)
        key = name, tuple(sorted(options.items())), side, files
        if key not in self._data:
            images = cache.read(name, dataset, reading, options, files, self.timeline.cache.unkept)
            self._data[key] = Data(name, images, dataset.flip, side, dataset.vertical)
        return self._data[key]

    def handle(self, request: AnyRequest) -> None:
        """Do one request and answer it; whatever goes wrong is answered with `Failed`."""
        if isinstance(request, Stop):
            return  # nothing runs
        if isinstance(request, Trust):
            self.own.trusted.add(request.model)
            return
        operation = None if isinstance(request, Restore | Groups | Export | Preview) else request
        try:
            with in_words(request):
                self.answer(request)
        except BenchError as error:
            if error.__cause__:
                traceback.print_exception(error.__cause__)
            self.emit(Failed(error=str(error), operation=operation))
        except Stopped:
            said = (
                "stopped; what was done again is kept"
                if isinstance(request, Restore)
                else "stopped: the model is as before"
            )
            self.emit(Failed(error=said, operation=operation))
        except FAULTS as error:  # a bug must not end the worker: the state is whole
            traceback.print_exc()
            state = self.timeline.state
            load = operation if isinstance(operation, Load) else state.load if state else None
            own = load.model if load and is_own(load.model) else ""
            said = f"{own}, or labbench with it, failed" if own else "a fault in labbench"
            said = f"{said} ({reason(error)}); the model is as before"
            if isinstance(request, Preview):  # who asked waits for an answer to just this
                self.emit(Previewed(operation=request.operation, error=said))
            else:
                self.emit(Failed(error=said, operation=operation, bug=not own))

    def answer(self, request: AnyRequest) -> None:
        """Do one request that is answered in one event or more. Raises what goes wrong."""
        match request:
            case Preview():
                self.emit(self.preview(request.operation))
            case Restore():
                self.restore(request)
            case Groups():
                self.emit(self.groups())
            case Export():
                self.export(request)
            case Stop() | Trust():
                pass
            case _:
                self.operate(request)

    def operate(self, operation: AnyOperation) -> None:
        """Do an operation and say what came of it."""
        self.emit(Started(operation=operation))
        began = time.perf_counter()
        before = self.timeline.state
        applied = self.timeline.do(operation, self.tools, self.measure)
        remarks = applied.remarks
        if "validation" not in applied.state.accuracy and not isinstance(operation, Standing):
            remarks = (*remarks, "not measured: stopped")
        self.emit(
            Finished(
                operation=applied.operation,
                snapshot=None if applied.state is before else snapshot(applied.state),
                remarks=remarks,
                seconds=round(time.perf_counter() - began, 3),
                measures=applied.measures,
                scanned=applied.scanned,
                timings=applied.timings,
            )
        )

    def measure(self, state: State) -> State:
        """The state with its validation figures; after a stop only if that takes no time to speak of."""
        if "validation" in state.accuracy:
            return state
        stopped: Callable[[], bool] = self.stop.is_set
        if stopped():
            deadline = time.monotonic() + AFTER_STOP
            stopped = lambda: time.monotonic() > deadline  # noqa: E731  # as short as what it replaces
        try:
            return measured(state, "validation", self.report, stopped)
        except Stopped:
            return state

    def preview(self, operation: AnyOperation) -> Previewed:
        """What an operation would do. Training, loading and measuring are not tried."""
        state = self.timeline.state
        try:
            if not operation.PREVIEWED:
                raise BenchError(f"no preview of {operation.describe()}")
            tools = Tools(self.data, stopped=self.awaited, own=self.own, gradients=self._gradients)
            with in_words(operation):
                applied = apply(operation, state, tools)
        except BenchError as error:
            return Previewed(operation=operation, error=str(error))
        except Stopped:
            return Previewed(operation=operation, error="no preview: something else was asked for meanwhile")
        return Previewed(operation=operation, snapshot=snapshot(applied.state, final=False), remarks=applied.remarks)

    def restore(self, request: Restore) -> None:
        """Stand where a session had left it."""
        self.emit(Progress(phase="restore", fraction=0.0))
        count = self.timeline.recomputed
        self.timeline.restore(request, self.tools, self.measure)
        state = self.timeline.state
        again = self.timeline.recomputed - count
        loads = [change.operation for change in self.timeline.done if isinstance(change.operation, Load)]
        remarks = (*(other_code(loads[-1], state.load) if state else ()), *self.timeline.cache.unkept.said())
        self.emit(Restored(snapshot=snapshot(state) if state else None, recomputed=again, remarks=remarks))

    def groups(self) -> Grouped:
        """Which layers change together."""
        if self.timeline.state is None:
            raise BenchError("no model is open: load one first")
        with one_thread():
            return Grouped(groups=groups(self.timeline.state, self.stop.is_set))

    def export(self, request: Export) -> None:
        """Write the current model to a file."""
        if self.timeline.state is None:
            raise BenchError("no model is open: load one first")
        self.emit(export(self.timeline.state, path_of(request.path)))

    def read(self, source: int) -> None:
        """Put the requests of a pipe into the queue; a stop goes to the running operation at once."""
        for line in lines_of(source):
            if not line.strip():
                continue
            try:
                request: AnyRequest | BadInput = decode_request(line)
            except BadInput as error:
                request = error
            if isinstance(request, Stop):
                self.stop.set()
            self.requests.put(request)
        self.stop.set()
        self.requests.put(None)
        self.end_anyway()

    def end_anyway(self) -> None:
        """End the process although it is at something that hears no stop, such as a pipe that nobody writes to.

        Nobody is there any more to end it. What is left of a run is written first.
        """
        before = -1
        while before != self._done:  # what was asked before the input ended is still done
            before = self._done
            time.sleep(GRACE)
        WRITING.acquire(timeout=LONGEST_WRITING)
        os._exit(1)

    def serve(self) -> None:
        """Answer requests until the input ends. Of previews that wait, only the newest is answered.

        Whoever leaves in order says stop first. If the input just ends, nobody may have heard what came of the last
        operation, so what can be rescued of it stays.
        """
        last: AnyRequest | BadInput | None = None
        while (request := self.requests.get()) is not None:
            last = request
            if isinstance(request, BadInput):
                self.emit(Failed(error=str(request)))
            elif isinstance(request, Preview) and self.outdated():
                continue
            else:
                self.handle(request)
            self._done += 1
            if isinstance(request, Stop) or self.requests.empty():
                self.stop.clear()
        if isinstance(last, Stop):
            self.timeline.settle()

    def awaited(self) -> bool:
        """Whether anything is waiting to be done."""
        return not self.requests.empty()

    def outdated(self) -> bool:
        """Whether a newer preview is waiting."""
        with self.requests.mutex:
            return any(isinstance(waiting, Preview) for waiting in self.requests.queue)


@contextmanager
def in_words(request: AnyRequest) -> Iterator[None]:
    """Where the memory does not suffice for a request, a `BenchError` says what to lower; what was taken is free."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not shortage.is_shortage(error):
            raise
        said = shortage.sentence(error, request)
        shortage.give_back(error)
        raise BenchError(said) from error


def lines_of(source: int) -> Iterator[bytes]:
    """The lines of a file descriptor. No lock is held while it waits, so that the process can end meanwhile."""
    rest = b""
    while chunk := os.read(source, 2**16):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def catalogue() -> Catalogue:
    """All that can be chosen, from docstrings and signatures."""
    return Catalogue(
        models=tuple(_model_entry(name) for name in MODELS),
        datasets=tuple(
            entry_of(name, dataset.doc, knobs_of(options_type(dataset.read)), _dataset_facts(dataset))
            for name, dataset in DATASETS.items()
        ),
        methods=tuple(_method_entry(name) for name in METHODS),
        clusterings=tuple(
            entry_of(name, module.share.__doc__ or "", knobs_of(options_type(module.share)))
            for name, module in CLUSTERINGS.items()
        ),
        operations=operation_entries(),
        regularizers=tuple(_regularizer_entry(name) for name in REGULARIZERS),
    )


class WithoutValues(TorchFunctionMode):
    """Draws no numbers for tensors that hold none: on meta, `normal_` would import the compiler, for a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What torch calls instead of any of its functions."""
        return args[0] if func is torch.Tensor.normal_ else func(*args, **(kwargs or {}))


def _model_entry(name: str) -> Entry:
    model = MODELS[name]
    shape = 1 if model.side < 32 else 3, model.side, model.side
    parameters = model.parameters or _parameters(model, shape)
    facts: dict[str, Value] = {"parameters": parameters, "side": model.side, "shape": "×".join(map(str, shape))}
    return entry_of(name, model.doc, knobs_of(options_type(model.build)), facts)


def _parameters(model: Model, shape: tuple[int, int, int]) -> int:
    with torch.device("meta"), WithoutValues():
        return sum(p.numel() for p in model.build(shape, 10).parameters())


def _dataset_facts(dataset: Dataset) -> dict[str, Value]:
    facts: dict[str, Value] = {"download": dataset.download}
    if dataset.images:
        facts |= {"images": sum(dataset.images.values()), **dataset.images}
    if dataset.shape:
        facts["shape"] = "×".join(map(str, dataset.shape))
    if dataset.classes:
        facts["classes"] = dataset.classes
    return facts


def _method_entry(name: str) -> Entry:
    method = METHODS[name]
    function = function_of(method)
    facts: dict[str, Value] = {"granularity": method.GRANULARITY}
    if has_own_target(method):
        facts["own_target"] = True
    if needs_gradients(method):
        facts["gradients"] = True
    if hasattr(method, "keep"):
        facts["in_layers"] = True
    return entry_of(name, function.__doc__ or "", knobs_of(options_type(function)), facts)


def _regularizer_entry(name: str) -> Entry:
    penalty = REGULARIZERS[name].penalty
    return entry_of(
        name, penalty.__doc__ or "", knobs_of(options_type(penalty)), {"tensors": REGULARIZERS[name].TENSORS}
    )


def environment() -> Environment:
    """What figures depend on."""
    devices = available()
    return Environment(
        labbench=__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        torch_pruning=metadata.version("torch-pruning"),
        sklearn=metadata.version("scikit-learn"),
        numpy=np.__version__,
        machine=machine(),
        threads=torch.get_num_threads(),
        device=devices[0],
        devices=devices,
    )


def main() -> int:
    """Serve standard input; standard output carries nothing but events, whatever a library prints."""
    parser = argparse.ArgumentParser(prog="python -m labbench.worker", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=folders.data(), help="folder of the data sets")
    parser.add_argument("--checkpoints", type=Path, default=folders.checkpoints(), help="their folder")
    parser.add_argument(
        "--alive", action="store_true", help="say every other second, by a blank line, that it is alive"
    )
    parser.add_argument("--catalogue", action="store_true", help="print the catalogue as JSON and end")
    options = parser.parse_args()
    if options.catalogue:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(catalogue())) + b"\n")
        return 0
    requests, out = os.dup(0), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # code that asks for input finds none, and takes no request away
    os.dup2(2, 1)
    stand_back()
    torch.backends.cudnn.benchmark = False  # the fastest algorithm of the moment is another one the next time
    torch.backends.cudnn.deterministic = True
    worker = Worker(out, options.data_dir, Timeline(Cache(options.checkpoints, store.LIMIT)))
    threading.Thread(target=worker.read, args=(requests,), daemon=True).start()
    alive = threading.Thread(target=worker.beat, daemon=True)
    try:
        worker.emit(Ready(environment=environment(), catalogue=shipped()))
        if options.alive:
            alive.start()
        worker.serve()
    except BrokenPipeError:  # nobody listens any more; the session file has everything
        return 1
    finally:
        worker.over.set()
        if alive.is_alive():
            alive.join()  # a thread that is writing when the interpreter ends would hold its lock for ever
    return 0


if __name__ == "__main__":
    sys.exit(main())
