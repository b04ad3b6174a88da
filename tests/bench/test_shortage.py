"""Memory that does not suffice is said in a sentence with what to lower; the state stands, and the memory is free."""

import gc
import io
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from labbench.bench.shortage import is_shortage
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.timeline import Timeline
from labbench.bench.training import loop, trial
from labbench.session.events import AnyEvent, Failed, Finished, Preview, Previewed
from labbench.session.jsonl import decode_event
from labbench.session.operations import PLAIN, Cluster, Finetune, Load, Prune, Recalibrate
from labbench.worker import Worker

CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 7.79 GiB of which 1.20 GiB is free."
)
RAISED: dict[str, Callable[[], Any]] = {
    "torch on the CPU": lambda: torch.empty(2**46),
    "torch beyond any size": lambda: torch.empty(2**62),
    "Python": lambda: bytearray(2**60),
    "CUDA": lambda: _raise(torch.OutOfMemoryError(CUDA)),
    "the driver": lambda: _raise(RuntimeError("CUDA error: out of memory")),
    "cuBLAS": lambda: _raise(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")),
}
SHORT = Finetune(**PLAIN, epochs=1, batch_size=50)


def _raise(error: Exception) -> None:
    raise error


class Bench:
    """A worker in this process, with a model open."""

    def __init__(self, folder: Path) -> None:
        self.out = io.BytesIO()
        self.worker = Worker(self.out, folder, Timeline(Cache(folder / "checkpoints", 2**30)))
        self.ask(Load(model="lenet-5", dataset="digits", device="cpu"))

    def ask(self, request: Any) -> AnyEvent:
        """The answer to a request."""
        self.out.seek(0)
        self.out.truncate()
        self.worker.handle(request)
        return decode_event(self.out.getvalue().splitlines()[-1])

    @property
    def mark(self) -> str:
        assert self.worker.timeline.state
        return fingerprint(self.worker.timeline.state)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    return Bench(tmp_path)


@pytest.mark.parametrize("raised", RAISED.values(), ids=RAISED)
def test_out_of_memory_in_a_step_is_a_sentence_and_the_next_run_works(
    bench: Bench, raised: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bench.mark
    monkeypatch.setattr(loop, "computed_step", lambda run, pick: raised())
    failed = bench.ask(SHORT)
    assert isinstance(failed, Failed)
    assert not failed.bug
    assert failed.error.startswith("there is not enough memory")
    assert failed.error.endswith("; try a batch_size below 50; the model is as before")
    assert "\n" not in failed.error
    assert bench.mark == before
    monkeypatch.undo()
    assert isinstance(bench.ask(SHORT), Finished)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (Recalibrate(batch_size=32), "try a batch_size below 32"),
        (Prune(), "try fewer layers at once, or another method than magnitude"),
        (
            Cluster(layers=("*",), k=2, method="components"),
            "try fewer layers at once, or another method than components",
        ),
        (Load(model="lenet-5", dataset="digits", device="cpu"), "try a smaller model, or smaller images"),
    ],
)
def test_what_to_lower_depends_on_what_was_asked_for(
    bench: Bench, operation: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any) -> None:
        raise MemoryError

    before = bench.mark
    monkeypatch.setattr("labbench.bench.timeline.apply", short)
    monkeypatch.setattr("labbench.worker.apply", short)
    failed = bench.ask(operation)
    assert isinstance(failed, Failed)
    assert failed.error == f"there is not enough memory; {words}; the model is as before"
    assert bench.mark == before
    if isinstance(operation, Prune):
        previewed = bench.ask(Preview(operation=operation))
        assert isinstance(previewed, Previewed)
        assert words in previewed.error


def test_what_the_run_held_is_free_again_while_it_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def step(run: Any, pick: Any) -> None:
        mine = torch.zeros(10)
        run.mine = mine  # as a run and its model hold theirs
        held.append(weakref.ref(mine))
        torch.empty(2**46)

    seen: list[object] = []
    emit = bench.worker.emit
    monkeypatch.setattr(loop, "computed_step", step)
    monkeypatch.setattr(bench.worker, "emit", lambda event: (seen.append(held[-1]() if held else 0), emit(event)))
    gc.disable()
    try:
        assert isinstance(bench.ask(SHORT), Failed)
    finally:
        gc.enable()
    assert seen[-1] is None


def test_a_trial_of_ways_that_all_run_out_of_memory_says_so_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def step(run: Any, pick: Any) -> None:
        calls.append(run.operation.precision)
        torch.empty(2**46)

    monkeypatch.setattr(trial, "LEAST_STEPS", 1)
    monkeypatch.setattr(loop, "computed_step", step)
    failed = bench.ask(Finetune(epochs=1, batch_size=50))
    assert isinstance(failed, Failed)
    assert "try a batch_size below 50" in failed.error
    assert len(calls) == trial.WAYS, "no step of the run itself was tried"


def test_other_errors_are_no_shortage() -> None:
    for error in (RuntimeError("shape mismatch"), ValueError("out of memory"), OSError(12, "Cannot allocate memory")):
        assert not is_shortage(error)
