"""Files of others: what is no regular file or too large is refused at once, in a sentence; names may be any bytes."""

import os
from pathlib import Path

import pytest
from session_examples import LOAD, finished

from labbench.session import archive, jsonl, lock, reading, recipe
from labbench.session.archive import BadArchive
from labbench.session.check import BadInput
from labbench.session.events import Export
from labbench.session.jsonl import VERSION, BadFile, Header, Writer, encode, read
from labbench.session.lock import InUse
from labbench.session.operations import Prune
from labbench.session.spread import Spread
from labbench.session.store import Store


def written(path: Path) -> Path:
    Writer(path, Header(labbench=VERSION), [(0.0, event) for event in finished(LOAD)]).close()
    return path


@pytest.fixture
def odd(tmp_path: Path) -> list[Path]:
    """A pipe that nobody writes to, a file without an end, and one that is larger than any memory."""
    pipe, endless, huge = (tmp_path / f"{name}.jsonl" for name in ("pipe", "endless", "huge"))
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    with huge.open("wb") as file:
        file.truncate(2**40)
    return [pipe, endless, huge]


def test_what_is_no_file_of_bounded_size_is_refused_wherever_it_is_read(odd: list[Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "checkpoints")
    (store.folder / "states").mkdir(parents=True)
    for path, said in zip(odd, ("a pipe or a device", "a pipe or a device", "are too many"), strict=True):
        with pytest.raises(BadFile, match=said):
            read(path)
        with pytest.raises(BadInput, match=said):
            recipe.read(path)
        with pytest.raises(BadFile, match=said):
            archive.pack(path, store, tmp_path / "a.zip")
        store.path("a").unlink(missing_ok=True)
        store.path("a").symlink_to(path)
        assert store.get("a") is None and store.entries() == []
        with pytest.raises(OSError, match=said), Writer(path, None) as writer:
            writer.write(0.0, finished(Prune())[0])
    for path in odd[:2]:
        with pytest.raises(OSError, match="a pipe or a device"):
            archive.opened(path)
    with odd[2].open("r+b") as file:
        file.write(b"PK\x03\x04")
    with pytest.raises(BadArchive, match="more than labbench packs"):
        archive.opened(odd[2])


def test_a_line_that_is_too_long_is_refused_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "s.jsonl")
    monkeypatch.setattr(jsonl, "LINE_LIMIT", 200)
    with pytest.raises(BadFile, match=r"s\.jsonl, line 3: [0-9,]+ bytes are too many: a line has at most 200"):
        read(path)


def test_a_long_file_goes_on_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "s.jsonl")
    whole = path.read_bytes()
    monkeypatch.setattr(jsonl, "CHUNK", 7)
    for rest in (b"", b"[9.0,", b"[" * 100):
        path.write_bytes(whole + rest)
        with Writer(path, None) as writer:
            writer.write(9.0, finished(Prune())[0])
        assert path.read_bytes().startswith(whole + b'[9.0,{"event":"started"')
        assert not read(path)[2]


def test_whoever_locks_a_file_that_was_replaced_meanwhile_takes_the_one_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = written(tmp_path / "s.jsonl"), written(tmp_path / "other.jsonl")
    take = lock.take

    def replaced(file: object) -> None:
        monkeypatch.setattr(lock, "take", take)
        os.replace(other, path)
        take(file)  # type: ignore[arg-type]

    monkeypatch.setattr(lock, "take", replaced)
    with lock.opened(path) as file:
        assert os.path.samestat(os.fstat(file.fileno()), path.stat())
        with pytest.raises(InUse):
            lock.opened(path)


def test_the_spread_over_seeds_goes_into_the_file_that_a_link_names(tmp_path: Path) -> None:
    path, link = written(tmp_path / "s.jsonl"), tmp_path / "link.jsonl"
    link.symlink_to(path)
    jsonl.keep_tolerance(link, {1: {"test": Spread(mean=0.9, sd=0.01, n=3)}})
    assert link.is_symlink()
    assert read(path)[0].tolerance[1]["test"].n == 3


def test_names_that_are_no_utf_8_are_sent_and_come_back(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff \xe4.pth")
    assert reading.path_of(reading.text_of(odd)) == odd
    assert encode(Export(path=reading.text_of(odd)))
    plain = tmp_path / "ä %41.pth"
    assert reading.text_of(plain) == str(plain) and reading.path_of(str(plain)) == plain
    assert encode({"file": str(odd)}).decode().count("?") == 2


def test_a_session_whose_name_is_no_utf_8_is_packed_and_unpacked(tmp_path: Path) -> None:
    path = written(tmp_path / os.fsdecode(b"\xff.jsonl"))
    store = Store(tmp_path / "checkpoints")
    archive.pack(path, store, tmp_path / "a.zip")
    found = archive.opened(tmp_path / "a.zip")
    assert found.name == "\ufffd.jsonl"
    archive.unpack(found, store, tmp_path / found.name)
    assert read(tmp_path / found.name)[1].changes == (LOAD,)
