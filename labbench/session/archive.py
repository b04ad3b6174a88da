"""One file that carries a session and its checkpoints to another machine: a zip whose last 64 characters are the
SHA-256 of all that stands before them. Everything in it is checked before anything of it is written."""

import hashlib
import os
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from labbench.session import jsonl, reading, store
from labbench.session.keys import keys_of
from labbench.session.operations import Finetune
from labbench.session.session import Session
from labbench.session.store import RUN, Broken, Entry, Piece, Store
from labbench.session.writing import whole

ENDING = ".labbench.zip"
CONTENTS, SESSION = "labbench.json", "session.jsonl"
MEMBER = re.compile(r"labbench\.json|session\.jsonl|states/[A-Za-z0-9._-]+\.json|objects/[0-9a-f]{64}\.safetensors")
SEAL = 64  # characters
DATE = (2020, 1, 1, 0, 0, 0)  # of every member: the same session gives the same archive
CHUNK = 2**20
LONGEST_NAME = 200  # bytes
FAULTS = (zipfile.BadZipFile, OSError, ValueError, LookupError, RuntimeError, EOFError, OverflowError, struct.error)
"""What zipfile raises over a zip that was made by hand."""


class BadArchive(ValueError):
    """A file that `pack` did not write, or that is damaged; the message names the file and the reason."""


