"""A full disk, a broken one and a kill at each call of each writing: old or new, never half; and what is said to stand
on the disk was synced before it was said."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Disk, every_fault, on
from msgspec.structs import replace
from power import every_power_cut
from session_examples import HERE, LOAD, finished

from labbench.session import archive, integrity, jsonl
from labbench.session.jsonl import VERSION, Header, Writer, encode, keep_tolerance, read
from labbench.session.keys import keys_of
from labbench.session.operations import Cluster, Finetune, Prune
from labbench.session.spread import Spread
from labbench.session.store import Store

HEADER = Header(labbench=VERSION, title="a lesson", environment=HERE)
EVENTS = [(float(number), event) for number, event in enumerate([*finished(LOAD), *finished(Prune())])]
TUNED = finished(Finetune())[-1]
OTHER = Header(labbench=VERSION, title="precious")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is really waited for: whether it was asked for is what counts."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda file: None, raising=False)


def session_in(folder: Path) -> object:
    """Header and events of the session there, in whatever format, or None."""
    path = folder / "s.jsonl"
    if not path.exists():
        return None
    header, session, _ = read(path)
    return replace(header, labbench=VERSION), session.events


def begin(folder: Path, header: Header = HEADER, events: Any = EVENTS, **options: Any) -> None:
    Writer(folder / "s.jsonl", header, events, **options).close()


def go_on(folder: Path) -> None:
    with Writer(folder / "s.jsonl", None) as writer:
        writer.write(9.0, TUNED)


def begin_old(folder: Path) -> None:
    """A file of the first format, in which k-means was another, cut off in its last line."""
    begin(folder, replace(HEADER, labbench=1), [*EVENTS, (5.0, finished(Cluster(layers=("conv1",), k=3))[-1])])
    with (folder / "s.jsonl").open("ab") as file:
        file.write(encode((6.0, TUNED))[:-9])


def spread(folder: Path) -> None:
    keep_tolerance(folder / "s.jsonl", {2: {"validation": Spread(mean=0.9, sd=0.01, n=3)}})


SESSIONS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "a new session": (lambda folder: None, begin),
    "an event more": (begin, go_on),
    "a file of an older format goes on": (begin_old, go_on),
    "the spread over seeds": (begin, spread),
    "in the place of another": (
        lambda folder: begin(folder, OTHER, EVENTS[:3]),
        lambda folder: begin(folder, replace=True),
    ),
}


@pytest.mark.parametrize("what", SESSIONS)
def test_a_session_is_the_old_or_the_new_after_every_fault(what: str, tmp_path: Path) -> None:
    assert every_fault(tmp_path, *SESSIONS[what], session_in) > 6


PARTS = [(("x",), b"x" * 1000), (("y",), b"y" * 1000)]


def kept(folder: Path) -> Store:
    return Store(folder / "checkpoints")


def states_in(folder: Path) -> object:
    """The states of which every byte is there; that nothing else can be read as one is asked, too."""
    store = kept(folder)
    entries = {entry.key: store.get(entry.key) for entry in store.entries()}
    found = integrity.checkpoints(store)
    assert not [fault for fault in found.faults if fault.broken]
    return {
        key: entry and [store.checked(piece).read_bytes() for piece in entry.pieces] for key, entry in entries.items()
    }


def test_a_checkpoint_is_there_or_not_after_every_fault_and_others_stay(tmp_path: Path) -> None:
    cases = every_fault(
        tmp_path,
        lambda folder: kept(folder).put("other", "{}", PARTS[:1]),
        lambda folder: kept(folder).put("a", "{}", PARTS),
        states_in,
    )
    assert cases > 30


def with_checkpoints(folder: Path) -> None:
    begin(folder)
    for key in keys_of(read(folder / "s.jsonl")[1]).values():
        kept(folder).put(key, "{}", [((key,), key.encode() * 100)])


def archive_in(folder: Path) -> object:
    path = folder / "a.zip"
    return archive.opened(path).content if path.exists() else None


def pack(folder: Path) -> None:
    archive.pack(folder / "s.jsonl", kept(folder), folder / "a.zip")


def pack_another(folder: Path) -> None:
    """An archive of what is only the beginning."""
    with_checkpoints(folder)
    pack(folder)
    with Writer(folder / "s.jsonl", None) as writer:
        writer.write(9.0, TUNED)


@pytest.mark.parametrize("prepare", [with_checkpoints, pack_another])
def test_an_archive_is_the_old_or_the_new_after_every_fault(prepare: Callable[[Path], None], tmp_path: Path) -> None:
    assert every_fault(tmp_path, prepare, pack, archive_in) > 60


def test_what_is_unpacked_is_there_or_not_after_every_fault(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        pack_another(folder)
        (folder / "s.jsonl").unlink()
        kept(folder).shrink(0)

    def unpack(folder: Path) -> None:
        archive.unpack(archive.opened(folder / "a.zip"), kept(folder), folder / "s.jsonl")

    def look(folder: Path) -> object:
        states_in(folder)
        return session_in(folder)

    assert every_fault(tmp_path, prepare, unpack, look) > 60


# What is said to stand on the disk


def order(folder: Path, operate: Callable[[Path], None]) -> list[str]:
    disk = Disk()
    with on(disk):
        operate(folder)
    return [call for call in disk.calls if call in ("write", "fsync", "fdatasync", "replace", "link")]


on_linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which file is meant")


@on_linux
@pytest.mark.parametrize("what", SESSIONS)
def test_a_session_is_the_old_or_the_new_after_every_power_cut_and_the_new_when_it_was_written(
    what: str, tmp_path: Path
) -> None:
    assert every_power_cut(tmp_path, *SESSIONS[what], session_in) > 6


@on_linux
def test_a_checkpoint_is_there_or_not_after_every_power_cut_and_there_when_it_was_put(tmp_path: Path) -> None:
    def look(folder: Path) -> object:
        store = kept(folder)
        entries = {entry.key: store.get(entry.key) for entry in store.entries()}
        return {
            key: [store.checked(piece).read_bytes() for piece in entry.pieces]
            for key, entry in entries.items()
            if entry
        }

    cuts = every_power_cut(
        tmp_path,
        lambda folder: kept(folder).put("other", "{}", PARTS[:1]),
        lambda folder: kept(folder).put("a", "{}", PARTS),
        look,
    )
    assert cuts > 30


@on_linux
def test_an_archive_is_the_old_or_the_new_after_every_power_cut(tmp_path: Path) -> None:
    assert every_power_cut(tmp_path, pack_another, pack, archive_in) > 40


def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path: Path) -> None:
    assert order(tmp_path, begin)[-4:] == ["write", "fsync", "link", "fsync"]
    assert order(tmp_path, spread) == ["write", "fsync", "replace", "fsync"]


def test_objects_stand_on_the_disk_before_the_state_that_names_them(tmp_path: Path) -> None:
    kept(tmp_path).put("other", "{}", PARTS[:1])
    calls = order(tmp_path, lambda folder: kept(folder).put("a", "{}", PARTS) and None)
    assert calls == ["write", "replace", *["fsync"] * 3, "write", "fsync", "replace", "fsync"]


def test_a_finished_operation_is_synced_and_nothing_that_comes_more_often(tmp_path: Path) -> None:
    begin(tmp_path, events=EVENTS[:2])
    with Writer(tmp_path / "s.jsonl", None) as writer:
        for _, event in EVENTS[2:]:
            disk = Disk()
            with on(disk):
                writer.write(9.0, event)
            assert ("fdatasync" in disk.calls) is (event == EVENTS[-1][1])


def test_half_a_line_is_taken_back_where_the_disk_is_full(tmp_path: Path) -> None:
    begin(tmp_path)
    before = (tmp_path / "s.jsonl").read_bytes()
    disk = Disk(2, kind="full")
    with on(disk), pytest.raises(OSError, match="No space left"):
        go_on(tmp_path)
    assert disk.calls[1] == "write"
    assert (tmp_path / "s.jsonl").read_bytes() == before


def test_half_a_line_that_cannot_be_taken_back_goes_before_the_next_is_written(tmp_path: Path) -> None:
    begin(tmp_path)
    disk = Disk(2, 3)
    with on(disk), Writer(tmp_path / "s.jsonl", None) as writer:
        with pytest.raises(OSError, match="Input/output"):
            writer.write(9.0, TUNED)
        assert disk.calls[1:] == ["write", "truncate"]
        assert read(tmp_path / "s.jsonl")[2], "half of it stands there"
        writer.write(9.0, TUNED)
    _, session, notice = read(tmp_path / "s.jsonl")
    assert session.events == [*EVENTS, (9.0, TUNED)] and not notice


def test_a_file_that_got_too_large_to_be_read_is_not_made_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path)
    before = (tmp_path / "s.jsonl").read_bytes()
    monkeypatch.setattr(jsonl, "LIMIT", len(before) + 10)
    with pytest.raises(OSError, match="a session file has at most"):
        go_on(tmp_path)
    assert (tmp_path / "s.jsonl").read_bytes() == before
    assert session_in(tmp_path)
