"""The headless commands that keep sessions and their checkpoints: list them, make room, and carry a session to another
machine. They compute nothing."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from labbench import folders
from labbench.cells import cells, cut
from labbench.exits import BAD, CANNOT, DIFFERS, SAME, say
from labbench.listing import print_json, print_lines
from labbench.printable import printable
from labbench.session import archive, integrity, jsonl, lock, reading, report, store
from labbench.session.integrity import Examined, Found
from labbench.session.keys import keys_of
from labbench.session.operations import Load
from labbench.session.own import brief, own_models
from labbench.session.store import RUN, Busy, Kept, Store
from labbench.session.writing import PART, is_abandoned, sweep

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
HEAD = ("date", "model on data", "steps", "accuracy", "ratio", "file", "checkpoints")
TEXT = (True, True, False, False, False, False, False)
LARGE = 2**26  # bytes of a session that is not read for a list: that takes seconds
WHAT = HEAD.index("model on data")  # the column that gives way


class Listed(Struct, frozen=True, kw_only=True):
    """What is listed of a session file."""

    file: str
    size: int
    """Bytes."""
    problem: str = ""
    """Why it cannot be read, or what of it was left out."""
    title: str = ""
    created: str = ""
    model: str = ""
    dataset: str = ""
    operations: int = 0
    accuracy: float | None = None
    """Of the model now, on validation."""
    ratio: float | None = None
    """Compression of the prunable weights, loaded / nonzero; null where nothing is left."""
    checkpoints: int = 0
    """Bytes of the tensors of its points; one that several sessions have counts with each of them."""


@dataclass(frozen=True)
class Inventory:
    """Session files, and the checkpoints of all sessions."""

    folder: Path
    sessions: list[Listed]
    kept: Store
    size: int
    """Bytes of the store."""
    others: int
    """Bytes of tensors that belong to none of these sessions."""
    unpacked: int
    """Bytes of tensors that were not computed here."""


def sessions(folder: Path | None, form: str, prune: str | None, check: bool = False, repair: bool = False) -> int:
    """List the session files of a folder with the sizes of their checkpoints; or `prune`, drop checkpoints; or `check`
    whether all is as it was written, and `repair` the checkpoints."""
    kept = Store(folders.checkpoints())
    if folder and not folder.is_dir():
        return say(f"{folder} is no folder; labbench show FILE shows one session", BAD)
    folder = folder or folders.sessions()
    if prune is not None:
        return _prune(kept, prune)
    if check or repair:
        return _check(folder, kept, form, repair)
    found = inventory(folder, kept)
    if form == "json":
        value = {
            "folder": str(folder),
            "sessions": found.sessions,
            "checkpoints": {
                "folder": str(kept.folder),
                "size": found.size,
                "limit": store.LIMIT,
                "of_other_sessions": found.others,
                "unpacked": found.unpacked,
            },
        }
        print_json(value)
    else:
        print_lines(_lines(found))
    return SAME


def _prune(kept: Store, size: str) -> int:
    limit = bytes_of(size) if size else 0
    if limit is None:
        return say(f"--prune {size}: a size is a number and a unit, such as 500MB or 2GB", BAD)
    if not kept.folder.is_dir():
        print_lines(["freed 0 bytes; there are no checkpoints"])
        return SAME
    try:
        dropped = kept.shrink(limit, others=bool(size))
    except Busy as error:
        return say(f"{error}; try again when it is done", CANNOT)
    freed, dropped_now = in_words(dropped.freed), _count(dropped.states, "checkpoint")
    print_lines([f"freed {freed}: {dropped_now}; {in_words(dropped.left)} left"])
    if dropped.left and not size:
        say("what is left was unpacked: it cannot be computed here to the last bit; --prune 0 drops it, too")
    return SAME


def _check(folder: Path, kept: Store, form: str, repair: bool) -> int:
    """Read everything through, and say what is wrong and what to do."""
    looked = [integrity.session(path) for path in _files(folder)]
    parts = sorted(path.name for path in folder.glob(f".*{PART}") if is_abandoned(path))
    try:
        found = integrity.checkpoints(kept, repair=repair)
    except Busy as error:
        return say(f"{error}; try again when it is done", CANNOT)
    if repair:
        sweep(folder)
    broken = any(one.state == "broken" for one in looked)
    left = bool(parts) or any(fault.ours for fault in found.faults)
    if form == "json":
        print_json(
            {
                "folder": str(folder),
                "sessions": looked,
                "leftovers": parts,
                "checkpoints": {"folder": str(kept.folder), **msgspec.structs.asdict(found)},
                "repaired": repair and left,
                "well": not broken and (repair or not left),
            }
        )
    else:
        print_lines(map(printable, _check_lines(folder, kept, looked, parts, found, repair)))
    return DIFFERS if broken or (left and not repair) else SAME


def _check_lines(
    folder: Path, kept: Store, looked: list[Examined], parts: list[str], found: Found, repair: bool
) -> Iterator[str]:
    counts = Counter(one.state for one in looked)
    states = ", ".join(f"{counts[state]} {state}" for state in ("closed", "cut off", "open", "broken") if counts[state])
    yield f"{_count(len(looked), 'session')} in {_home(folder)}" + (f": {states}" if states else "")
    for one in looked:
        match one.state:
            case "broken":
                yield f"  ! {one.file}: {one.problem}"
                yield "      it stays as it is: only you can tell whether it may go, or whether there is a copy"
            case "cut off":
                yield f"  {one.file}: not closed in order; labbench {Path(one.file).stem} goes on there"
            case "open":
                yield f"  {one.file}: open in another labbench"
            case _:
                pass
    done = "removed" if repair else "--repair removes it"
    for name in parts:
        yield f"  ! {name}: left behind by a killed process; {done}"
    yield (
        f"{_count(found.states, 'checkpoint')}, {_count(found.objects, 'object')} of {in_words(found.size)}, "
        f"{_count(found.runs, 'run')} under way, in {_home(kept.folder)}"
    )
    for fault in found.faults:
        yield f"  ! {fault.path}: {fault.problem}" + (f"; {done}" if fault.ours else "; it is left alone")
    if any(fault.ours for fault in found.faults):
        yield "      checkpoints are a cache: what is removed is computed again when a session needs it"
    yield "all is well" if not (parts or found.faults or counts["broken"]) else "everything else is well"


def _files(folder: Path) -> list[Path]:
    """The session files of a folder, newest first."""
    return sorted(folder.glob("*.jsonl"), key=lambda path: (_changed(path), path.name), reverse=True)


def inventory(folder: Path, kept: Store) -> Inventory:
    """The session files of a folder, newest first, and what the store has of each."""
    entries = {entry.key: entry for entry in kept.entries()}
    sizes = {sha: size for entry in entries.values() for sha, size in entry.objects.items()}
    found, mine = [], set()
    for path in _files(folder):
        listed, objects = _listed(path, entries)
        mine |= objects
        found.append(listed)
    others = sum(size for sha, size in sizes.items() if sha not in mine)
    foreign = {sha: size for entry in entries.values() if not entry.here for sha, size in entry.objects.items()}
    return Inventory(folder, found, kept, kept.size(), others, sum(foreign.values()))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _listed(path: Path, entries: dict[str, Kept]) -> tuple[Listed, set[str]]:
    """A session file, and the objects of its points."""
    try:
        size = path.stat().st_size
        if size > LARGE:
            said = "too large to be read for this list; labbench show shows it"
            return Listed(file=path.name, size=size, problem=said), set()
        header, session, notice = jsonl.read(path)
    except OSError as error:
        return Listed(file=path.name, size=0, problem=error.strerror or str(error)), set()
    except jsonl.BadFile as error:
        return Listed(file=path.name, size=size, problem=str(error).removeprefix(str(path)).lstrip(",: ")), set()
    objects: dict[str, int] = {}
    for key in keys_of(session).values():
        for entry in (entries.get(key), entries.get(f"{key}{RUN}")):
            objects |= entry.objects if entry else {}
    load = next((step.operation for step in reversed(session.done) if isinstance(step.operation, Load)), None)
    snapshot = session.snapshot
    validation = snapshot.accuracy.get("validation") if snapshot else None
    listed = Listed(
        file=path.name,
        size=size,
        problem=notice,
        title=header.title,
        created=header.created,
        model=brief(load.model) if load else "",
        dataset=load.dataset if load else "",
        operations=len(session.steps),
        accuracy=validation.top1 if validation else None,
        ratio=snapshot.prunable.ratio if snapshot and snapshot.prunable.nonzero else None,
        checkpoints=sum(objects.values()),
    )
    return listed, set(objects)


def _lines(found: Inventory) -> list[str]:
    if not found.sessions:
        lines = [f"no session files in {_home(found.folder)}"]
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        rows = _rows([HEAD, *(_cells(listed) for listed in found.sessions)], width)
        lines = [f"  {rows[0]}"]
        for listed, row in zip(found.sessions, rows[1:], strict=True):
            title = f"  {listed.title}" if listed.title.strip() and listed.title != Path(listed.file).stem else ""
            lines += [_cut(printable(f"{listed.file}{title}"), width)]
            lines += [f"  {row}"] if listed.operations or not listed.problem else []
            lines += [f"  ! {printable(listed.problem)}"] if listed.problem else []
        total = sum(listed.size for listed in found.sessions)
        lines += ["", f"{_count(len(found.sessions), 'session')}, {in_words(total)}, in {_home(found.folder)}"]
    lines += [
        f"checkpoints: {in_words(found.size)} in {_home(found.kept.folder)}",
        f"  at most {in_words(store.LIMIT)} are kept: those used longest ago go first",
    ]
    if found.others:
        lines.append(f"  {in_words(found.others)} belong to none of these sessions")
    if found.unpacked:
        lines.append(
            f"  {in_words(found.unpacked)} were unpacked: they cannot be computed here to the last bit, and go last"
        )
    return lines


def _cut(text: str, width: int | None) -> str:
    return text if width is None else cut(text, width)


def _rows(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Aligned lines, of no more than `width` columns with their indent."""
    lines = report.columns(rows, TEXT)
    excess = max(map(cells, lines)) + 2 - (width or 10**6)
    if excess <= 0:
        return lines
    room = max(8, max(cells(row[WHAT]) for row in rows) - excess)
    return report.columns([[*row[:WHAT], _cut(row[WHAT], room), *row[WHAT + 1 :]] for row in rows], TEXT)


