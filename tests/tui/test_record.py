"""A record: the file begins with the first operation, and holds what the screen showed."""

import errno
import fcntl

import pytest
from fake_worker import ENVIRONMENT
from sample import lenet_events, lenet_session

from labbench.session.events import Closed, Ready, Started
from labbench.session.jsonl import BadFile, keep_tolerance, read
from labbench.session.lock import InUse
from labbench.session.operations import Finetune
from labbench.session.spread import Spread
from labbench.tui.record import Record

EVENTS = [event for _, event in lenet_events()]


def test_a_session_without_operations_leaves_no_file(tmp_path):
    record = Record(tmp_path / "new.jsonl")
    record.take(Ready(environment=ENVIRONMENT))
    record.close()
    assert not list(tmp_path.glob("*.jsonl"))


def test_what_was_taken_in_is_in_the_file(tmp_path):
    record = Record(tmp_path / "new.jsonl")
    assert [record.take(event) for event in EVENTS] == [""] * len(EVENTS)
    assert record.recording
    header, session, notice = read(record.path)
    assert header.environment == ENVIRONMENT
    assert session.changes == record.session.changes
    assert session.curves.keys() == record.session.curves.keys()
    assert not notice


def test_a_file_of_its_own_is_named_after_model_and_data():
    first, second = Record(), Record()
    for record in (first, second):
        for event in EVENTS[:3]:
            record.take(event)
    assert first.path.name.endswith("-lenet-5-digits.jsonl")
    assert second.path != first.path


def test_continuing_goes_on_in_the_same_file_and_time(tmp_path):
    record = Record(tmp_path / "a.jsonl")
    for event in EVENTS[:-4]:
        record.take(event)
    record.close()
    again, _ = Record.open(tmp_path / "a.jsonl")
    assert again.seconds >= again.session.seconds
    for event in EVENTS[-4:]:
        again.take(event)
    _, session, _ = read(tmp_path / "a.jsonl")
    assert session.changes == lenet_session().changes


def test_saving_elsewhere_takes_all_along_and_goes_on_there(tmp_path):
    record = Record(tmp_path / "a.jsonl")
    for event in EVENTS[:-2]:
        record.take(event)
    (tmp_path / "b.jsonl").write_text("an old file that the user agreed to replace")
    record.save_as(tmp_path / "b.jsonl")
    for event in EVENTS[-2:]:
        record.take(event)
    assert len(read(tmp_path / "b.jsonl")[1].steps) == len(read(tmp_path / "a.jsonl")[1].steps) + 1
    with pytest.raises(OSError, match="already"):
        record.save_as(tmp_path / "b.jsonl")


def test_a_copy_carries_the_spread_that_its_file_carried(tmp_path):
    first = Record(tmp_path / "a.jsonl")
    for event in EVENTS:
        first.take(event)
    spread = {2: {"validation": Spread(mean=0.9, sd=0.01, n=3)}}
    with pytest.raises(InUse, match="open in another labbench"):
        keep_tolerance(first.path, spread)
    first.close()
    keep_tolerance(first.path, spread)
    second, _ = Record.open(first.path)
    second.save_as(tmp_path / "b.jsonl")
    second.close()
    assert read(tmp_path / "b.jsonl")[0].tolerance == read(tmp_path / "a.jsonl")[0].tolerance == spread


def test_a_file_that_cannot_be_written_is_told_once_and_breaks_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    record = Record(tmp_path / "file" / "new.jsonl")
    said = [sentence for event in EVENTS if (sentence := record.take(event))]
    assert len(said) == 1
    assert "cannot be written" in said[0]
    assert record.session.changes == lenet_session().changes
    assert not record.recording


def test_an_event_that_does_not_follow_is_told(tmp_path):
    record = Record(tmp_path / "new.jsonl")
    assert "does not follow" in [record.take(event) for event in EVENTS if "undo" in repr(event).lower()][1]


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "bad.jsonl").write_text("{}\nnonsense\n")
    with pytest.raises(BadFile, match=r"bad\.jsonl"):
        Record.open(tmp_path / "bad.jsonl")


def test_a_run_that_the_end_of_the_recording_cut_off_is_known(tmp_path):
    record = Record(tmp_path / "a.jsonl")
    for event in [*EVENTS, Started(operation=Finetune(epochs=7))]:
        record.take(event)
    record.close(in_order=False)
    again, _ = Record.open(tmp_path / "a.jsonl")
    again.take(Ready(environment=ENVIRONMENT))
    assert again.session.running is None
    assert again.session.interrupted.operation == Finetune(epochs=7)


def test_a_file_says_at_its_end_whether_it_was_closed_in_order(tmp_path):
    for in_order in (True, False):
        record = Record(tmp_path / f"{in_order}.jsonl")
        for event in EVENTS:
            record.take(event)
        record.close(in_order)
        events = [event for _, event in read(record.path)[1].events]
        assert (events[-1] == Closed()) is in_order


def test_who_opens_what_another_records_looks_at_it_and_can_go_on_in_a_copy(tmp_path):
    first = Record(tmp_path / "a.jsonl")
    for event in EVENTS[:-2]:
        first.take(event)
    second, notice = Record.open(first.path)
    assert second.held.startswith("this session is open in another labbench")
    assert "w saves a copy" in notice
    assert second.session.changes == first.session.changes
    assert not second.recording
    second.take(Ready(environment=ENVIRONMENT))
    second.close()
    with pytest.raises(FileExistsError, match="open in another labbench"):
        second.save_as(first.path)
    other = Record(tmp_path / "other.jsonl")
    for event in EVENTS[:5]:
        other.take(event)
    with pytest.raises(FileExistsError, match="another labbench records there"):
        second.save_as(other.path)
    second.save_as(tmp_path / "b.jsonl")
    assert second.recording and not second.held
    for record in (first, second):
        for event in EVENTS[-2:]:
            record.take(event)
    for record in (first, second):
        assert read(record.path)[1].changes == lenet_session().changes
    first.close()
    third, _ = Record.open(first.path)
    assert third.recording


def test_without_locks_nothing_is_guarded(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unable)
    for _ in range(2):
        record, notice = Record(tmp_path / "a.jsonl"), ""
        if record.path.exists():
            record, notice = Record.open(record.path)
        for event in EVENTS[:3]:
            record.take(event)
        assert record.recording and not record.held and not notice
