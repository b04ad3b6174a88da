"""Checkpoints on disk, every tensor once: objects named by the SHA-256 of their bytes, and entries that name the
objects of one state. What is there is whole, whenever a writer is killed; what is read is what was written."""

import fcntl
import hashlib
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from labbench.session import reading
from labbench.session.writing import PART, PRIVATE, sweep, sync_all, whole

LIMIT = 4 * 2**30  # bytes of checkpoints that labbench keeps: 90 states of a ResNet-18 that have nothing in common
ENTRY_LIMIT = 2**28  # bytes of an entry: some numbers for each weight of its model
OBJECT, ENTRY = ".safetensors", ".json"
PARTS = ("states", "objects")  # folders of what is kept
UNDER_WAY = "runs"  # the folder of runs that somebody may come back to, after a kill: whoever trains writes them
RUN = ".run"  # behind the name of a state: the run that was stopped and left it
EPOCH = ".epoch"  # behind the name of a run under way: its last finished epoch
ROOM = 0.9  # of the limit is left full when it was reached, so that not every state has to look for room
OFTEN = 8  # a store is measured again when an eighth of its limit was written: others write, too
WAIT = 5.0  # seconds to wait for another labbench that writes or clears
GRACE = 600.0  # seconds that an object without an entry is left alone where a file system has no locks

Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,149}\Z")]
Sha = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


Part: TypeAlias = tuple[tuple[str, ...], bytes]
"""Names of tensors, and the .safetensors file in which they are called 0, 1, …"""


class Busy(OSError):
    """Another labbench is at work in the folder."""


class Broken(ValueError):
    """An object that is not there, or not what its name says."""


