"""Files that are there whole or not at all."""

import os
import time

import pytest

from labbench.session import writing


def test_the_file_appears_when_it_is_written_and_not_before(tmp_path):
    path = tmp_path / "made" / "on demand" / "file"
    with writing.whole(path) as part:
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), writing.whole(path) as part:
        part.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_but_not_what_another_is_writing(tmp_path):
    path = tmp_path / "file"
    left, growing = tmp_path / ".file.77.part", tmp_path / f".file.{os.getpid()}.part"
    for part in (left, growing):
        part.write_text("half")
    long_ago = time.time() - 2 * writing.ABANDONED
    os.utime(left, (long_ago, long_ago))
    with writing.whole(path) as part:
        part.write_text("whole")
    assert sorted(tmp_path.iterdir()) == [growing, path]
