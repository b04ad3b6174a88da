"""A session and the file it is written to, event by event. The file is made with the first operation, so that opening
and closing the bench leaves nothing behind."""

import itertools
import time
from datetime import datetime
from pathlib import Path

from labbench import folders
from labbench.session.events import AnyEvent, Environment, Ready, Started
from labbench.session.jsonl import VERSION, BadFile, Header, Writer, read
from labbench.session.operations import AnyOperation, Load
from labbench.session.own import brief
from labbench.session.session import Session
from labbench.tui.words import file_name


class Record:
    """Takes events in, keeps time, writes them down."""

    def __init__(self, path: Path | None = None, session: Session | None = None) -> None:
        """A new session for `path`, or for a name of its own made at the first operation.

        A session that is given goes on in the file at `path`. Raises `OSError` where that cannot be written.
        """
        self.session = session or Session()
        self.path = path
        self.broken = False
        """Whether writing failed: what happens is in memory only."""
        self._writer = Writer(path, None) if session and path else None
        self._created = datetime.now().astimezone()
        self._offset = self.session.seconds - time.monotonic()

    @classmethod
    def open(cls, path: Path) -> tuple["Record", str]:
        """Continue the session of a file; also a notice for the user, or "". Raises `BadFile`."""
        _, session, notice = read(path)
        if session.running:
            cut = f"{session.running.describe()} was not finished when the recording ended; the model is as before it"
            notice = f"{notice}\n{cut}" if notice else cut
        try:
            return cls(path, session), notice
        except OSError as error:
            raise BadFile(f"{path} cannot be continued: {error.strerror or error}") from None

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
            raise FileExistsError("that is where this session is written already")
        path.unlink(missing_ok=True)
        writer = None
        if any(isinstance(event, Started) for _, event in self.session.events):
            writer = self._begin(path)
        self.close()
        self.path, self.broken, self._writer = path, False, writer

    def discard(self) -> None:
        """Take back a file that was begun here with an operation that then failed; the next one begins it anew."""
        if self._writer and not self.session.steps:
            self.close()
            if self.path:
                self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def _write(self, seconds: float, event: AnyEvent) -> str:
        if self.broken:
            return ""
        try:
            if self._writer:
                self._writer.write(seconds, event)
            elif isinstance(event, Started):
                self._writer = self._begin(self.path or self._name(event.operation))
                self.path = self._writer.path
        except OSError as error:
            self.broken, self._writer = True, None
            where = self.path.name if self.path else "the session"
            return f"{where} cannot be written: {error.strerror or error}; w saves the session elsewhere"
        return ""

    def _begin(self, path: Path) -> Writer:
        header = Header(
            labbench=VERSION,
            title=self.session.title,
            created=self._created.isoformat(timespec="seconds"),
            environment=self._first_environment(),
        )
        writer = Writer(path, header)
        first = next((n for n, (_, event) in enumerate(self.session.events) if isinstance(event, Ready)), None)
        for number, (seconds, event) in enumerate(self.session.events):
            if number != first:  # the header says it
                writer.write(seconds, event)
        return writer

    def _first_environment(self) -> Environment | None:
        return next((event.environment for _, event in self.session.events if isinstance(event, Ready)), None)

    def _name(self, operation: AnyOperation) -> Path:
        what = f"{brief(operation.model)}-{operation.dataset}" if isinstance(operation, Load) else "session"
        stem = f"{self._created:%Y-%m-%d-%H%M%S}-{file_name(what)}"
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        return next(path for name in names if not (path := folders.sessions() / f"{name}.jsonl").exists())
