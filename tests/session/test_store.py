"""The store of checkpoints: every object once, nothing half written, room is made in a given order, and nobody's file
is taken away while others write."""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from labbench.session import store as stores
from labbench.session.store import Broken, Busy, Dropped, Store

Part = tuple[tuple[str, ...], bytes]


def part(letter: str, size: int = 1000) -> Part:
    return (letter,), letter.encode() * size


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def put(store: Store, key: str, *parts: Part, used: float = 0.0, here: bool = True) -> None:
    """Keep a state, used that long after 1970."""
    store.put(key, "{}", parts, here=here)
    os.utime(store.path(key), (used, used))


def keys(store: Store) -> list[str]:
    return [entry.key for entry in store.entries()]


def objects(store: Store) -> str:
    """The letters of the objects that are there."""
    return "".join(sorted(path.read_bytes()[:1].decode() for path in store.folder.glob("objects/*/*")))


def test_what_was_put_is_read_and_stands_once(store: Store) -> None:
    first, new = store.put("a", '{"one": 1}', [part("x"), part("y")])
    assert store.put("b", "{}", [part("y"), part("z")])[1] < new
    entry = store.get("a")
    assert entry is not None
    assert entry == first
    assert (entry.text, entry.here) == ('{"one": 1}', True)
    assert [(piece.names, store.checked(piece).read_bytes()) for piece in entry.pieces] == [part("x"), part("y")]
    assert objects(store) == "xyz"
    assert store.size() == sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    assert store.get("c") is None


def test_an_object_is_named_by_what_is_in_it(store: Store) -> None:
    store.put("a", "{}", [part("x")])
    sha = hashlib.sha256(b"x" * 1000).hexdigest()
    assert (store.folder / "objects" / sha[:2] / f"{sha}.safetensors").read_bytes() == b"x" * 1000


