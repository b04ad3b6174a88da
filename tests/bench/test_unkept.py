"""A disk that fails costs checkpoints, never the training, and is said once."""

import errno
import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_examples import restore_of
from safetensors import SafetensorError

from labbench.bench.data import cache
from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.states import torch_file
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.rescue import Rescue
from labbench.bench.states.state import State
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Tools
from labbench.bench.unkept import Unkept
from labbench.session.events import Progress
from labbench.session.operations import PLAIN, AnyOperation, Finetune, Load, Prune, Undo
from labbench.session.store import Busy

LOAD = Load(model="lenet-300-100", dataset="digits", device="cpu")
TUNE = Finetune(**PLAIN, epochs=3, batch_size=50, lr=0.02)
NUMBERS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT)


def same(state: State) -> State:
    return state


class Bench:
    """A timeline whose runs are kept after every epoch, and what it said."""

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.timeline = Timeline(Cache(folder, 10**9))
        self.tools = replace(tools, report=lambda event: self.events.append(event))
        self.events: list[object] = []
        self.remarks: list[str] = []
        self.timeline._rescue = self._eager  # type: ignore[method-assign]

    def _eager(self, operation: AnyOperation, state: State | None) -> Rescue:
        return replace(Timeline._rescue(self.timeline, operation, state), share=1e9, first=0.0)

    def do(self, *operations: AnyOperation) -> str:
        for operation in operations:
            applied = self.timeline.do(operation, self.tools, same)
            self.remarks += applied.remarks
        return fingerprint(applied.state)

    @property
    def said(self) -> list[str]:
        return [remark for remark in self.remarks if remark.startswith("no checkpoints are kept any more: ")]


@pytest.fixture
def expected(tools: Tools, tmp_path: Path) -> str:
    return Bench(tools, tmp_path / "expected").do(LOAD, TUNE, Prune())


def fails_with(error: Callable[[], Exception]) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error()

    return fail


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Exception]], None]:
    """Let everything that the bench writes fail so."""

    def fail(error: Callable[[], Exception]) -> None:
        monkeypatch.setattr("labbench.session.store.Store.put", fails_with(error))
        monkeypatch.setattr("labbench.bench.states.paused.torch_file.write", fails_with(error))
        opened, broken = os.open, fails_with(error)
        reads = lambda path, flags, *more, **named: opened(path, flags, *more, **named) if not flags & 3 else broken()  # noqa: E731
        monkeypatch.setattr("labbench.bench.states.rescue.os.open", reads)

    return fail


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_disk_that_fails_costs_checkpoints_and_is_said_once(
    tools: Tools, tmp_path: Path, expected: str, failing: Callable[..., None], number: int
) -> None:
    failing(lambda: OSError(number, os.strerror(number), f"{tmp_path}/cache/states/.x.part"))
    bench = Bench(tools, tmp_path / "cache")
    assert bench.do(LOAD, TUNE, Prune()) == expected
    assert bench.do(Undo(), Prune()) == expected
    (said,) = bench.said
    assert f"{os.strerror(number)} ({tmp_path}/cache/states)" in said


@pytest.mark.parametrize("error", [MemoryError, lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_checkpoint_that_does_not_fit_into_memory_costs_no_training_either(
    tools: Tools, tmp_path: Path, expected: str, failing: Callable[..., None], error: Callable[[], Exception]
) -> None:
    failing(error)
    bench = Bench(tools, tmp_path / "cache")
    assert bench.do(LOAD, TUNE, Prune()) == expected
    (said,) = bench.said
    assert "there is not enough memory" in said


def test_a_run_says_it_while_it_trains(
    tools: Tools, tmp_path: Path, failing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labbench.bench.training.loop.REPORT_INTERVAL", 0.0)
    bench = Bench(tools, tmp_path / "cache")
    bench.do(LOAD)
    failing(lambda: OSError(errno.ENOSPC, "No space left on device"))
    bench.do(TUNE)
    notes = {
        event.epoch: event.note for event in bench.events if isinstance(event, Progress) and event.phase == "train"
    }
    assert notes == {1: "", 2: "no checkpoints", 3: "no checkpoints"}


@pytest.mark.parametrize("obstacle", ["a file in place of the folder", "a file in place of its parent", "gone"])
def test_a_folder_that_is_none_costs_checkpoints_only(
    tools: Tools, tmp_path: Path, expected: str, obstacle: str
) -> None:
    folder = tmp_path / "caches" / "checkpoints"
    if obstacle == "a file in place of its parent":
        folder.parent.write_bytes(b"")
    elif obstacle == "a file in place of the folder":
        folder.parent.mkdir()
        folder.write_bytes(b"")
    bench = Bench(tools, folder)
    assert bench.do(LOAD, TUNE, Prune()) == expected
    assert len(bench.said) == (0 if obstacle == "gone" else 1)


def test_a_disk_with_room_again_takes_checkpoints_again(
    tools: Tools, tmp_path: Path, expected: str, failing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tools, tmp_path / "cache")
    with monkeypatch.context() as full:
        full.setattr("labbench.session.store.Store.put", fails_with(lambda: OSError(errno.ENOSPC, "full")))
        bench.do(LOAD)
    assert bench.do(TUNE, Prune()) == expected
    other = Bench(tools, tmp_path / "cache")
    other.timeline.restore(restore_of(bench.timeline), tools, same)
    assert other.timeline.recomputed == 0
    assert len(bench.said) == 1


def test_half_of_a_state_does_not_stay_on_a_full_disk(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is written to the same disk."""
    bench = Bench(tools, tmp_path / "cache")
    left = 3

    def write(path: Path, content: bytes, *more: object, **others: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr("labbench.session.store.write", write)
    bench.do(LOAD)
    assert bench.said
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.name != "lock"] == []


def test_another_labbench_that_writes_is_no_failure() -> None:
    unkept = Unkept()
    with unkept.tolerated("checkpoints"):
        raise Busy("another labbench is writing checkpoints")
    assert unkept.said() == ()
    with pytest.raises(RuntimeError, match="a bug"), unkept.tolerated("checkpoints"):
        raise RuntimeError("a bug")


def test_a_data_folder_that_cannot_be_written_is_said_and_the_data_set_is_there(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"a file")
    unkept = Unkept()
    for _ in range(2):
        images = cache.read("digits", DATASETS["digits"], Reading(tmp_path / "data"), {}, "", unkept)
        assert len(images.splits["train"][0]) > 1000
    (said,) = unkept.said()
    assert said.startswith("data sets are not kept as they were read: ")
    assert unkept.said() == ()
    with unkept.tolerated("checkpoints"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert unkept.reasons["checkpoints"] == os.strerror(28)


class Full(io.RawIOBase):
    """A disk without room."""

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class OnFull(type(Path())):  # type: ignore[misc]
    """A file on it."""

    def open(self, *_: object, **__: object) -> Any:  # type: ignore[override]
        return io.BufferedWriter(Full())


@pytest.mark.parametrize("numbers", [1, 100_000])
def test_torch_says_that_a_disk_is_full_as_everybody_does(numbers: int) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        torch_file.write({"a": torch.zeros(numbers)}, OnFull("model.pth"))
