"""The real worker in its own process, spoken to line by line as a front end does."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labbench.client import worker_command
from labbench.session import store
from labbench.session.events import (
    EXPORT_FORMATS,
    AnyEvent,
    Export,
    Exported,
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
    restore_along,
)
from labbench.session.jsonl import decode_event, encode
from labbench.session.operations import PLAIN, Cluster, Evaluate, Finetune, Freeze, Load, Note, Prune, Redo, Undo

LENET = Load(model="lenet-300-100", dataset="digits")
ANSWERS = (Finished, Failed, Previewed, Restored, Grouped, Exported)


class Pipe:
    """A worker process with its two pipes."""

    def __init__(self, folder: Path, code: str = "from labbench.worker import main; main()") -> None:
        self.log = (folder / "worker.log").open("wb+")
        arguments = ["--data-dir", str(folder / "data"), "--checkpoints", str(folder / "checkpoints")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.ready = self.until(Ready)

    def send(self, *requests: Any) -> None:
        """Write requests; bytes are written as they are."""
        assert self.process.stdin
        for request in requests:
            self.process.stdin.write(request if isinstance(request, bytes) else encode(request))
        self.process.stdin.flush()

    def next(self) -> AnyEvent:
        """The next event; the end of the pipe fails the test."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the worker ended: {self.words()}"
        return decode_event(line)

    def until(self, *kinds: type[AnyEvent]) -> Any:
        """The next event of one of these kinds."""
        while not isinstance(event := self.next(), kinds):
            pass
        return event

    def ask(self, request: Any) -> Any:
        """Send a request and give its answer."""
        self.send(request)
        return self.until(*ANSWERS)

    def words(self) -> str:
        """What the worker wrote to its log."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def end(self) -> int:
        """Close the input and wait for the end."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        self.log.close()
        return code


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path)
    yield pipe
    if pipe.process.poll() is None:
        pipe.end()


def test_ready_says_what_figures_depend_on_and_what_can_be_chosen(pipe: Pipe) -> None:
    environment = pipe.ready.environment
    assert environment.device in environment.devices and "cpu" in environment.devices
    assert environment.threads >= 1 and environment.torch.count(".") >= 2
    assert pipe.ready.catalogue.entry("methods", "magnitude").facts == {"granularity": "weight"}


def test_garbage_is_refused_with_a_sentence_and_the_worker_goes_on(pipe: Pipe) -> None:
    for line, said in (
        (b"hello\n", "not a line of JSON"),
        (b"\xff\xfe\x00\n", "not a line of JSON"),
        (b"[" * 100_000 + b"\n", "not a line of JSON"),
        (b"[1, 2]\n", "an operation is a table"),
        (b'{"op":"prun"}\n', "did you mean prune?"),
        (b'{"op":"prune","amount":7}\n', "a number from 0 to 1"),
        (b'{"op":"prune","amount":0.5,"mehtod":"magnitude"}\n', "did you mean method?"),
        (encode(Prune()), "no model is open"),
        (encode(Load(model="lenet-6", dataset="digits")), "did you mean lenet-5?"),
        (encode(Load(model="lenet-5", dataset="digit")), "did you mean digits?"),
        (encode(Load(model="lenet-5", dataset="digits", device="tpu")), "no device 'tpu' here"),
        (encode(Undo()), "nothing to undo"),
        (encode(Redo()), "nothing to redo"),
    ):
        answer = pipe.ask(line)
        assert isinstance(answer, Failed) and said in answer.error and not answer.bug
    assert isinstance(pipe.ask(LENET), Finished)


def test_which_layers_change_together_is_answered_without_changing_anything(pipe: Pipe) -> None:
    assert "no model is open" in pipe.ask(Groups()).error
    loaded = pipe.ask(LENET)
    answer = pipe.ask(Groups())
    assert isinstance(answer, Grouped)
    assert [group.layers for group in answer.groups] == [("fc1",), ("fc2",), ("fc3",)]
    assert answer.groups[0].readers == ("fc2",)
    assert pipe.ask(Evaluate(split="validation")).snapshot.fingerprint == loaded.snapshot.fingerprint