class Piece(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One object of an entry: a .safetensors file whose tensors are called 0, 1, …"""

    object: Sha
    """The SHA-256 of its bytes."""
    size: Annotated[int, Meta(ge=0, le=2**40)]
    """In bytes."""
    names: tuple[str, ...]
    """What its tensors are called here."""


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One state: what its tensors do not say, and where they are."""

    format: Literal[1] = 1
    here: bool = True
    """Whether it was computed on this machine, so that the same can be computed again; else it was unpacked."""
    pieces: tuple[Piece, ...]
    text: str
    """The record, in JSON."""


class _Listed(Struct):
    """What is read of an entry where only its objects matter."""

    pieces: tuple[Piece, ...]
    here: bool = True


@dataclass(frozen=True)
class Kept:
    """One entry of a store as it is listed."""

    key: str
    used: float
    """When it was written or read last, in seconds since 1970."""
    size: int
    """Of the entry itself, in bytes, without its objects."""
    here: bool
    objects: dict[str, int]
    """SHA-256 → bytes."""

    @property
    def state(self) -> str:
        """The name of the state that it belongs to."""
        return self.key.removesuffix(RUN)


@dataclass(frozen=True)
class Dropped:
    """What came of making room."""

    states: int
    freed: int
    """Bytes."""
    left: int
    """Bytes."""


_entry = msgspec.json.Decoder(Entry)
_listed = msgspec.json.Decoder(_Listed)


def key_is_sound(key: str) -> bool:
    """Whether something may be kept by this name: it names a file in one folder and nothing else."""
    try:
        msgspec.convert(key, Key)
    except msgspec.ValidationError:
        return False
    return True


def decode(content: bytes) -> Entry:
    """The entry of these bytes. Raises `Broken`."""
    try:
        return _entry.decode(content)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise Broken(str(error)) from None


class Store:
    """A folder of checkpoints. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._total: int | None = None
        """Bytes, as far as it is known."""
        self._written = 0
        """Bytes since it was known."""

    def path(self, key: str) -> Path:
        """The file of an entry."""
        if not key_is_sound(key):
            raise Broken(f"no name of a checkpoint: {key!r}")
        return self.folder / "states" / f"{key}{ENTRY}"

    def object_path(self, sha: str) -> Path:
        """The file of an object."""
        return self.folder / "objects" / sha[:2] / f"{sha}{OBJECT}"

    def put(self, key: str, text: str, parts: Iterable[Piece | Part], *, here: bool = True) -> tuple[Entry, int]:
        """Keep a state: its record and its tensors, each as names and .safetensors bytes or as an object that is there.

        Returns the entry, and the bytes that were new. Raises `OSError` where the folder cannot be written.
        """
        path = self.path(key)
        new, pieces, written = 0, [], []
        with self._locked(fcntl.LOCK_SH):
            for part in parts:
                if isinstance(part, Piece):
                    pieces.append(part)
                    continue
                names, content = part
                piece = Piece(object=hashlib.sha256(content).hexdigest(), size=len(content), names=names)
                pieces.append(piece)
                if self.has(piece):
                    with suppress(OSError):
                        os.utime(self.object_path(piece.object))
                else:
                    written.append(self.object_path(piece.object))
                    write(written[-1], content, synced=False)
                    new += piece.size
            sync_all(written)
            sync_all({folder for made in written for folder in (made.parent, made.parent.parent)})
            entry = Entry(here=here, pieces=tuple(pieces), text=text)
            encoded = msgspec.json.encode(entry)
            write(path, encoded)
        self._written += new + len(encoded)
        return entry, new + len(encoded)

    def has(self, piece: Piece) -> bool:
        """Whether an object is there, as far as its name and size tell."""
        with suppress(OSError):  # a power failure leaves files of the right name and no content
            return self.object_path(piece.object).stat().st_size == piece.size
        return False

    def get(self, key: str) -> Entry | None:
        """The entry of a name, or None if it is not there or broken."""
        try:
            return decode(reading.content(self.path(key), ENTRY_LIMIT))
        except (OSError, Broken):
            return None

    def checked(self, piece: Piece) -> Path:
        """The file of an object, read through. Raises `Broken` if it is missing or holds other bytes; it then goes."""
        path = self.object_path(piece.object)
        try:
            if path.stat().st_size == piece.size and self.digest(path) == piece.object:
                return path
            path.unlink()
        except OSError as error:
            raise Broken(f"{piece.object}: {error.strerror}") from None
        raise Broken(f"{piece.object}: its bytes are not what its name says")

    def digest(self, path: Path) -> str:
        """The SHA-256 of a file's bytes. Raises `OSError`."""
        with reading.opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def use(self, key: str) -> None:
        """Remember that an entry was needed."""
        with suppress(OSError):
            os.utime(self.path(key))

    def drop(self, key: str) -> None:
        """Forget an entry; its objects go when room is made."""
        self.path(key).unlink(missing_ok=True)

    def entries(self) -> list[Kept]:
        """Every entry that can be read, those used longest ago first."""
        found = []
        for path in (self.folder / "states").glob(f"*{ENTRY}"):
            if not key_is_sound(path.stem):
                continue
            with suppress(OSError, ValueError, RecursionError):
                status = path.stat()
                listed = _listed.decode(reading.content(path, ENTRY_LIMIT))
                objects = {piece.object: piece.size for piece in listed.pieces}
                found.append(Kept(path.stem, status.st_mtime, status.st_size, listed.here, objects))
        return sorted(found, key=lambda kept: kept.used)

    def size(self) -> int:
        """Bytes of everything in it."""
        files = (file for name in (*PARTS, UNDER_WAY) for file in _files(self.folder / name))
        return sum(size for _, size, _ in files)

    def sweep(self) -> None:
        """Remove what killed writers have left half written."""
        with suppress(OSError):
            for folder in (self.folder / "states", self.folder / UNDER_WAY, *(self.folder / "objects").glob("*/")):
                sweep(folder)

    def hold(self, limit: int, newest: str = "") -> None:
        """Make room if there is more than `limit`; the state called `newest` stays. Not while others write."""
        if self._total is None or self._written > limit // OFTEN:
            self._total, self._written = self.size(), 0
        if self._total + self._written > limit:
            with suppress(Busy):
                self._total, self._written = self.shrink(int(ROOM * limit), newest, wait=0).left, 0

    def shrink(self, limit: int, newest: str = "", *, others: bool = True, wait: float = WAIT) -> Dropped:
        """Drop states until at most `limit` bytes are left: the ones that were used longest ago first, of those that
        can be computed again here; then, with `others`, those that cannot. What no entry names goes first, runs under
        way go last.

        Raises `Busy` after `wait` seconds in which another labbench is at work here.
        """
        with self._locked(fcntl.LOCK_EX, wait) as alone:
            kept = self.entries()
            uses = Counter(sha for entry in kept for sha in entry.objects)
            files = [file for part in PARTS for file in _files(self.folder / part)]
            runs = sorted(_files(self.folder / UNDER_WAY), key=lambda file: file[2])
            before = sum(size for _, size, _ in (*files, *runs))
            left = before - _sweep(files, uses, alone)
            sizes = {path.stem: size for path, size, _ in files if path.suffix == OBJECT}
            states: dict[str, list[Kept]] = {}
            for entry in kept:
                states.setdefault(entry.state, []).append(entry)
            dropped = 0
            for name in sorted(
                states, key=lambda name: (_all_here(states[name]), -states[name][-1].used), reverse=True
            ):
                if left <= limit or not (others or _all_here(states[name])):
                    break
                if name == newest:
                    continue
                dropped += 1
                for entry in states[name]:
                    self.path(entry.key).unlink(missing_ok=True)
                    left -= entry.size
                    uses.subtract(entry.objects.keys())
                    for sha in entry.objects:
                        if not uses[sha]:
                            self.object_path(sha).unlink(missing_ok=True)
                            left -= sizes.get(sha, 0)
            for path, size, _ in runs:
                if left > limit:
                    path.unlink(missing_ok=True)
                    left -= size
        return Dropped(dropped, before - left, left)

    def steady(self) -> AbstractContextManager[bool]:
        """While it lasts nobody clears, though others may write. Raises `Busy`."""
        return nullcontext(False) if self.unusable() else self._locked(fcntl.LOCK_SH)

    def unusable(self) -> str:
        """Why nothing can be written there, so that nobody does; "" where it can."""
        try:
            os.close(self._lock_file())
        except OSError as error:
            return f"{self.folder}: {error.strerror}"
        return ""

    def _lock_file(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        return os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, PRIVATE)

    def alone(self) -> AbstractContextManager[bool]:
        """While it lasts nobody else writes or clears. Raises `Busy`."""
        return self._locked(fcntl.LOCK_EX)

    @contextmanager
    def _locked(self, kind: int, wait: float = WAIT) -> Iterator[bool]:
        """While writers hold the lock together nobody clears; who clears is alone. Gives whether the lock works here.

        Raises `Busy` after `wait` seconds.
        """
        file = self._lock_file()
        try:
            yield _lock(file, kind, time.monotonic() + wait)
        finally:
            os.close(file)


def _lock(file: int, kind: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy("another labbench is writing checkpoints") from None
            time.sleep(0.02)
        except OSError:  # a network drive without locks
            return False
        else:
            return True


def _sweep(files: Iterable[tuple[Path, int, float]], named: Collection[str], alone: bool) -> int:
    """Remove objects that no entry names, and what killed writers left; returns the bytes."""
    freed = 0
    for path, size, changed in files:
        leftover = path.suffix == PART or (path.suffix == OBJECT and path.stem not in named)
        if leftover and (alone or time.time() - changed > GRACE):
            path.unlink(missing_ok=True)
            freed += size
    return freed


def _all_here(entries: list[Kept]) -> bool:
    return all(entry.here for entry in entries)


def _files(folder: Path) -> Iterator[tuple[Path, int, float]]:
    """Every file in a folder and the folders in it: path, bytes, when it was changed."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        for file in found:
            with suppress(FileNotFoundError):
                if file.is_dir(follow_symlinks=False):
                    yield from _files(Path(file.path))
                else:
                    status = file.stat(follow_symlinks=False)
                    yield Path(file.path), status.st_size, status.st_mtime


def write(path: Path, content: bytes, mode: int = PRIVATE, *, synced: bool = True) -> None:
    """Write a file that is there whole or not at all."""
    with whole(path, mode, synced=synced) as part:
        part.write_bytes(content)
