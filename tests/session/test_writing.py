"""Files that are there whole or not at all."""

import errno
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
    left, growing = tmp_path / ".file.77.part", tmp_path / ".file.78.part"
    for part in (left, growing):
        part.write_text("half")
    long_ago = time.time() - 2 * writing.ABANDONED
    os.utime(left, (long_ago, long_ago))
    with writing.whole(path) as part:
        part.write_text("whole")
    assert sorted(tmp_path.iterdir()) == [growing, path]


def part(name: str, host: str = "", pid: int = 2**22 + 1) -> str:
    """What the part of a process that is gone is called, on a machine."""
    return f".{name}.{host or writing._here()}-{pid}-0a1b2c3d.part"


def test_parts_of_processes_that_are_gone_go_whatever_they_were_to_become(tmp_path):
    gone = [part("a"), part("b\n.c"), part("folder")]
    stay = [part("d", pid=os.getpid()), part("e", host="01234567"), ".f.77.part", "g.part", ".h.part", ".i.x-1.part"]
    for name in (*gone[:-1], *stay):
        (tmp_path / name).write_text("half")
    (tmp_path / gone[-1]).mkdir()
    (tmp_path / gone[-1] / "export.pt2").write_text("half")
    with writing.whole(tmp_path / "file") as made:
        made.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"file", *stay}
    long_ago = time.time() - 2 * writing.ABANDONED
    for name in stay:
        os.utime(tmp_path / name, (long_ago, long_ago))
    writing.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", *stay[3:]}, "what is no part of labbench's stays"
    writing.sweep(tmp_path / "nowhere")


def test_a_link_is_written_through_and_what_may_be_done_to_a_file_stays(tmp_path):
    real, link = tmp_path / "there" / "real", tmp_path / "link"
    real.parent.mkdir()
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with writing.whole(link, writing.PRIVATE) as made:
        made.write_text("new")
    assert link.is_symlink() and real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    with writing.whole(tmp_path / "own", writing.PRIVATE) as made:
        made.write_text("new")
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_taken_is_not_written_over_and_a_guessed_name_is_not_opened(tmp_path):
    with pytest.raises(FileExistsError), writing.whole(tmp_path / "file", new=True) as made:
        (tmp_path / "file").write_text("somebody else was quicker")
        made.write_text("new")
    with pytest.raises(FileExistsError), writing.whole(tmp_path / "file", new=True):
        pass
    assert [path.read_text() for path in tmp_path.iterdir()] == ["somebody else was quicker"]
    names = set()
    for _ in range(2):
        with writing.whole(tmp_path / "file") as made:
            names.add(made.name)
    assert len(names) == 2


def test_where_there_are_no_hard_links_a_new_file_is_whole_too(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unable)
    with writing.whole(tmp_path / "file", new=True) as made:
        made.write_text("new")
    with pytest.raises(FileExistsError), writing.whole(tmp_path / "other", new=True) as made:
        (tmp_path / "other").write_text("somebody else was quicker")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "file": "new",
        "other": "somebody else was quicker",
    }


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        with pytest.raises(OSError, match="a pipe or a device"), writing.whole(tmp_path / name) as made:
            made.write_text("new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), writing.whole(tmp_path / "folder") as made:
        made.write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "null", "pipe"]


def test_who_needs_the_name_writes_under_it_in_a_folder_that_goes(tmp_path):
    path = tmp_path / "model.pt2"
    for text in ("old", "new"):
        with writing.whole(path, named=True) as made:
            assert made.name == path.name and made.parent != path.parent
            made.write_text(text)
    with pytest.raises(KeyboardInterrupt), writing.whole(path, named=True) as made:
        raise KeyboardInterrupt
    assert [one.read_text() for one in tmp_path.iterdir()] == ["new"]


def test_many_files_and_folders_are_synced_and_what_fails_is_told(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    paths = [tmp_path / f"{number}" for number in range(20)]
    for number, path in enumerate(paths):
        path.mkdir() if number % 2 else path.touch()
    writing.sync_all(paths)
    assert sorted(synced) == sorted(path.stat().st_ino for path in paths)
    with pytest.raises(FileNotFoundError):
        writing.sync_all([*paths, tmp_path / "nowhere"])


def test_a_name_of_the_longest_kind_can_be_written(tmp_path):
    path = tmp_path / ("ä" * 127)
    with writing.whole(path) as made:
        made.write_text("new")
    assert path.read_text() == "new"
