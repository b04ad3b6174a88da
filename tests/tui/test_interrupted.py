"""Whatever is killed, the next start goes on: the app asks, and the run ends as one that was never interrupted."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import killable
from fake_worker import ENVIRONMENT
from hosting import seen, until
from killable import TUNE, WORKER
from sample import lenet_events
from stub import app_on
from textual.widgets import Input

from labbench import folders
from labbench.session.events import Died, Metric, Ready, Restored, Started
from labbench.session.jsonl import BadFile, read
from labbench.session.operations import Finetune, Load, Undo
from labbench.tui.app import LabbenchApp
from labbench.tui.record import Record
from labbench.tui.screens.open import OpenScreen
from labbench.tui.sources import cut_off

PATIENCE = 120.0  # seconds: torch is imported while others work on the same cores


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
        assert time.monotonic() < end, seen(pilot.app)
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
    after, *others = broken.event.remarks
    went_on = re.fullmatch(r"went on after epoch (\d), where it was interrupted", after)
    assert known <= int(went_on[1]) <= known + 1, "the file may not have heard of the last one"
    if "again" in others[0]:  # else it was kept just then
        assert others.pop(0).endswith("computed again, to the same figures")
    assert whole.event.remarks == tuple(others)
    assert made.runs == [0.0, 8.0]
    for name in ("train/loss", "validation/loss", "validation/accuracy", "sparsity"):
        points = made.curves[name].points
        assert [x for x, _ in points] == [float(x) for x in range(1, 17)]
        assert [y for _, y in points[:8]] == [y for _, y in points[8:]]
    assert sum(isinstance(event, Ready) for _, event in made.events) == 3, "the header has the first"
    assert not list((folders.checkpoints() / "runs").iterdir())


def test_a_file_cut_off_anywhere_opens_or_is_refused(tmp_path):
    """Every byte of a crash: nothing but a session, with a notice, or a sentence."""
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


def left_behind(in_order, *more):
    """The session of an app that is gone, in the folder of sessions."""
    record = Record()
    for event in [*(event for _, event in lenet_events()), *more]:
        record.take(event)
    record.close(in_order)
    return record.path


async def start(*keys):
    """What is on the screen after a start without arguments, and these keys; and the app."""
    app = app_on()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(app.screen_stack) > 1)
        await pilot.pause()
        await pilot.press(*keys)
        app.link.hear(Ready(environment=ENVIRONMENT))
        await until(pilot, lambda: app.desk.worker != "starting")
        if app.desk.worker == "restoring":
            app.link.hear(Restored(snapshot=app.desk.session.snapshot))
            await until(pilot, lambda: app.desk.worker == "ready")
        await pilot.pause()
        return app, seen(app), [*app.link.sent], isinstance(app.screen, OpenScreen)


async def test_a_session_that_was_cut_off_is_offered_at_the_next_start():
    path = left_behind(False)
    app, text, _, _ = await start()
    assert path.name in text
    assert "lenet-5 on digits, 10 operations. Continue there?" in " ".join(text.replace("│", "").split())
    app, _, sent, _ = await start("enter")
    assert app.desk.record.path == path
    assert sent == [app.desk.session.restore()]


async def test_who_opens_another_is_asked_what():
    left_behind(False)
    for key in ("n", "escape"):
        app, _, _, asked = await start(key)
        assert asked
        assert app.desk.record.path is None


async def test_what_was_closed_in_order_or_is_open_elsewhere_or_has_nothing_in_it_is_not_offered():
    path = left_behind(True)
    assert cut_off(folders.sessions()) is None
    path.unlink()
    path = left_behind(False)
    holder, _ = Record.open(path)
    assert cut_off(folders.sessions()) is None
    assert (await start())[3]
    holder.close(in_order=False)
    assert cut_off(folders.sessions()).path == path
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    assert cut_off(folders.sessions()) is None
    path.write_bytes(b"garbage\n")
    assert cut_off(folders.sessions()) is None


async def test_an_interrupted_operation_is_asked_about_after_the_session_and_can_be_left():
    run = Finetune(epochs=20)
    left_behind(False, Started(operation=run), Metric(name="validation/accuracy", x=5, y=0.9))
    assert "interrupted after epoch 5 of 20. Continue there?" in cut_off(folders.sessions()).question
    app, text, sent, _ = await start("enter")
    assert "Leave it" in text
    assert sent[-1] == app.desk.session.restore()


async def test_a_file_that_is_given_is_continued_and_asks_only_what_to_go_on_with():
    left_behind(False)
    path = left_behind(False, Started(operation=Finetune(epochs=20)))
    app = app_on(session_path=path)
    async with app.run_test(size=(80, 24)) as pilot:
        app.link.hear(Ready(environment=ENVIRONMENT))
        await until(pilot, lambda: app.desk.worker == "restoring")
        app.link.hear(Restored(snapshot=app.desk.session.snapshot))
        await until(pilot, lambda: "Leave it" in seen(app))
        await pilot.press("n")
        await until(pilot, lambda: "Leave it" not in seen(app))
        app.desk.perform(Load(model="lenet-5", dataset="digits"))
        await until(pilot, lambda: app.link.sent[-1] == Load(model="lenet-5", dataset="digits"))
        assert Finetune(epochs=20) not in app.link.sent


async def test_the_second_app_on_a_session_says_so_in_its_first_line_and_saves_a_copy():
    path = left_behind(True)
    holder, _ = Record.open(path)
    app = app_on(session_path=path)
    async with app.run_test(size=(120, 40)) as pilot:
        app.link.hear(Ready(environment=ENVIRONMENT))
        await until(pilot, lambda: app.desk.worker == "restoring")
        app.link.hear(Restored(snapshot=app.desk.session.snapshot))
        await until(pilot, lambda: "⊘" in seen(app).splitlines()[0])
        await until(pilot, lambda: "w save as" in seen(app).splitlines()[-1])
        await pilot.press("f", "u")
        assert len(app.link.sent) == 1, "nothing but the request to restore"
        await pilot.press("w")
        await until(pilot, lambda: app.screen.query(Input))
        await pilot.press("enter")
        await until(pilot, lambda: "●" in seen(app).splitlines()[0])
        assert app.desk.record.path == path.with_stem(f"{path.stem}-copy")
        await pilot.press("space", "f")
        await until(pilot, lambda: len(app.link.sent) == 2)
    holder.close()