def test_a_refused_operation_leaves_the_state_as_it_was(pipe: Pipe) -> None:
    loaded = pipe.ask(LENET)
    assert isinstance(pipe.ask(Prune(layers=("nope",))), Failed)
    assert isinstance(pipe.ask(Prune(method="group-magnitude", layers=("fc3",))), Failed)
    assert isinstance(pipe.ask(Finetune(lr=1e12, epochs=1)), Failed)
    assert pipe.ask(Evaluate(split="validation")).snapshot.fingerprint == loaded.snapshot.fingerprint


def test_what_a_library_prints_never_reaches_the_pipe(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from labbench.bench.methods import magnitude\n"
        "quiet = magnitude.select\n"
        "def loud(*a, **k):\n"
        "    print('a stray print'); os.write(1, b'a stray write\\n'); os.system('echo a stray child')\n"
        "    return quiet(*a, **k)\n"
        "magnitude.select = loud\n"
        "from labbench.worker import main; main()\n"
    )
    pipe = Pipe(tmp_path, code)
    pipe.ask(LENET)
    assert isinstance(pipe.ask(Prune(amount=0.3)), Finished)
    pipe.process.stdin.close()
    assert pipe.process.wait(timeout=60) == 0
    assert all(stray in pipe.words() for stray in ("a stray print", "a stray write", "a stray child"))
    pipe.process.stdout.close()
    pipe.log.close()


def test_a_bug_is_answered_with_a_sentence_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    code = (
        "from labbench.bench.methods import magnitude\n"
        "def broken(*a, **k): raise ZeroDivisionError('by design')\n"
        "magnitude.select = broken\n"
        "from labbench.worker import main; main()\n"
    )
    pipe = Pipe(tmp_path, code)
    loaded = pipe.ask(LENET)
    answer = pipe.ask(Prune(amount=0.3))
    assert isinstance(answer, Failed) and answer.bug and "by design" in answer.error and "\n" not in answer.error
    preview = pipe.ask(Preview(operation=Prune(amount=0.3)))  # whoever waits for just this is answered with it
    assert isinstance(preview, Previewed) and preview.operation == Prune(amount=0.3) and "by design" in preview.error
    assert pipe.ask(Prune(amount=0.3, method="random")).snapshot.fingerprint != loaded.snapshot.fingerprint
    assert "Traceback" in pipe.words() and "by design" in pipe.words()
    assert pipe.end() == 0


def test_a_stop_keeps_what_was_learned_and_the_stopped_run_can_be_done_again(pipe: Pipe) -> None:
    loaded = pipe.ask(LENET)
    pipe.send(Finetune(**PLAIN, epochs=10_000, schedule="constant"))
    pipe.until(Started)
    seen = pipe.until(Progress)
    assert seen.phase == "train" and seen.steps > seen.step > 0 and seen.eta > 0 and seen.rate > 0 and seen.loss > 0
    stopped = pipe.ask(Stop())
    assert 0 < stopped.operation.steps < seen.steps and "stopped in epoch" in stopped.remarks[0]
    assert stopped.snapshot.fingerprint != loaded.snapshot.fingerprint
    pipe.ask(Undo())
    again = pipe.ask(stopped.operation)
    assert again.snapshot.fingerprint == stopped.snapshot.fingerprint and again.operation == stopped.operation


def test_a_stop_when_nothing_runs_does_not_stop_what_comes_next(pipe: Pipe) -> None:
    pipe.ask(LENET)
    pipe.send(Stop(), Stop())
    assert pipe.ask(Finetune(epochs=1)).operation.steps == 0


def test_only_the_newest_preview_is_answered_and_changes_nothing(pipe: Pipe) -> None:
    loaded = pipe.ask(LENET)
    amounts = [number / 100 for number in range(1, 60)]
    pipe.send(*[Preview(operation=Prune(amount=amount)) for amount in amounts], Note(text="end"))
    answered = []
    while isinstance(event := pipe.until(Previewed, Finished), Previewed):
        answered.append(event.operation.amount)
        assert event.snapshot.prunable.sparsity == pytest.approx(event.operation.amount, abs=1e-4)
    assert answered[-1] == amounts[-1] and len(answered) < len(amounts)
    refused = pipe.ask(Preview(operation=Prune(layers=("nope",))))
    assert "no such layer" in refused.error and refused.snapshot is None
    assert pipe.ask(Evaluate(split="validation")).snapshot.fingerprint == loaded.snapshot.fingerprint


