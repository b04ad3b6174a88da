"""Saving under another name, over another session too, and what else the app writes: old or new after every fault."""

import os
from pathlib import Path

import pytest
from faults import Disk, every_fault, on
from sample import lenet_events, lenet_session

from labbench.session.jsonl import BadFile, read
from labbench.session.operations import Finetune
from labbench.tui.record import Record
from labbench.tui.settings import Settings
from labbench.tui.takeover import take_over

EVENTS = [event for _, event in lenet_events()]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda file: None, raising=False)


def record_in(path, events):
    record = Record(path)
    for event in events:
        record.take(event)
    return record


def looked_at(folder):
    """The steps of each session there; that none is anything else is asked, too."""
    return {path.name: len(read(path)[1].steps) for path in folder.glob("*.jsonl")}


def save(folder):
    """What a bench does that recorded in s.jsonl, over whatever is in precious.jsonl."""
    record, _ = Record.open(folder / "s.jsonl")
    try:
        record.save_as(folder / "precious.jsonl")
    finally:
        record._writer.close()


@pytest.mark.parametrize("over", [False, True])
def test_saving_elsewhere_leaves_the_old_or_the_new_after_every_fault(tmp_path, over):
    def prepare(folder):
        record_in(folder / "s.jsonl", EVENTS).close()
        if over:
            record_in(folder / "precious.jsonl", EVENTS[:3]).close()

    assert every_fault(tmp_path, prepare, save, looked_at, (OSError, BadFile)) > 20


def test_who_cannot_save_over_a_session_goes_on_in_the_old_file(tmp_path):
    record_in(tmp_path / "precious.jsonl", EVENTS[:3]).close()
    before = (tmp_path / "precious.jsonl").read_bytes()
    record = record_in(tmp_path / "s.jsonl", EVENTS[:-2])
    with on(Disk(4, kind="full")), pytest.raises(OSError, match="No space left"):
        record.save_as(tmp_path / "precious.jsonl")
    assert (tmp_path / "precious.jsonl").read_bytes() == before
    for event in EVENTS[-2:]:
        assert not record.take(event)
    record.close()
    assert read(tmp_path / "s.jsonl")[1].changes == lenet_session().changes


def test_a_session_that_has_not_begun_replaces_nothing(tmp_path):
    path = tmp_path / "precious.jsonl"
    record_in(path, EVENTS[:3]).close()
    before = path.read_bytes()
    record = Record()
    with pytest.raises(FileExistsError, match="nothing was done yet"):
        record.save_as(path)
    record.save_as(tmp_path / "new.jsonl")
    for event in EVENTS:
        assert not record.take(event)
    assert path.read_bytes() == before
    assert read(tmp_path / "new.jsonl")[1].changes == lenet_session().changes


def test_a_session_of_a_recording_is_there_or_not_after_every_fault(tmp_path):
    recording = lenet_session()
    every_fault(
        tmp_path,
        lambda folder: None,
        lambda folder: take_over(recording, len(recording.events), folder, "lesson"),
        lambda folder: list(looked_at(folder).values()),
    )


def test_the_first_operation_of_a_session_is_told_whatever_the_disk_does(tmp_path):
    said = []

    def begin(folder: Path):
        record = Record(folder / "s.jsonl")
        said.extend(sentence for event in EVENTS[:3] if (sentence := record.take(event)))
        if record._writer:
            record._writer.close()

    cases = every_fault(tmp_path, lambda folder: None, begin, lambda folder: bool(looked_at(folder)))
    assert all("w saves the session elsewhere" in sentence for sentence in said)
    assert len(said) > cases // 3


def test_settings_are_the_old_or_the_new_after_every_fault(tmp_path):
    def keep(epochs):
        def save(folder):
            settings = Settings.load(folder / "settings.json")
            settings.remember(Finetune(epochs=epochs))
            settings.save()

        return save

    def look(folder):
        return Settings.load(folder / "settings.json").last("finetune").get("epochs")

    assert every_fault(tmp_path, keep(3), keep(7), look) > 10
