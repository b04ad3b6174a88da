"""Whatever is killed, the next start goes on: the app asks, and the run ends as one that was never interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import killable
from hosting import seen
from killable import TUNE, WORKER

from labbench import folders
from labbench.session.events import Died, Metric, Ready
from labbench.session.jsonl import BadFile, read
from labbench.session.operations import Undo
from labbench.tui.app import LabbenchApp

PATIENCE = 30.0  # seconds: torch is imported while others work on the same cores


def session():
    (path,) = folders.sessions().glob("*.jsonl")
    return read(path)[1]


def wait(condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (OSError, ValueError):  # the file is not there yet
            pass
        time.sleep(0.03)
    raise AssertionError("it did not come true")


def measured():
    """The last epoch whose figures are in the file."""
    events = [event for _, event in session().events]
    return max(
        (event.x for event in events if isinstance(event, Metric) and event.name == "validation/loss"), default=0
    )


def started(pids):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(killable.__file__).parent), *sys.path])}
    return subprocess.Popen([sys.executable, killable.__file__, "app", str(pids)], env=environment)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


async def patiently(pilot, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, folders.log().read_text()[-3000:]
        await pilot.pause(0.05)


async def test_a_run_goes_on_after_the_worker_the_app_and_both_were_killed(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pids = tmp_path / "pids"
    first = started(pids)
    wait(lambda: measured() >= 2)
    kill(int(pids.read_text()))
    wait(lambda: measured() >= 3 and any(isinstance(event, Died) for _, event in session().events))
    first.kill()
    first.wait()
    assert session().interrupted.operation == TUNE
    second = started(pids)
    wait(lambda: measured() >= 5)
    kill(int(pids.read_text()))
    second.kill()
    second.wait()
    known = session().interrupted.measured
    assert known >= 5

    app = LabbenchApp(command=WORKER)
    async with app.run_test(size=(80, 24)) as pilot:
        await patiently(pilot, lambda: "Open another" in seen(app))
        assert f"after epoch {known} of 8" in " ".join(seen(app).split())
        await pilot.press("enter")
        await patiently(pilot, lambda: "Leave it" in seen(app))
        await pilot.press("enter")
        await patiently(pilot, lambda: len(app.desk.session.steps) == 2)
        for operation in (Undo(), TUNE):  # never interrupted, to compare with
            count = len(app.desk.session.steps)
            app.desk.perform(operation)
            await patiently(pilot, lambda count=count: len(app.desk.session.steps) > count)
        await pilot.press("q")
        await patiently(pilot, lambda: not app.is_running)
    made = session()
    broken, whole = made.steps[1], made.steps[3]
    assert broken.operation == whole.operation == TUNE
    assert broken.snapshot == whole.snapshot
    assert broken.snapshot.fingerprint
    assert broken.event.remarks[0].startswith("went on after epoch ")
    assert whole.event.remarks == broken.event.remarks[1:]
    assert made.runs == [0.0, 8.0]
    for name in ("train/loss", "validation/loss", "validation/accuracy", "sparsity"):
        points = made.curves[name].points
        assert [x for x, _ in points] == [float(x) for x in range(1, 17)]
        assert [y for _, y in points[:8]] == [y for _, y in points[8:]]
    assert sum(isinstance(event, Ready) for _, event in made.events) == 3, "the header has the first"
    assert not list(folders.checkpoints().glob("*.run"))


def test_a_file_cut_off_anywhere_opens_or_is_refused(tmp_path):
    """Every byte of a crash: nothing but a session, with a notice, or a sentence."""
    import random

    from sample import lenet_events

    from labbench.tui.record import Record

    record = Record(tmp_path / "whole.jsonl")
    for _, event in lenet_events():
        record.take(event)
    record.close()
    content = record.path.read_bytes()
    header = content.index(b"\n") + 1
    chance = random.Random(0)
    places = [*range(0, header, 40), *(chance.randrange(len(content)) for _ in range(200)), len(content)]
    path = tmp_path / "cut.jsonl"
    for place in places:
        path.write_bytes(content[:place])
        try:
            found, notice = Record.open(path)
        except BadFile as error:
            assert place < header
            assert "not a session file" in str(error)
            assert path.read_bytes() == content[:place]
        else:
            assert place >= header
            assert bool(notice) is (content[place - 1 : place] != b"\n")
            found.close()
            assert len(read(path)[1].steps) == len(found.session.steps)
