"""An archive brings back what was packed, byte for byte, and is refused before anything is written if it was touched,
or made by somebody else for another purpose."""

import hashlib
import itertools
import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from session_examples import LOAD, finished, snapshot

from labbench.session import archive, jsonl, store
from labbench.session.archive import BadArchive, opened, pack, unpack
from labbench.session.jsonl import Header, Writer
from labbench.session.keys import keys_of
from labbench.session.operations import AnyOperation, Finetune, Note, Prune, Undo
from labbench.session.session import Session
from labbench.session.store import Store

STOPPED = Finetune(epochs=3, steps=7)
STEPS: tuple[AnyOperation, ...] = (LOAD, Note(text="hello"), Prune(amount=0.5), STOPPED, Undo(), Prune(amount=0.9))


def written(path: Path, *operations: AnyOperation) -> Session:
    """A session file of these operations, each with a fingerprint of its own."""
    marks = (f"{number:016x}" for number in itertools.count(1))
    with Writer(path, Header(labbench=jsonl.VERSION, title="A lesson")) as writer:
        for operation in operations:
            for event in finished(
                operation, None if isinstance(operation, Note) else snapshot(fingerprint=next(marks))
            ):
                writer.write(0.0, event)
    return jsonl.read(path)[1]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return written(tmp_path / "lesson.jsonl", *STEPS)


@pytest.fixture
def kept(tmp_path: Path, session: Session) -> Store:
    """A store with every state of the session, and one of another."""
    found = Store(tmp_path / "checkpoints")
    for number, key in keys_of(session).items():
        found.put(
            key, f'{{"point": {number}}}', [(("shared",), b"s" * 5000), ((f"own {number}",), b"%d" % number * 900)]
        )
    found.put(f"{keys_of(session)[4]}.run", "{}", [(("momentum",), b"m" * 700)])
    found.put("other", "{}", [(("other",), b"o" * 800)])
    return found


@pytest.fixture
def packed(tmp_path: Path, kept: Store) -> Path:
    path = tmp_path / "lesson.labbench.zip"
    pack(tmp_path / "lesson.jsonl", kept, path)
    return path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_session_and_its_checkpoints_come_back(tmp_path: Path, session: Session, kept: Store, packed: Path) -> None:
    found = opened(packed)
    assert found.name == "lesson.jsonl"
    assert (found.checkpoints.points, found.checkpoints.missing) == ((1, 3, 4, 6), ())
    there = Store(tmp_path / "there")
    new = unpack(found, there, tmp_path / "elsewhere" / "lesson.jsonl")
    assert (tmp_path / "elsewhere" / "lesson.jsonl").read_bytes() == (tmp_path / "lesson.jsonl").read_bytes()
    wanted = {*keys_of(session).values(), f"{keys_of(session)[4]}.run"}
    assert {entry.key for entry in there.entries()} == wanted
    assert new == there.size()
    for key in wanted:
        before, after = kept.get(key), there.get(key)
        assert before and after
        assert not after.here
        assert msgspec.structs.replace(after, here=True) == before
        for piece in after.pieces:
            assert there.checked(piece).read_bytes() == kept.checked(piece).read_bytes()
    assert unpack(found, there, tmp_path / "elsewhere" / "lesson.jsonl") == 0


def test_what_was_computed_here_stays_what_it_is(tmp_path: Path, session: Session, kept: Store, packed: Path) -> None:
    kept.drop(keys_of(session)[1])
    assert unpack(opened(packed), kept, tmp_path / "lesson.jsonl") > 0
    assert {entry.key: entry.here for entry in kept.entries()} == {
        **dict.fromkeys((*keys_of(session).values(), f"{keys_of(session)[4]}.run", "other"), True),
        keys_of(session)[1]: False,
    }


def test_the_same_session_gives_the_same_archive_and_nothing_else_lies_beside_it(
    tmp_path: Path, kept: Store, packed: Path
) -> None:
    before = packed.read_bytes()
    (tmp_path / "to").mkdir()
    pack(tmp_path / "lesson.jsonl", kept, tmp_path / "to" / "again.zip")
    assert everything(tmp_path / "to") == {"again.zip": before}
    with zipfile.ZipFile(packed) as plain:
        assert plain.testzip() is None, "any program opens it"
        assert plain.read("session.jsonl") == (tmp_path / "lesson.jsonl").read_bytes()


