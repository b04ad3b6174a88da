"""A worker that nobody listens to any more ends within some seconds, whatever it is at."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labbench.session.events import Ready, Started, Trust
from labbench.session.jsonl import decode_event, encode
from labbench.session.operations import Load

CODE = """
import labbench.worker
labbench.worker.GRACE = 1.0
labbench.worker.main()
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with a short patience, in a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "--data-dir", "data", "--checkpoints", "checkpoints"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdin and process.stdout
    process.stdin.close()
    process.stdout.close()


def until(process: subprocess.Popen[bytes], kind: type) -> None:
    """Read its events until one is of this kind."""
    assert process.stdout
    for line in process.stdout:
        if line.strip() and isinstance(decode_event(line), kind):
            return
    raise AssertionError("the worker ended")


BLOCKED = {
    "a pipe that nobody writes to": "import os\nos.mkfifo('pipe')\nopen('pipe')\n",
    "a computation that hears no stop": "while True:\n    pass\n",
}


@pytest.mark.parametrize("code", BLOCKED.values(), ids=BLOCKED)
def test_a_worker_that_hears_no_stop_ends_when_its_input_has_ended(
    worker: subprocess.Popen[bytes], code: str, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(code)
    assert worker.stdin
    until(worker, Ready)
    for request in (Trust(model="net.py:build"), Load(model="net.py:build", dataset="digits")):
        worker.stdin.write(encode(request))
    worker.stdin.flush()
    until(worker, Started)
    worker.stdin.close()
    assert worker.wait(timeout=30) == 1