def _cells(listed: Listed) -> Sequence[str]:
    what = f"{listed.model} on {listed.dataset}" if listed.model else report.ABSENT
    return (
        printable(listed.created[:10]) or report.ABSENT,
        printable(what),
        str(listed.operations),
        report.share(listed.accuracy),
        report.ABSENT if listed.ratio is None else f"×{listed.ratio:.2f}"[:6].rstrip("."),
        in_words(listed.size),
        in_words(listed.checkpoints) if listed.checkpoints else report.ABSENT,
    )


def pack(file: Path, to: Path | None, force: bool) -> int:
    """Write a session and its checkpoints into one archive."""
    to = to or file.with_name(f"{file.stem}{archive.ENDING}")
    if not file.is_file():
        return say(f"no file {file}", BAD)
    if to.exists() and not force:
        return say(f"{to} is there already; --force replaces it, --to names another", BAD)
    try:
        session, found = archive.pack(file, Store(folders.checkpoints()), to)
    except jsonl.BadFile as error:
        return say(str(error), BAD)
    except Busy as error:
        return say(f"{error}; try again when it is done", CANNOT)
    remarks = [_coverage(found)]
    if models := own_models(session.changes):
        remarks.append(f"without the code of {', '.join(map(brief, models))}: it must be there, too")
    remarks.append(f"there: labbench unpack {to.name}")
    _print_made(to, to.stat().st_size, remarks)
    return SAME


