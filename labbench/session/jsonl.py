"""One JSON value per line: how the pipe and the session file are written and read. What cannot be read is refused with
its line number; nothing in a file is ever executed."""

import contextlib
import errno
import json
import os
from collections.abc import Iterable
from io import BytesIO, FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from msgspec import Struct

from labbench.printable import escaped_json
from labbench.session import lock, reading
from labbench.session.check import BadInput, operation_from
from labbench.session.events import (
    AnyEvent,
    AnyRequest,
    Environment,
    Export,
    Exported,
    Finished,
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
from labbench.session.writing import sync, whole

VERSION = 2  # of the files that are written; all before are read, as labbench.session.versions says
LIMIT = 2**29  # bytes of a file: what is read takes some five times as much memory
LINE_LIMIT = 2**26  # bytes of a line: as much as an event may have on the pipe
CHUNK = 2**16
CLOSED = b'"event":"closed"}]\n'
TAIL = 64  # bytes: more than the last line of a file that was closed in order


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
    """A value as one line, with its newline; printed, it does nothing to a terminal.

    What is no Unicode, as in some names of files, becomes question marks.
    """
    try:
        line = _encoder.encode(value) + b"\n"
    except UnicodeEncodeError:
        plain = json.dumps(msgspec.to_builtins(value, str_keys=True), ensure_ascii=False)
        line = plain.encode(errors="replace") + b"\n"
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
    return parse(path, load(path))


def load(path: Path) -> bytes:
    """The bytes of a session file. Raises `BadFile` where it is not there, no regular file or too large."""
    try:
        return reading.content(path, LIMIT)
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from None


def closed_in_order(path: Path) -> bool:
    """Whether the last line of a session file says so. Raises `OSError`."""
    return reading.tail(path, TAIL).endswith(CLOSED)


def parse(path: Path, content: bytes) -> tuple[Header, Session, str]:
    """`read` for bytes that are at hand; `path` is what they are called in what is said of them."""
    lines = BytesIO(content)
    first, notice = lines.readline(), ""
    if not first.endswith(b"\n"):
        raise BadFile(f'{path}: not a session file: it has no first line of the form {{"labbench":{VERSION},…}}')
    header = _read_header(path, first)
    session = Session(header.title)
    session.environment = header.environment
    for number, line in enumerate(lines, start=2):
        if not line.endswith(b"\n"):
            notice = f"{path.name}: the last line was cut off and is left out"
            break
        if len(line) > LINE_LIMIT:
            raise BadFile(f"{path}, line {number}: {len(line):,} bytes are too many: a line has at most {LINE_LIMIT:,}")
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
    with lock.opened(path) as there:
        first, _, rest = _content(there).partition(b"\n")
        _read_header(path, first)
        header = msgspec.json.decode(first) | {"tolerance": msgspec.to_builtins(tolerance, str_keys=True)}
        with whole(path) as part:
            part.write_bytes(encode(header) + rest)


class Writer:
    """Appends the events of a session to its file, line by line, so that a crash loses nothing."""

    def __init__(
        self,
        path: Path,
        header: Header | None,
        events: Iterable[tuple[float, AnyEvent]] = (),
        *,
        replace: bool = False,
        mode: int = 0o666,
    ) -> None:
        """A new file with this header and these events, there at once or not at all; with `replace`, in the place of
        one that nobody writes to. `mode`, less the umask, says what may be done to it.

        Or, without a header, the file that is there; nobody else writes to it meanwhile. What a crash cut off of its
        last line goes before anything is added, and a file of an older format is written anew in today's: what is added
        means what it means today. Raises `InUse`, or another `OSError`.
        """
        self.path = path
        self._thinning = Thinning()
        self._whole = header is not None
        if header is None:
            self._file = lock.opened(path)
        else:
            kept = [lines for seconds, event in events if (lines := self._lines(seconds, event)[0])]
            with contextlib.ExitStack() as held:
                if replace:
                    with contextlib.suppress(FileNotFoundError, PermissionError):
                        held.enter_context(lock.opened(path))
                self._file = _placed(path, encode(header) + b"".join(kept), mode=mode, new=not replace)

    def write(self, seconds: float, event: AnyEvent) -> None:
        """Write one event, or hold it back: a long run is thinned. Previews, groups, exports, a catalogue are left out.

        How long a file gets is told in thinning.py; what is held back is written before whatever follows the run. What
        is finished stands on the disk. Raises `OSError`; the file then ends with what was written before.
        """
        lines, finished = self._lines(seconds, event)
        if not lines:
            return
        if not self._whole:
            self._make_whole()
        try:
            _append(self._file, lines)
        except OSError:
            self._whole = False  # half a line may stand there: whatever follows begins after the last whole one
            raise
        if finished:
            sync(self._file.fileno())

    def _lines(self, seconds: float, event: AnyEvent) -> tuple[bytes, bool]:
        """What is to be written now, and whether an operation finished in it."""
        match event:
            case Previewed() | Grouped() | Exported():
                return b"", False
            case Ready():
                event = msgspec.structs.replace(event, catalogue=None)
            case _:
                pass
        kept = self._thinning.admit(seconds, event)
        lines = b"".join(encode((round(when, 3), what)) for when, what in kept)
        return lines, any(isinstance(what, Finished) for _, what in kept)

    def _make_whole(self) -> None:
        """Make the file that is there one that can be added to."""
        _size(self._file)
        _drop_cut_line(self._file)
        if content := _upgrade(self._file):
            made = _placed(self.path, content)
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


def _placed(path: Path, content: bytes, *, mode: int = 0o666, new: bool = False) -> FileIO:
    """A file with this content in one step, open and with its lock before others find it under its name."""
    made = None
    try:
        with whole(path, mode, new=new) as part:
            made = lock.opened(part)
            _append(made, content)
    except BaseException:
        if made:
            made.close()
        raise
    return made


def _append(file: FileIO, content: bytes) -> None:
    """Write all of it at the end, or nothing. Raises `OSError`."""
    end = file.seek(0, os.SEEK_END)
    if end + len(content) > LIMIT:
        raise OSError(
            errno.EFBIG, f"a session file has at most {LIMIT:,} bytes: open a model anew for another", file.name
        )
    left = memoryview(content)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


def _content(file: FileIO) -> bytes:
    """All bytes of an open session file. Raises `OSError` where that is too much."""
    size = _size(file)
    file.seek(0)
    return reading.exactly(file, size)


def _size(file: FileIO) -> int:
    size = file.seek(0, os.SEEK_END)
    if size > LIMIT:
        raise OSError(errno.EFBIG, f"{size:,} bytes are too many: at most {LIMIT:,} are read", file.name)
    return size


def _drop_cut_line(file: FileIO) -> None:
    end = file.seek(0, os.SEEK_END)
    whole = 0
    while end and not whole:
        begin = max(0, end - CHUNK)
        file.seek(begin)
        whole = begin + reading.exactly(file, end - begin).rfind(b"\n") + 1
        end, whole = begin, whole if whole > begin else 0
    if whole != file.seek(0, os.SEEK_END):
        file.truncate(whole)


def _upgrade(file: FileIO) -> bytes:
    """A file of an older format in today's, or nothing if it is in that. Lines that mean the same stay as they are."""
    file.seek(0)
    with open(file.fileno(), "rb", closefd=False) as lines_of_it:
        if _header.decode(lines_of_it.readline(LINE_LIMIT)).labbench == VERSION:
            return b""
    first, *lines = _content(file).splitlines(keepends=True)
    header = _header.decode(first)
    written = [encode(msgspec.structs.replace(header, labbench=VERSION))]
    for line in lines:
        seconds, event = _timed.decode(line)
        upgraded = upgraded_event(event, header.labbench)
        written.append(line if upgraded == event else encode((seconds, upgraded)))
    return b"".join(written)
