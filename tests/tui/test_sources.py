"""What can be gone on with: every session that was cut off, however large or odd the files beside it are."""

import os
import time
from pathlib import Path

import pytest
from hosting import seen, until
from sample import lenet_events
from stub import app_on

from labbench import folders
from labbench.session.jsonl import Writer
from labbench.tui import sources
from labbench.tui.record import Record
from labbench.tui.sources import cut_off, recent


def left(name: str, age: float, closed: bool = False) -> Path:
    """A session in labbench's own folder, so many seconds old."""
    record = Record(folders.sessions() / name)
    for _, event in lenet_events():
        record.take(event)
    record.close(closed)
    os.utime(record.path, (time.time() - age,) * 2)
    return record.path


def test_all_that_were_cut_off_are_offered_the_newest_first():
    for age, name in enumerate(("closed.jsonl", "new.jsonl", "middle.jsonl", "old.jsonl")):
        left(name, age, closed=name == "closed.jsonl")
    broken = folders.sessions() / "broken.jsonl"
    broken.write_text("broken\n")
    os.utime(broken, (0, 0))
    offered = {
        "new.jsonl": "2 older sessions were cut off, too: Open marks them.",
        "middle.jsonl": "1 older session was cut off, too: Open marks it.",
        "old.jsonl": "",
    }
    for name, others in offered.items():
        found = cut_off(folders.sessions())
        assert found.path.name == name
        assert found.question.startswith(f"{name} was not closed in order: lenet-5 on digits, 10 operations. Continue")
        assert others in found.question and ("older" in found.question) is bool(others)
        marked = {one.path.name for one in recent(folders.sessions()) if one.cut_off}
        assert name in marked and "closed.jsonl" not in marked and "broken.jsonl" not in marked
        Record.open(found.path)[0].close()
    assert cut_off(folders.sessions()) is None


def test_what_is_recorded_elsewhere_is_neither_offered_nor_marked():
    path = left("a.jsonl", 0)
    with Writer(path, None):
        assert cut_off(folders.sessions()) is None
        assert not any(one.cut_off for one in recent(folders.sessions()))
    assert cut_off(folders.sessions()).path == path


def test_a_large_session_is_offered_without_being_read(monkeypatch):
    path = left("large.jsonl", 0)
    monkeypatch.setattr(sources, "LARGE", 100)
    monkeypatch.setattr(sources, "read", lambda path: pytest.fail("it was read"))
    assert cut_off(folders.sessions()).question == "large.jsonl was not closed in order: 0 MB. Continue there?"
    path.write_bytes(b"no session\n" * 100)
    assert cut_off(folders.sessions()) is None


def test_what_is_no_file_is_passed_over_and_hides_no_other():
    folder = folders.sessions()
    path = left("a.jsonl", 9)
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "endless.jsonl").symlink_to("/dev/zero")
    (folder / "gone.jsonl").symlink_to("nowhere")
    (folder / "folder.jsonl").mkdir()
    assert cut_off(folder).path == path
    assert [one.path for one in recent(folder)] == [path]
    for name in ("pipe", "endless", "folder"):
        assert sources.problem_of(folder / f"{name}.jsonl") == "is no regular file"


async def test_open_marks_what_was_cut_off():
    left("new.jsonl", 0)
    left("old.jsonl", 1)
    app = app_on()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "1 older session was cut off, too: Open marks it." in seen(app))
        await pilot.press("n")
        await until(pilot, lambda: seen(app).count("cut off · ") == 2)


def test_what_labbench_names_itself_is_for_its_user_alone():
    record = Record()
    for _, event in lenet_events():
        record.take(event)
    named = Record(folders.sessions().parent / "handed-in.jsonl")
    for _, event in lenet_events():
        named.take(event)
    before = os.umask(0o022)
    os.umask(before)
    assert record.path.stat().st_mode & 0o777 == 0o600
    assert named.path.stat().st_mode & 0o777 == 0o666 & ~before