def test_a_session_goes_on_in_another_worker_with_and_without_checkpoints(tmp_path: Path) -> None:
    first = Pipe(tmp_path)
    done = [LENET, Finetune(**PLAIN, epochs=1), Prune(amount=0.5), Freeze(layers=("fc1",)), Cluster(layers=("fc2",))]
    answers = [first.ask(operation) for operation in done]
    marks = tuple(answer.snapshot.fingerprint for answer in answers)
    first.ask(Undo())
    assert first.end() == 0
    back = restore_along(done, marks, now=4)
    second = Pipe(tmp_path)
    restored = second.ask(back)
    assert restored.recomputed == 0 and restored.snapshot == answers[3].snapshot
    assert second.ask(Redo()).snapshot == answers[4].snapshot
    assert [second.ask(Undo()).snapshot.fingerprint for _ in range(4)] == list(marks[3::-1])
    assert second.end() == 0
    shutil.rmtree(tmp_path / "checkpoints")
    third = Pipe(tmp_path)
    restored = third.ask(back)
    assert restored.recomputed == 4 and restored.snapshot.fingerprint == marks[3]
    assert third.end() == 0


def test_a_restore_that_cannot_be_had_is_refused(pipe: Pipe) -> None:
    answer = pipe.ask(restore_along([Prune()]))
    assert isinstance(answer, Failed) and "begins with load" in answer.error
    assert isinstance(pipe.ask(restore_along([LENET, Prune(layers=("nope",))])), Failed)
    assert "no model is open" in pipe.ask(Prune()).error


def test_a_restore_can_be_stopped_and_then_goes_on_where_it_was(pipe: Pipe) -> None:
    done = (LENET, Prune(amount=0.3), Finetune(**PLAIN, epochs=10_000))
    pipe.send(restore_along(done))
    while pipe.until(Progress).phase != "train":
        pass
    stopped = pipe.ask(Stop())
    assert isinstance(stopped, Failed) and stopped.operation is None and not stopped.bug
    assert "no model is open" in pipe.ask(Prune()).error
    assert pipe.ask(restore_along(done[:2])).recomputed == 0


def test_an_export_is_loaded_again_with_equal_figures(pipe: Pipe, tmp_path: Path) -> None:
    pipe.ask(LENET)
    pipe.ask(Finetune(epochs=1))
    pipe.ask(Prune(method="group-magnitude", amount=0.3))
    pipe.ask(Cluster(layers=("fc1",)))
    made = pipe.ask(Prune(layers=("fc2",), amount=0.8))
    target = tmp_path / "deep" / "model.safetensors"
    exported = pipe.ask(Export(path=str(target)))
    assert exported.size == target.stat().st_size > 0
    assert ".safetensors" in pipe.ask(Export(path=str(tmp_path / "model.zip"))).error
    loaded = pipe.ask(Load(model="lenet-300-100", dataset="digits", weights=str(target)))
    assert loaded.snapshot.fingerprint == made.snapshot.fingerprint
    assert loaded.snapshot.accuracy == made.snapshot.accuracy and len(loaded.operation.sha256) == 64
    assert [row.sparsity for row in loaded.snapshot.rows] == [row.sparsity for row in made.snapshot.rows]


