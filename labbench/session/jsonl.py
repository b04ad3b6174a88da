"""One JSON value per line: how the pipe and the session file are written and read. What cannot be read is refused with
its line number; nothing in a file is ever executed."""

import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec
from msgspec import Struct

from labbench.printable import escaped_json
from labbench.session import lock
from labbench.session.check import BadInput, operation_from
from labbench.session.events import (
    AnyEvent,
    AnyRequest,
    Environment,
    Export,
    Exported,
    Grouped,
    Groups,
    Preview,
    Previewed,
    Ready,
    Restore,
    Stop,
    Trust,
)
from labbench.session.session import Session
from labbench.session.spread import Tolerance
from labbench.session.thinning import Thinning
from labbench.session.versions import upgraded_event
from labbench.session.writing import whole

VERSION = 2  # of the files that are written; all before are read, as labbench.session.versions says


class BadFile(ValueError):
    """A file that is no session, or a broken one; the message names the file, the line and the reason."""


class Header(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a session file."""

    labbench: int
    """Version of the format."""
    title: str = ""
    created: str = ""
    """Date and time, ISO 8601."""
    environment: Environment | None = None
    """Where it was begun; each later opening adds a `Ready`."""
    tolerance: Tolerance = {}
    """Accuracies over several seeds, by step: how far a replay elsewhere may be away. Empty: not known."""


_encoder = msgspec.json.Encoder()
_event = msgspec.json.Decoder(AnyEvent)
_timed = msgspec.json.Decoder(tuple[float, AnyEvent])
_header = msgspec.json.Decoder(Header)
REQUESTS: dict[str, Any] = {kind.__name__.lower(): kind for kind in (Stop, Preview, Restore, Groups, Export, Trust)}


def encode(value: object) -> bytes:
    """A value as one line, with its newline; printed, it does nothing to a terminal."""
    line = _encoder.encode(value) + b"\n"
    return line if line.isascii() and b"\x7f" not in line else escaped_json(line.decode()).encode()


def decode_event(line: bytes) -> AnyEvent:
    """The event of a line; `BadInput` where it is none."""
    try:
        event: AnyEvent = _event.decode(line)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise BadInput(f"no event: {error}") from None
    return event


def decode_request(line: bytes) -> AnyRequest:
    """The request of a line; `BadInput` says what is wrong with it and what would be right."""
    try:
        raw = msgspec.json.decode(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not a line of JSON: {error}") from None
    name = raw.get("op") if isinstance(raw, dict) else None
    if not isinstance(name, str) or name not in REQUESTS:
        return operation_from(raw)
    if name == "preview":
        operation_from(raw.get("operation"))
    try:
        request: AnyRequest = msgspec.json.decode(line, type=REQUESTS[name])
    except msgspec.ValidationError as error:
        raise BadInput(f"{name}: {error}") from None
    return request


def read(path: Path) -> tuple[Header, Session, str]:
    """The header, the session and a notice ("" or what was dropped) of a session file.

    A last line without its newline was cut off by a crash: it is dropped with a notice. Anything else that is broken
    raises `BadFile`. So does a file that is not there.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from None
    return parse(path, content)


def parse(path: Path, content: bytes) -> tuple[Header, Session, str]:
    """`read` for bytes that are at hand; `path` is what they are called in what is said of them."""
    lines = content.split(b"\n")
    rest = lines.pop()
    notice = f"{path.name}: the last line was cut off and is left out" if rest else ""
    if not lines:
        raise BadFile(f'{path}: not a session file: it has no first line of the form {{"labbench":{VERSION},…}}')
    header = _read_header(path, lines[0])
    session = Session(header.title)
    session.environment = header.environment
    for number, line in enumerate(lines[1:], start=2):
        try:
            seconds, event = _timed.decode(line)
            session.append(seconds, upgraded_event(event, header.labbench))
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise BadFile(f"{path}, line {number}: {error}") from None
    return header, session, notice


def _read_header(path: Path, line: bytes) -> Header:
    try:
        header = _header.decode(line)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path}, line 1: not a session file: {error}") from None
    if not 1 <= header.labbench <= VERSION:
        raise BadFile(f"{path}, line 1: format {header.labbench}; this labbench reads format {VERSION} and before")
    return header


def keep_tolerance(path: Path, tolerance: Tolerance) -> None:
    """Write accuracies over seeds into the header of a session file; the rest of it stays as it is, byte by byte.

    The file is replaced in one step. Raises `BadFile` where it is no session, `InUse` where another labbench records
    there, or another `OSError`.
    """
    with path.open("r+b") as there:
        lock.take(there)
        first, _, rest = there.read().partition(b"\n")
        _read_header(path, first)
        header = msgspec.json.decode(first) | {"tolerance": msgspec.to_builtins(tolerance, str_keys=True)}
        with whole(path) as part, part.open("wb") as made:
            made.write(encode(header) + rest)
            made.flush()
            os.fsync(made.fileno())


class Writer:
    """Appends the events of a session to its file, line by line, so that a crash loses nothing."""

    def __init__(self, path: Path, header: Header | None) -> None:
        """A new file with this header, or, with None, the file that is there; nobody else writes to it meanwhile.

        What a crash cut off of its last line goes before anything is added, and a file of an older format is written
        anew in today's: what is added means what it means today. Raises `InUse`, or another `OSError`.
        """
        self.path = path
        self._thinning = Thinning()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("xb" if header else "r+b")
        self._whole = header is not None
        try:
            lock.take(self._file)
        except lock.InUse:
            self._file.close()
            raise
        if header:
            self._file.write(encode(header))
            self._file.flush()

    def write(self, seconds: float, event: AnyEvent) -> None:
        """Write one event, or hold it back: a long run is thinned. Previews, groups, exports, a catalogue are left out.

        How long a file gets is told in thinning.py; what is held back is written before whatever follows the run.
        """
        match event:
            case Previewed() | Grouped() | Exported():
                return
            case Ready():
                event = msgspec.structs.replace(event, catalogue=None)
            case _:
                pass
        if not self._whole:
            self._make_whole()
        if kept := self._thinning.admit(seconds, event):
            self._file.writelines(encode((round(when, 3), what)) for when, what in kept)
            self._file.flush()

    def _make_whole(self) -> None:
        """Make the file that is there one that can be added to."""
        _drop_cut_line(self._file)
        if content := _upgrade(self._file):
            with whole(self.path.resolve()) as part:
                made = part.open("r+b")
                lock.take(made)  # before it has the name under which others look for it
                made.write(content)
                made.flush()
            self._file.close()
            self._file = made
        self._file.seek(0, os.SEEK_END)
        self._whole = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _drop_cut_line(file: IO[bytes]) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    file.truncate(file.read(end).rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def _upgrade(file: IO[bytes]) -> bytes:
    """A file of an older format in today's, or nothing if it is in that. Lines that mean the same stay as they are."""
    file.seek(0)
    first, *lines = file.read().splitlines(keepends=True)
    header = _header.decode(first)
    if header.labbench == VERSION:
        return b""
    written = [encode(msgspec.structs.replace(header, labbench=VERSION))]
    for line in lines:
        seconds, event = _timed.decode(line)
        upgraded = upgraded_event(event, header.labbench)
        written.append(line if upgraded == event else encode((seconds, upgraded)))
    return b"".join(written)