def test_checkpoints_that_are_not_there_or_broken_are_named(tmp_path: Path, session: Session, kept: Store) -> None:
    keys = keys_of(session)
    kept.drop(keys[1])
    kept.drop(f"{keys[4]}.run")
    own = kept.get(keys[6])
    assert own
    kept.object_path(own.pieces[1].object).write_bytes(b"rotten")
    _, found = pack(tmp_path / "lesson.jsonl", kept, tmp_path / "a.zip")
    assert (found.points, found.missing) == ((3,), (1, 4, 6)), "of a stopped run, what goes on is missed, too"
    assert opened(tmp_path / "a.zip").checkpoints.missing == (1, 4, 6)


def test_a_session_without_checkpoints_is_packed_too(tmp_path: Path, session: Session) -> None:
    _, found = pack(tmp_path / "lesson.jsonl", Store(tmp_path / "none"), tmp_path / "a.zip")
    assert (found.points, found.missing) == ((), (1, 3, 4, 6))
    assert unpack(opened(tmp_path / "a.zip"), Store(tmp_path / "there"), tmp_path / "b.jsonl") == 0
    assert jsonl.read(tmp_path / "b.jsonl")[1].changes == session.changes


# Refusals


def test_an_archive_with_one_wrong_byte_is_refused(packed: Path) -> None:
    content = packed.read_bytes()
    chance = random.Random(0)
    places = {*range(60), *range(len(content) - 100, len(content)), *chance.sample(range(len(content)), 140)}
    for place in places:
        packed.write_bytes(content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :])
        with pytest.raises(BadArchive, match=r"is damaged, or no archive|is no archive of labbench pack"):
            opened(packed)
    for length in (0, 1, 22, 63, 64, 65, len(content) // 2, len(content) - 1):
        packed.write_bytes(content[:length])
        with pytest.raises(BadArchive):
            opened(packed)
    packed.write_bytes(content + b"0")
    with pytest.raises(BadArchive):
        opened(packed)


def remade(packed: Path, change: Callable[[dict[str, bytes]], None], **of_member: Any) -> None:
    """The archive with other members, sealed as if `pack` had written it."""
    with zipfile.ZipFile(packed) as source:
        members = {name: source.read(name) for name in source.namelist()}
    change(members)
    with zipfile.ZipFile(packed, "w") as out:
        for name, content in members.items():
            info = zipfile.ZipInfo(name.removesuffix("#"))
            for field, value in of_member.items():
                setattr(info, field, value)
            out.writestr(info, content)
        out.comment = b"0" * 64
    content = packed.read_bytes()[:-64]
    packed.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def first(members: dict[str, bytes], folder: str) -> str:
    return next(name for name in members if name.startswith(folder))


def edited(members: dict[str, bytes], **changes: Any) -> None:
    """Change an entry."""
    name = first(members, "states/")
    members[name] = msgspec.json.encode(msgspec.json.decode(members[name]) | changes)


def without(*names: str) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        for name in names:
            del members[name if "." in name else first(members, name)]

    return change


def named(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({"labbench.json": msgspec.json.encode({"name": name})})


def added(name: str, content: bytes = b"x") -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({name: content})


PIECE = {"object": "a" * 64, "size": 10, "names": ["x"]}
OUTSIDE = {"object": "../" * 21 + "x", "size": 10, "names": ["x"]}
HUGE = {"object": "a" * 64, "size": 2**60, "names": ["x"]}
BAD: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "a path outside": (added("../x.jsonl"), "does not belong"),
    "an absolute path": (added("/etc/cron.d/x"), "does not belong"),
    "a path outside in a folder": (added("states/../../x.json"), "does not belong"),
    "a folder": (added("states/"), "does not belong"),
    "another file": (added("x.sh"), "does not belong"),
    "an object by another name": (added("objects/" + "A" * 64 + ".safetensors"), "does not belong"),
    "a backslash": (added("states\\x.json"), "does not belong"),
    "no contents": (without("labbench.json"), "is no archive"),
    "no session": (without("session.jsonl"), "is no archive"),
    "a missing object": (without("objects/"), "do not belong together"),
    "a missing state": (without("states/"), "do not belong together"),
    "an object of nobody": (added(f"objects/{'a' * 64}.safetensors"), "do not belong together"),
    "another object": (
        lambda m: m.update({first(m, "objects/"): b"#" + m[first(m, "objects/")][1:]}),
        "the hash in its name",
    ),
    "another length": (lambda m: m.update({first(m, "objects/"): b"x"}), "do not belong together"),
    "a state of another session": (added(f"states/{'b' * 24}-f00d.json", b'{"pieces":[],"text":""}'), "no checkpoint"),
    "a name outside": (named("../lesson.jsonl"), "is no archive"),
    "an absolute name": (named("/tmp/lesson.jsonl"), "is no archive"),
    "a hidden name": (named(".bashrc.jsonl"), "is no archive"),
    "a name of another kind": (named("lesson.sh"), "is no archive"),
    "a name with a command": (named("a\x1b[31m.jsonl"), "is no archive"),
    "a long name": (named("ä" * 120 + ".jsonl"), "is no archive"),
    "a later format": (added("labbench.json", b'{"pack":2,"name":"lesson.jsonl"}'), "is no archive"),
    "a broken session": (added("session.jsonl", b"hello\n"), "line 1: not a session file"),
    "a session with a broken line": (
        lambda m: m.update({"session.jsonl": m["session.jsonl"] + b"[0, 1]\n"}),
        "lesson.jsonl, line 14",
    ),
    "a broken state": (lambda m: m.update({first(m, "states/"): b"{"}), "states/"),
    "a deep state": (lambda m: m.update({first(m, "states/"): b"[" * 10**5}), "states/"),
    "an object outside": (lambda m: edited(m, pieces=[OUTSIDE]), "states/"),
    "a missing piece": (lambda m: edited(m, pieces=[PIECE]), "do not belong together"),
    "a huge piece": (lambda m: edited(m, pieces=[HUGE]), "states/"),
    "an unknown field": (lambda m: edited(m, more=1), "states/"),
}


@pytest.mark.parametrize("what", BAD)
def test_an_archive_of_somebody_else_is_refused_in_a_sentence(packed: Path, what: str) -> None:
    change, words = BAD[what]
    remade(packed, lambda members: None)
    assert opened(packed).name == "lesson.jsonl", "remade as it was, it is read"
    remade(packed, change)
    with pytest.raises(BadArchive, match=words) as caught:
        opened(packed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "of_member",
    [
        {"external_attr": (stat.S_IFLNK | 0o777) << 16},
        {"external_attr": (stat.S_IFIFO | 0o644) << 16},
        {"compress_type": zipfile.ZIP_DEFLATED},
    ],
    ids=["links", "pipes", "packed"],
)
def test_members_that_are_no_plain_files_are_refused(packed: Path, of_member: dict[str, int]) -> None:
    remade(packed, lambda members: None, **of_member)
    with pytest.raises(BadArchive, match="is not kept as labbench keeps it"):
        opened(packed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(packed: Path) -> None:
    remade(packed, lambda members: members.update({"session.jsonl#": b"another"}))
    with pytest.raises(BadArchive, match="is not kept as labbench keeps it"):
        opened(packed)


def test_more_than_is_kept_at_most_is_refused(packed: Path) -> None:
    size = opened(packed).checkpoints.size
    assert opened(packed, size).checkpoints.size == size
    with pytest.raises(BadArchive, match=f"take {size:,} bytes; {size - 1:,} are kept at most"):
        opened(packed, size - 1)
    assert archive.opened.__defaults__ == (store.LIMIT,)


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    for content in (b"", b"hello", b"PK\x03\x04", b"PK\x03\x04" * 100):
        path.write_bytes(content)
        with pytest.raises(BadArchive, match="no archive of labbench pack"):
            opened(path)
    body = b"PK\x03\x04" * 100
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    with pytest.raises(BadArchive, match="is no archive of labbench pack"):
        opened(path)


def test_zips_with_any_other_bytes_give_no_traceback(packed: Path) -> None:
    """With a seal that fits, what the zip itself says is all that can be wrong."""
    content = packed.read_bytes()[:-64]
    middle = content.rindex(b"PK\x05\x06")
    start = content.index(b"PK\x01\x02")
    chance = random.Random(1)
    for place in [*range(middle, len(content)), *(chance.randrange(start, middle) for _ in range(300))]:
        broken = content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
        packed.write_bytes(broken + hashlib.sha256(broken).hexdigest().encode())
        try:
            found = opened(packed)
        except BadArchive as error:
            assert "\n" not in str(error)
        else:
            assert found.name == "lesson.jsonl"