def unpack(file: Path, to: Path, force: bool) -> int:
    """Take a session and its checkpoints out of an archive, after everything in it was checked."""
    if not file.is_file():
        return say(f"no file {file}", BAD)
    try:
        found = archive.opened(file)
    except archive.BadArchive as error:
        return say(str(error), BAD)
    session = to / found.name
    if session.exists() and not force and not _has(session, found.content):
        return say(f"{session} is there already and is another; --force replaces it, --to names another folder", BAD)
    if not lock.free(session):
        return say(f"{session} is open in another labbench; --to names another folder", CANNOT)
    kept = Store(folders.checkpoints())
    if problem := kept.unusable():
        say(f"without its checkpoints, which cannot be kept here ({problem}): what they hold will be computed again")
    try:
        new = archive.unpack(found, None if problem else kept, session)
    except archive.BadArchive as error:
        return say(str(error), BAD)
    except Busy as error:
        return say(f"{error}; try again when it is done", CANNOT)
    fresh = f"{in_words(new)} of them were not here yet" if new else "all of them were here already"
    remarks = [] if problem else [_coverage(found.checkpoints) + (f"; {fresh}" if found.checkpoints.points else "")]
    remarks.append(f"go on with: labbench {session}")
    _print_made(session, len(found.content), remarks)
    return SAME


def _print_made(file: Path, size: int, remarks: Sequence[str]) -> None:
    print_lines([printable(f"{file}  {size:,} bytes"), *(f"     · {remark}" for remark in remarks)])


def _has(file: Path, content: bytes) -> bool:
    try:
        return reading.content(file, len(content)) == content
    except OSError:
        return False


def _coverage(found: archive.Checkpoints) -> str:
    whole = len(found.points) + len(found.missing)
    said = f"the checkpoints of {len(found.points)} of {_count(whole, 'point')}, {in_words(found.size)}"
    if not found.missing:
        return said
    steps = ", ".join(map(str, found.missing[:8])) + (" …" if len(found.missing) > 8 else "")
    return f"{said}; what {'step' if len(found.missing) == 1 else 'steps'} {steps} made will be computed again"


def in_words(size: int) -> str:
    """Bytes for a column: "45 kB", "3.1 MB"."""
    if size < 1000:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    power = max(power for power in range(1, 5) if power == 1 or size >= 999.5 * 1000 ** (power - 1))
    value = size / 1000**power
    return f"{value:.1f} {'kMGT'[power - 1]}B" if value < 9.95 else f"{value:.0f} {'kMGT'[power - 1]}B"


def bytes_of(text: str) -> int | None:
    """The bytes of a size such as 2GB, 1.5 GiB, 300k or 0; None where it is none."""
    words = text.replace(" ", "").replace("_", "").lower()
    digits = words.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = words[len(digits) :].removesuffix("bytes").removesuffix("b")
    try:
        size = float(digits) * UNITS[unit]
    except (ValueError, KeyError):
        return None
    return int(size) if 0 <= size < 2**60 else None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _home(path: Path) -> str:
    """A path, shorter where it is in the user's own folder."""
    path = path.absolute()
    home = Path(os.path.expanduser("~"))  # as it is where there is none
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)