@pytest.mark.parametrize("content", [b"", b"x" * 999, b"x" * 999 + b"y", b"x" * 1001])
def test_an_object_that_is_not_what_its_name_says_is_refused_and_goes(store: Store, content: bytes) -> None:
    store.put("a", "{}", [part("x")])
    entry = store.get("a")
    assert entry is not None
    path = store.object_path(entry.pieces[0].object)
    path.write_bytes(content)
    with pytest.raises(Broken, match="its bytes are not what its name says"):
        store.checked(entry.pieces[0])
    assert not path.exists()
    with pytest.raises(Broken):
        store.checked(entry.pieces[0])
    store.put("b", "{}", [part("x")])
    assert store.checked(entry.pieces[0]).read_bytes() == b"x" * 1000


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../a", "a/b", "/a", "a\n", "a\0", ".hidden", "a b", "x" * 151, "\u202e", "ä"]
)
def test_a_name_that_is_no_file_of_the_folder_is_refused(store: Store, key: str) -> None:
    with pytest.raises(Broken, match="no name of a checkpoint"):
        store.put(key, "{}", [])
    assert store.get(key) is None
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("sha", ["../../../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "a" * 65])
def test_an_entry_that_names_no_object_is_refused(sha: str) -> None:
    raw = {"pieces": [{"object": sha, "size": 1, "names": []}], "text": ""}
    with pytest.raises(Broken):
        stores.decode(msgspec.json.encode(raw))


def test_what_is_kept_is_for_its_user_alone(store: Store) -> None:
    store.put("a", "{}", [part("x")])
    assert {path.stat().st_mode & 0o777 for path in store.folder.rglob("*") if path.is_file()} == {0o600}


# Room


def test_states_used_longest_ago_go_first_and_those_of_elsewhere_last(store: Store) -> None:
    put(store, "elsewhere", part("e"), used=1, here=False)
    put(store, "old", part("o"), used=2)
    put(store, "new", part("n"), used=3)
    put(store, "middle", part("m"), used=2.5)
    for left in (["elsewhere", "middle", "new"], ["elsewhere", "new"], ["elsewhere"], []):
        assert store.shrink(store.size() - 1).states == 1
        assert keys(store) == left
    assert objects(store) == ""
    assert store.size() == 0


def test_what_cannot_be_computed_again_stays_if_only_the_others_are_to_go(store: Store) -> None:
    put(store, "elsewhere", part("e"), part("s"), here=False)
    put(store, "here", part("h"), part("s"))
    before = store.size()
    dropped = store.shrink(0, others=False)
    assert (dropped.states, dropped.freed, dropped.left) == (1, before - store.size(), store.size())
    assert keys(store) == ["elsewhere"]
    assert objects(store) == "es"


def test_an_object_stays_while_a_state_has_it(store: Store) -> None:
    put(store, "a", part("s"), part("a"), used=1)
    put(store, "b", part("s"), part("b"), used=2)
    assert store.shrink(store.size() - 1).states == 1
    assert objects(store) == "bs"
    left = store.size()
    assert store.shrink(0) == Dropped(states=1, freed=left, left=0)


def test_a_state_and_its_run_go_together_and_count_as_one(store: Store) -> None:
    put(store, "a", part("a"), used=1)
    put(store, "a.run", part("r"), used=3)
    put(store, "b", part("b"), used=2)
    assert store.shrink(store.size() - 1).states == 1
    assert keys(store) == ["a", "a.run"], "what was used last of a state counts"
    store.shrink(1, newest="a")
    assert keys(store) == ["a", "a.run"], "the newest stays whatever the limit"
    assert store.shrink(1).states == 1
    assert keys(store) == []


def test_runs_under_way_count_and_go_last_the_oldest_first(store: Store) -> None:
    put(store, "a", part("a"))
    for used, name in enumerate(("old", "new")):
        run = store.folder / stores.UNDER_WAY / f"{name}.run"
        run.parent.mkdir(exist_ok=True)
        run.write_bytes(b"r" * 500)
        os.utime(run, (used, used))
    assert store.shrink(1000).left == store.size() == 1000
    assert keys(store) == []
    assert store.shrink(999) == Dropped(states=0, freed=500, left=500)
    assert [path.name for path in (store.folder / stores.UNDER_WAY).iterdir()] == ["new.run"]


def test_a_store_is_held_at_its_limit_with_room_for_what_comes(store: Store) -> None:
    for number, letter in enumerate("abcdefghijklmnop"):
        put(store, letter, part(letter), used=number)
        store.hold(10_000, letter)
        assert store.size() <= 10_000
        os.utime(store.path(letter), (number, number))
    assert keys(store) == list("ijklmnop")[-len(keys(store)) :]
    assert len(keys(store)) >= 6


def test_what_others_wrote_counts_too(store: Store) -> None:
    put(store, "a", part("a"), used=1)
    store.hold(10_000, "a")
    other = Store(store.folder)
    for number, letter in enumerate("bcdefghi"):
        put(other, letter, part(letter), used=2 + number)
    for number, letter in enumerate("jkl"):
        put(store, letter, part(letter), used=20 + number)
        store.hold(10_000, letter)
    assert store.size() <= 10_000


def test_leftovers_of_killed_writers_and_objects_without_a_state_are_swept(store: Store) -> None:
    put(store, "a", part("a"))
    (path,) = store.folder.glob("objects/*/*")
    path.with_name(f".{path.name}.123.part").write_bytes(b"half")
    (store.folder / "states" / ".b.json.123.part").write_bytes(b"half")
    orphan = store.object_path("0" * 64)
    orphan.parent.mkdir()
    orphan.write_bytes(b"nobody's")
    assert store.shrink(10**9) == Dropped(states=0, freed=16, left=store.size())
    assert objects(store) == "a"
    assert keys(store) == ["a"]


def test_files_that_are_none_of_the_store_are_left_alone(store: Store) -> None:
    put(store, "a", part("a"))
    (store.folder / "notes.txt").write_text("mine")
    (store.folder / "states" / "notes.txt").write_text("mine")
    (store.folder / "states" / "no entry.json").write_text("mine")
    store.shrink(0)
    assert sorted(path.name for path in store.folder.rglob("*.txt")) == ["notes.txt", "notes.txt"]


# Several at once


def test_while_one_writes_nobody_clears(store: Store) -> None:
    def parts():
        yield part("a")
        with pytest.raises(Busy, match="another labbench is writing"):
            Store(store.folder).shrink(0, wait=0.05)
        other = Store(store.folder)
        other.put("b", "{}", [part("b")])
        other.hold(10)
        yield part("c")

    store.put("a", "{}", parts())
    assert objects(store) == "abc"
    assert sorted(keys(store)) == ["a", "b"]


def test_where_there_are_no_locks_a_new_object_is_left_alone_for_a_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, kind: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    put(store, "a", part("a"))
    for sha, age in (("0" * 64, 0), ("1" * 64, stores.GRACE + 1)):
        path = store.object_path(sha)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    store.shrink(10**9)
    assert objects(store) == "ax"


WRITER = """
import sys
from pathlib import Path
from labbench.session.store import Store

store = Store(Path(sys.argv[1]))
print("go", flush=True)
number = 0
while True:
    number += 1
    store.put(f"state-{number % 7}", "{}", [((str(n),), f"{number} {n} ".encode() * 20_000) for n in range(4)])
"""


def test_a_writer_that_is_killed_leaves_nothing_half(store: Store) -> None:
    for delay in (0.03, 0.05, 0.08):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(store.folder)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout and writer.stdout.readline() == b"go\n"
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        entries = [store.get(key) for key in keys(store)]
        assert len(entries) == len(list((store.folder / "states").glob("*.json")))
        for entry in entries:
            assert entry is not None
            assert len([store.checked(piece) for piece in entry.pieces]) == 4
    assert keys(store)
    store.shrink(10**9)
    assert not list(store.folder.rglob("*.part"))
