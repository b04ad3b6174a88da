"""A record: the file begins with the first operation, and holds what the screen showed."""

import pytest
from fake_worker import ENVIRONMENT
from sample import lenet_events, lenet_session

from labbench.session.events import Ready, Started
from labbench.session.jsonl import BadFile, read
from labbench.session.operations import Finetune
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


def test_a_run_that_the_end_of_the_recording_cut_off_is_told(tmp_path):
    record = Record(tmp_path / "a.jsonl")
    for event in [*EVENTS, Started(operation=Finetune(epochs=7))]:
        record.take(event)
    record.close()
    _, notice = Record.open(tmp_path / "a.jsonl")
    assert notice.startswith("finetune 7 epochs") and "was not finished" in notice
