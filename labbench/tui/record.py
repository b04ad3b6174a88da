"""A session and the file it is written to, event by event. The file is made with the first operation, so that opening
and closing the bench leaves nothing behind."""

import contextlib
import itertools
import time
from datetime import datetime
from pathlib import Path

from labbench import folders
from labbench.session import lock
from labbench.session.events import AnyEvent, Closed, Environment, Ready, Started
from labbench.session.jsonl import VERSION, BadFile, Header, Writer, read
from labbench.session.lock import InUse
from labbench.session.operations import AnyOperation, Load
from labbench.session.own import brief
from labbench.session.session import Session
from labbench.session.spread import Tolerance
from labbench.session.thinning import Thinning
from labbench.session.writing import PRIVATE
from labbench.tui.words import file_name


class Record:
    """Takes events in, keeps time, writes them down."""

    def __init__(
        self, path: Path | None = None, session: Session | None = None, writer: Writer | None = None, held: str = ""
    ) -> None:
        """A new session for `path`, or for a name of its own made at the first operation.

        A session that is given goes on in the file at `path` through `writer`, or, with `held`, is only looked at.
        """
        self.session = session or Session()
        self.session.thinning = Thinning()
        self.path = path
        self.broken = False
        """Whether writing failed: what happens is in memory only."""
        self.held = held
        """Who else records in this file, in words: nothing is recorded here then. "" where nobody does."""
        self.tolerance: Tolerance = {}
        """What the file's header says of the spread over seeds: a copy carries it, too."""
        self._writer = writer
        self._created = datetime.now().astimezone()
        self._offset = self.session.seconds - time.monotonic()

    @classmethod
    def open(cls, path: Path) -> tuple["Record", str]:
        """Continue the session of a file; also a notice for the user, or "". Raises `BadFile`."""
        writer, held, problem = None, "", ""
        try:
            writer = Writer(path, None)
        except InUse as error:
            held = str(error.strerror)
        except OSError as error:
            problem = f"{path} cannot be continued: {error.strerror or error}"
        try:
            header, session, notice = read(path)
        except BadFile:
            if writer:
                writer.close()
            raise
        if problem:
            raise BadFile(problem)
        if held:  # the other one may be in the middle of a line
            notice = f"{held}: here it can be looked at; w saves a copy and goes on there"
        session.break_off()
        record = cls(path, session, writer, held)
        record.tolerance = header.tolerance
        return record, notice

    @property
    def recording(self) -> bool:
        """Whether events reach a file."""
        return self._writer is not None

    @property
    def seconds(self) -> float:
        """Since the session began; a session that is continued goes on where it stopped."""
        return max(time.monotonic() + self._offset, self.session.seconds)

    def take(self, event: AnyEvent) -> str:
        """Add one event to the session and its file. Returns a sentence for the user if that failed, else ""."""
        seconds = self.seconds
        try:
            self.session.append(seconds, event)
        except ValueError as error:
            return f"the worker said what does not follow: {error}"
        return self._write(seconds, event)

    def save_as(self, path: Path) -> None:
        """Write all that happened to another file and go on there; the old one stays. Raises `OSError`.

        A file that is there is replaced: whoever asks for the path asks about that.
        """
        if self.path and path.exists() and path.samefile(self.path):
            raise FileExistsError(self.held or "that is where this session is written already")
        if not lock.free(path):
            raise FileExistsError("another labbench records there")
        begun = any(isinstance(event, Started) for _, event in self.session.events)
        if not begun and path.exists():
            raise FileExistsError("nothing was done yet that could stand in its place")
        writer = self._begin(path, replace=True) if begun else None
        self.close()
        self.path, self.broken, self.held, self._writer = path, False, "", writer

    def discard(self) -> None:
        """Take back a file that was begun here with an operation that then failed; the next one begins it anew."""
        if self._writer and not self.session.steps:
            self.close()
            if self.path:
                self.path.unlink(missing_ok=True)

    def close(self, in_order: bool = True) -> None:
        """Close the file; one that is not closed in order is offered again at the next start."""
        if self._writer:
            with contextlib.suppress(OSError), self._writer:  # the disk is full: nothing more can be done
                if in_order:
                    self._writer.write(self.seconds, Closed())
            self._writer = None

    def _write(self, seconds: float, event: AnyEvent) -> str:
        if self.broken or self.held:
            return ""
        try:
            if self._writer:
                self._writer.write(seconds, event)
            elif isinstance(event, Started):
                path = self.path or self._name(event.operation)
                self._writer = self._begin(path)
                self.path = path
        except OSError as error:
            if self._writer:
                self._writer.close()
            self.broken, self._writer = True, None
            where = self.path.name if self.path else "the session"
            return f"{where} cannot be written: {error.strerror or error}; w saves the session elsewhere"
        return ""

    def _begin(self, path: Path, *, replace: bool = False) -> Writer:
        header = Header(
            labbench=VERSION,
            title=self.session.title,
            created=self._created.isoformat(timespec="seconds"),
            environment=self._first_environment(),
            tolerance=self.tolerance,
        )
        events = list(self.session.events)
        first = next((n for n, (_, event) in enumerate(events) if isinstance(event, Ready)), None)
        if first is not None:
            del events[first]  # the header says it
        mode = PRIVATE if path.parent == folders.sessions() else 0o666
        return Writer(path, header, events, mode=mode, replace=replace)

    def _first_environment(self) -> Environment | None:
        return next((event.environment for _, event in self.session.events if isinstance(event, Ready)), None)

    def _name(self, operation: AnyOperation) -> Path:
        what = f"{brief(operation.model)}-{operation.dataset}" if isinstance(operation, Load) else "session"
        stem = f"{self._created:%Y-%m-%d-%H%M%S}-{file_name(what)}"
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        return next(path for name in names if not (path := folders.sessions() / f"{name}.jsonl").exists())