def test_every_format_is_written_and_nothing_but_events_comes_out_of_the_pipe(pipe: Pipe, tmp_path: Path) -> None:
    pipe.ask(LENET)
    pipe.ask(Prune(amount=0.9))
    for suffix in EXPORT_FORMATS:
        target = tmp_path / f"model{suffix}"
        exported = pipe.ask(Export(path=str(target)))
        assert exported.size == target.stat().st_size > exported.gzipped > 0
        assert (exported.deviation is None) == (suffix in (".safetensors", ".pth", ".pt"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_ends_the_pipe_and_leaves_no_half_written_checkpoint(tmp_path: Path, number: int) -> None:
    pipe = Pipe(tmp_path)
    pipe.ask(LENET)
    pipe.send(Finetune(**PLAIN, epochs=10_000))
    pipe.until(Progress)
    os.kill(pipe.process.pid, number)
    assert pipe.process.stdout
    for line in pipe.process.stdout:
        json.loads(line)
    assert pipe.process.wait(timeout=60) == -number
    kept = store.Store(tmp_path / "checkpoints")
    entries = [store.decode(file.read_bytes()) for file in (kept.folder / "states").glob("*.json")]
    assert entries
    for piece in (piece for entry in entries for piece in entry.pieces):
        assert hashlib.sha256(kept.object_path(piece.object).read_bytes()).hexdigest() == piece.object
    pipe.process.stdout.close()
    assert pipe.process.stdin
    pipe.process.stdin.close()
    pipe.log.close()


def test_the_worker_ends_when_its_input_ends_even_while_it_trains(pipe: Pipe) -> None:
    pipe.ask(LENET)
    pipe.send(Finetune(**PLAIN, epochs=10_000))
    pipe.until(Progress)
    drain = threading.Thread(target=pipe.process.stdout.read)
    pipe.process.stdin.close()
    drain.start()
    assert pipe.process.wait(timeout=60) == 0
    drain.join()
    pipe.process.stdout.close()
    pipe.log.close()


def test_offline_and_absent_data_is_refused_with_folder_files_and_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    pipe = Pipe(tmp_path)
    answer = pipe.ask(Load(model="lenet-5", dataset="mnist"))
    assert all(word in answer.error for word in (str(tmp_path / "data"), "digits", "shapes", "ubyte"))
    assert pipe.end() == 0


def test_a_download_from_a_silent_server_is_stopped_at_once_and_the_state_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it is connected to, and never answers
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{silent.getsockname()[1]}")
        pipe = Pipe(tmp_path)
        assert isinstance(pipe.ask(LENET), Finished)
        pipe.send(Load(model="lenet-5", dataset="fashion-mnist"))
        while pipe.until(Progress).phase != "download":
            pass
        began = time.monotonic()
        pipe.send(Stop())
        assert pipe.until(*ANSWERS).error == "stopped: the model is as before"
        assert time.monotonic() - began < 2  # one, on a machine with nothing else to do
        assert [path for path in (tmp_path / "data" / "FashionMNIST").rglob("*") if path.is_file()] == []
        assert isinstance(pipe.ask(Evaluate()), Finished)
        assert pipe.end() == 0


def test_a_folder_of_images_is_read_anew_when_it_changes(pipe: Pipe, tmp_path: Path) -> None:
    def add(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (len(name), 0, 0)).save(tmp_path / name)

    load = Load(model="lenet-300-100", dataset="folder", data_options={"path": str(tmp_path / "pictures")})
    assert "there is no folder" in pipe.ask(load).error
    assert "folder needs a path" in pipe.ask(Load(model="lenet-5", dataset="folder")).error
    add(*(f"pictures/{name}/{number}.png" for name in "ab" for number in range(3)))
    assert pipe.ask(load).snapshot.accuracy["validation"].images == 2
    add(*(f"pictures/{name}/{number}.png" for name in "abc" for number in range(3, 13)))
    assert pipe.ask(load).snapshot.accuracy["validation"].images == 6
    assert len(list((tmp_path / "data" / "cached").iterdir())) == 1


OWN = """
import pathlib, sys
from torch import nn

pathlib.Path("touched").touch()
print("Epoch 1")
sys.stdout.write('{"event":"died","error":"made up"}\\n')


class Leaving(nn.Sequential):
    def forward(self, x):
        return sys.exit(4) if self.training and len(x) > 2 else super().forward(x)


def build(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, classes))


def leaving(classes):
    return Leaving(nn.Flatten(), nn.Linear(784, classes))


def asking(classes):
    return build(int(input("classes? ")))


def ending(classes):
    sys.exit(4)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """A worker in a folder with code of a user's."""
    (tmp_path / "net.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    pipe = Pipe(tmp_path)
    yield pipe
    if pipe.process.poll() is None:
        pipe.end()


def test_no_request_runs_code_that_was_not_trusted(own: Pipe, tmp_path: Path) -> None:
    load = Load(model="net.py:build", dataset="digits")
    assert isinstance(own.ask(LENET), Finished)
    own.send(Trust(model="net.py:other"))
    for request in (
        load,
        Load(model="net:build", dataset="digits"),
        Preview(operation=load),
        restore_along([load]),
        restore_along([LENET, Prune(), load], now=1),
        restore_along([load, Prune()], ("0" * 16, "1" * 16)),
    ):
        answer = own.ask(request)
        assert isinstance(
            answer,
            Restored if isinstance(request, Restore) and request.now == 1 < request.count else Failed | Previewed,
        )
    assert not (tmp_path / "touched").exists()
    assert "net.py:build is code" in own.ask(load).error
    own.send(Trust(model="net.py:build"))
    assert isinstance(own.ask(load), Finished)
    assert (tmp_path / "touched").exists()


def test_a_checkpoint_of_such_a_model_runs_nothing_either(own: Pipe, tmp_path: Path) -> None:
    load = Load(model="net.py:build", dataset="digits")
    own.send(Trust(model="net.py:build"))
    loaded = own.ask(load)
    pruned = own.ask(Prune(amount=0.5))
    assert own.end() == 0
    (tmp_path / "touched").unlink()
    restore = restore_along(
        (loaded.operation, Prune(amount=0.5)), (loaded.snapshot.fingerprint, pruned.snapshot.fingerprint)
    )
    again = Pipe(tmp_path)
    assert "net.py:build is code" in again.ask(restore).error
    assert not (tmp_path / "touched").exists()
    again.send(Trust(model="net.py:build"))
    restored = again.ask(restore)
    assert (restored.snapshot.fingerprint, restored.recomputed, restored.remarks) == (
        pruned.snapshot.fingerprint,
        0,
        (),
    )
    assert isinstance(again.ask(Undo()), Finished)
    (tmp_path / "net.py").write_text(OWN + "\n# edited\n")
    assert isinstance(again.ask(Redo()), Finished)
    again.end()
    later = Pipe(tmp_path)
    later.send(Trust(model="net.py:build"))
    assert later.ask(restore).remarks == ("net.py:build is not the code that was recorded (its SHA-256 differs)",)
    later.end()


def test_whatever_a_users_code_does_the_worker_goes_on(own: Pipe) -> None:
    for name in ("ending", "asking", "leaving", "build"):
        own.send(Trust(model=f"net.py:{name}"))
    assert "net.py:ending failed: SystemExit: 4 (net.py" in own.ask(Load(model="net.py:ending", dataset="digits")).error
    assert "net.py:asking failed: EOFError" in own.ask(Load(model="net.py:asking", dataset="digits")).error
    loaded = own.ask(Load(model="net.py:leaving", dataset="digits"))
    assert isinstance(loaded, Finished)
    answer = own.ask(Finetune(epochs=1))
    assert answer.error.startswith("net.py:leaving, or labbench with it, failed (SystemExit: 4 (net.py, line ")
    assert not answer.bug
    assert own.ask(Evaluate(split="validation")).snapshot.fingerprint == loaded.snapshot.fingerprint
    assert isinstance(own.ask(Load(model="net.py:build", dataset="digits")), Finished)
    assert "Epoch 1" in own.words()
    assert "Traceback" in own.words()


def test_a_folder_in_which_it_is_started_lends_the_worker_no_code(tmp_path: Path) -> None:
    for name in ("queue", "numpy", "msgspec"):
        (tmp_path / f"{name}.py").write_text("open('touched', 'w')\n")
    command = worker_command(tmp_path / "data", tmp_path / "checkpoints")
    done = subprocess.run(command, cwd=tmp_path, input=b"", capture_output=True, check=True)
    assert isinstance(decode_event(done.stdout.splitlines()[0]), Ready)
    assert not (tmp_path / "touched").exists()