class Contents(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What says that a zip is an archive of a session."""

    pack: Literal[1] = 1
    """Version of the format."""
    name: Annotated[str, Meta(min_length=7, max_length=LONGEST_NAME)]
    """What the session file is called."""


@dataclass(frozen=True)
class Checkpoints:
    """Those of one session."""

    entries: dict[str, Entry]
    """By their names; a stopped run stands beside its state."""
    points: tuple[int, ...]
    """The points of the session whose states are there."""
    missing: tuple[int, ...]
    """The others: they will be computed again."""

    @property
    def objects(self) -> dict[str, Piece]:
        """What they are made of, each once."""
        return {piece.object: piece for entry in self.entries.values() for piece in entry.pieces}

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(piece.size for piece in self.objects.values())


@dataclass(frozen=True)
class Archive:
    """An archive that was checked."""

    path: Path
    name: str
    """What the session file is called."""
    content: bytes
    """Of the session file."""
    session: Session
    checkpoints: Checkpoints = field(repr=False)


def checkpoints_of(session: Session, entries: dict[str, Entry]) -> Checkpoints:
    """Which points of a session have their states among these entries. A run that was stopped needs what goes on."""
    keys = keys_of(session)
    there = {number for number, key in keys.items() if key in entries}
    for number in tuple(there):
        operation = session.tree.items[number].operation
        if isinstance(operation, Finetune) and operation.steps and keys[number] + RUN not in entries:
            there.remove(number)
    return Checkpoints(entries, tuple(sorted(there)), tuple(sorted(keys.keys() - there)))


def pack(file: Path, kept: Store, to: Path) -> tuple[Session, Checkpoints]:
    """Write a session file and the checkpoints of its points that are there into an archive.

    Raises `jsonl.BadFile`, and `OSError`.
    """
    content = jsonl.load(file)
    _, session, _ = jsonl.parse(file, content)
    name = os.fsencode(file.name if file.suffix == ".jsonl" else f"{file.name}.jsonl").decode(errors="replace")
    with kept.steady():
        wanted = [key + end for key in dict.fromkeys(keys_of(session).values()) for end in ("", RUN)]
        entries = {key: entry for key in wanted if (entry := _whole(kept, key))}
        found = checkpoints_of(session, entries)
        with whole(to) as part:
            with zipfile.ZipFile(part, "w") as out:
                _add(out, CONTENTS, msgspec.json.encode(Contents(name=name)))
                _add(out, SESSION, content)
                for key, entry in entries.items():
                    _add(out, f"states/{key}.json", msgspec.json.encode(entry))
                for sha in found.objects:
                    with (
                        kept.object_path(sha).open("rb") as source,
                        out.open(_member(f"objects/{sha}.safetensors"), "w") as sink,
                    ):
                        shutil.copyfileobj(source, sink, CHUNK)
                out.comment = b"0" * SEAL
            with part.open("r+b") as sealed:
                digest = _digest(part)
                sealed.seek(-SEAL, os.SEEK_END)
                sealed.write(digest)
    return session, found


def _whole(kept: Store, key: str) -> Entry | None:
    """An entry whose objects are all there and what they should be."""
    entry = kept.get(key)
    try:
        for piece in entry.pieces if entry else ():
            kept.checked(piece)
    except Broken:
        return None
    return entry


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, DATE)
    info.external_attr = 0o644 << 16
    return info


def _add(out: zipfile.ZipFile, name: str, content: bytes) -> None:
    out.writestr(_member(name), content)


def _digest(path: Path) -> bytes:
    """The SHA-256, in hexadecimal digits, of a file without its seal."""
    digest, rest = hashlib.sha256(), path.stat().st_size - SEAL
    with path.open("rb") as file:
        while rest > 0 and (chunk := file.read(min(CHUNK, rest))):
            digest.update(chunk)
            rest -= len(chunk)
    return digest.hexdigest().encode()


def opened(path: Path, limit: int = store.LIMIT) -> Archive:
    """Check every byte of an archive. Raises `BadArchive`, or `OSError` where the file cannot be read.

    No member lies outside, is a link, is packed, or is larger than the archive; the checkpoints are those of the
    session, no more than `limit` bytes, and have the hashes that name them.
    """
    with reading.opened(path) as file:
        if file.read(4) != b"PK\x03\x04":
            raise BadArchive(f"{path} is no archive of labbench pack")
        size = file.seek(0, os.SEEK_END)
        if size > limit + jsonl.LIMIT + store.ENTRY_LIMIT:
            raise BadArchive(f"{path}: {size:,} bytes are more than labbench packs")
        file.seek(-min(SEAL, size), os.SEEK_END)
        if file.read() != _digest(path):
            raise BadArchive(
                f"{path} is damaged, or no archive of labbench pack: its bytes are not those that were packed"
            )
    with _reading(path) as archive:
        members = _members(archive, path)
        contents = _contents(archive.read(members[CONTENTS])) if CONTENTS in members else None
        if contents is None or SESSION not in members:
            raise BadArchive(f"{path} is no archive of labbench pack")
        if members[SESSION].file_size > jsonl.LIMIT:
            raise BadArchive(f"{path}: its session has more than the {jsonl.LIMIT:,} bytes that are read")
        content = archive.read(members[SESSION])
        try:
            _, session, _ = jsonl.parse(Path(contents.name), content)
        except jsonl.BadFile as error:
            raise BadArchive(f"{path}: {error}") from None
        entries = {
            name[len("states/") : -len(".json")]: _decoded(path, name, archive.read(info))
            for name, info in members.items()
            if name.startswith("states/")
        }
        found = checkpoints_of(session, entries)
        wanted = {key + end for key in keys_of(session).values() for end in ("", RUN)}
        if strange := [key for key in entries if key not in wanted]:
            raise BadArchive(f"{path}: {strange[0]} is no checkpoint of its session")
        if found.size > limit:
            raise BadArchive(f"{path}: its checkpoints take {found.size:,} bytes; {limit:,} are kept at most")
        _check_objects(archive, path, members, found)
    return Archive(path, contents.name, content, session, found)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    room = path.stat().st_size
    for info in archive.infolist():
        name = info.filename
        if not MEMBER.fullmatch(name) or info.orig_filename != name:
            raise BadArchive(f"{path}: {name!r} does not belong into an archive of labbench")
        room -= info.file_size
        mode = info.external_attr >> 16
        plain = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        large = info.file_size > store.ENTRY_LIMIT and name.startswith("states/")  # those are read into the memory
        odd = info.flag_bits & 1 or stat.S_IFMT(mode) not in (0, stat.S_IFREG) or large
        if not plain or odd or room < 0 or name in found:
            raise BadArchive(f"{path}: {name} is not kept as labbench keeps it")
        found[name] = info
    return found


def _contents(content: bytes) -> Contents | None:
    try:
        contents = msgspec.json.decode(content, type=Contents)
    except (ValueError, RecursionError):
        return None
    name = contents.name
    sound = Path(name).name == name and name.isprintable() and "\\" not in name and not name.startswith(".")
    return (
        contents if sound and name.endswith(".jsonl") and len(name.encode(errors="replace")) <= LONGEST_NAME else None
    )


def _decoded(path: Path, name: str, content: bytes) -> Entry:
    try:
        return store.decode(content)
    except Broken as error:
        raise BadArchive(f"{path}: {name}: {error}") from None


def _check_objects(
    archive: zipfile.ZipFile, path: Path, members: dict[str, zipfile.ZipInfo], found: Checkpoints
) -> None:
    sizes = {(piece.object, piece.size) for entry in found.entries.values() for piece in entry.pieces}
    there = {Path(name).stem: info for name, info in members.items() if name.startswith("objects/")}
    if {sha for sha, _ in sizes} != there.keys() or any(size != there[sha].file_size for sha, size in sizes):
        raise BadArchive(f"{path}: its checkpoints and their tensors do not belong together")
    for sha, info in there.items():
        with archive.open(info) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha:  # type: ignore[arg-type]  # it is read from
                raise BadArchive(f"{path}: {info.filename} does not have the hash in its name")


@contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive to be read; whatever a zip that was made by hand provokes becomes one sentence."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except BadArchive:
        raise
    except FAULTS as error:
        raise BadArchive(f"{path} is no archive of labbench pack: {error}") from None


def unpack(archive: Archive, kept: Store | None, to: Path, *, limit: int = store.LIMIT) -> int:
    """Write the checkpoints into the store, if there is one, marked as of another machine, and then the session file.
    Those that are there already stay. Returns the bytes that were new in the store. Raises `OSError`."""
    if kept is None:
        store.write(to, archive.content)
        return 0
    new = 0
    with zipfile.ZipFile(archive.path) as source:

        def parts(entry: Entry) -> Iterator[tuple[tuple[str, ...], bytes]]:
            for piece in entry.pieces:
                yield piece.names, source.read(f"objects/{piece.object}.safetensors")

        for key, entry in archive.checkpoints.entries.items():
            if not _whole(kept, key):
                new += kept.put(key, entry.text, parts(entry), here=False)[1]
    kept.hold(limit)
    store.write(to, archive.content, 0o666)
    return new
