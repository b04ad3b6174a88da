"""Whether everything that labbench has written is what it was: sessions can be read, checkpoints have the bytes that
their names say and name what is there, and nothing is left over."""

import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from labbench.session import jsonl, lock, reading
from labbench.session.store import (
    ENTRY,
    ENTRY_LIMIT,
    EPOCH,
    GRACE,
    OBJECT,
    PARTS,
    RUN,
    UNDER_WAY,
    Broken,
    Piece,
    Store,
    decode,
    key_is_sound,
)
from labbench.session.writing import PART, is_abandoned

State = Literal["closed", "cut off", "open", "broken"]


class Examined(Struct, frozen=True, kw_only=True):
    """A session file."""

    file: str
    state: State
    """Closed in order; cut off, so that it is offered again; open in another labbench; or not to be read."""
    problem: str = ""
    """What is wrong, or what of it was left out."""


class Fault(Struct, frozen=True, kw_only=True):
    """Something among the checkpoints that is not as it should be. They are a cache: it can go."""

    path: str
    problem: str
    broken: bool = True
    """Else it is only left over, or not labbench's."""
    ours: bool = True
    """Whether labbench made it, so that it may remove it."""


class Found(Struct, kw_only=True):
    """What was found among the checkpoints."""

    states: int = 0
    objects: int = 0
    size: int = 0
    """Bytes of the objects."""
    runs: int = 0
    """Under way, or interrupted."""
    faults: list[Fault] = []


def session(path: Path) -> Examined:
    """Read a session file from its first line to its last."""
    name = path.name
    try:
        _, _, notice = jsonl.read(path)
        free, closed = lock.free(path), jsonl.closed_in_order(path)
    except jsonl.BadFile as error:
        said = str(error).removeprefix(str(path)).lstrip(",: ")
        return Examined(file=name, state="broken", problem=said)
    except OSError as error:
        return Examined(file=name, state="broken", problem=error.strerror or str(error))
    state: State = "closed" if closed else "cut off" if free else "open"
    return Examined(file=name, state=state, problem=notice if free else "")


def checkpoints(kept: Store, *, repair: bool = False) -> Found:
    """Read every checkpoint through. With `repair`, what is broken or left over goes: it can be computed again.

    Raises `Busy` where another labbench is writing or clearing.
    """
    if not kept.folder.is_dir():
        return Found()
    with kept.alone() if repair else kept.steady() as locked:
        found = Found()
        good = _objects(kept, found)
        named = _states(kept, good, found)
        for sha, path in good.items():
            if sha not in named and ((repair and locked) or _is_old(path)):  # else its state may be on its way
                found.faults.append(Fault(path=_short(kept, path), problem="no state has it", broken=False))
        _runs(kept, found)
        found.faults += _strangers(kept)
        if repair:
            for fault in found.faults:
                if fault.ours:
                    (kept.folder / fault.path).unlink(missing_ok=True)
    return found


def _objects(kept: Store, found: Found) -> dict[str, Path]:
    """Every object that has the bytes that its name says; what is wrong with the others goes to `found`."""
    good = {}
    for path in sorted((kept.folder / "objects").glob(f"*/*{OBJECT}")):
        if path.name.startswith("."):
            continue
        found.objects += 1
        problem = ""
        try:
            size = path.stat().st_size
            found.size += size
            if path != kept.object_path(path.stem) or kept.digest(path) != path.stem:
                problem = "its bytes are not what its name says"
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            found.faults.append(Fault(path=_short(kept, path), problem=problem))
        else:
            good[path.stem] = path
    return good


def _states(kept: Store, good: dict[str, Path], found: Found) -> set[str]:
    """The objects that are named by states of which everything is there; what is wrong with others goes to `found`."""
    named: set[str] = set()
    for path in sorted((kept.folder / "states").glob(f"*{ENTRY}")):
        if not key_is_sound(path.stem):
            continue
        found.states += 1
        try:
            pieces = decode(reading.content(path, ENTRY_LIMIT)).pieces
            missing = [piece for piece in pieces if not _is_there(piece, good)]
            problem = f"{len(missing)} of its {len(pieces)} objects are missing or broken" if missing else ""
        except (OSError, Broken) as error:
            problem = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
        if problem:
            found.faults.append(Fault(path=_short(kept, path), problem=problem))
        else:
            named |= {piece.object for piece in pieces}
    return named


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > GRACE


def _is_there(piece: Piece, good: dict[str, Path]) -> bool:
    return piece.object in good and good[piece.object].stat().st_size == piece.size


def _runs(kept: Store, found: Found) -> None:
    for path in sorted((kept.folder / UNDER_WAY).glob("*")):
        whole = True
        with suppress(OSError):
            if path.suffix == RUN:
                found.runs += 1
                with reading.opened(path) as file:
                    whole = zipfile.is_zipfile(file)
            elif path.suffix == EPOCH:
                try:
                    msgspec.json.decode(reading.content(path, ENTRY_LIMIT).partition(b"\n")[0])
                except (ValueError, RecursionError):
                    whole = False
        if not whole:
            found.faults.append(Fault(path=_short(kept, path), problem="it was not written to its end"))


def _strangers(kept: Store) -> Iterator[Fault]:
    """Parts of killed writers, and files that are none of labbench's."""
    endings = {"states": (ENTRY,), "objects": (OBJECT,), UNDER_WAY: (RUN, EPOCH)}
    for name in (*PARTS, UNDER_WAY):
        for folder, _, files in os.walk(kept.folder / name):
            for file in sorted(files):
                path = Path(folder, file)
                if file.endswith(PART):
                    if is_abandoned(path):
                        yield Fault(path=_short(kept, path), problem="left behind by a killed process", broken=False)
                elif path.suffix not in endings[name] or (name == "states" and not key_is_sound(path.stem)):
                    said = "no file of labbench"
                    yield Fault(path=_short(kept, path), problem=said, broken=False, ours=False)


def _short(kept: Store, path: Path) -> str:
    return str(path.relative_to(kept.folder))
