"""A terminal without a window, for the benchmarks: starts a program in it, presses keys, says when text was drawn."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

COLUMNS, LINES = 120, 40
ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78cM])")
"""What moves the cursor or sets a color: what is left is the text that was drawn, in the order it was."""
END = b"\x11"  # ctrl+q


def _take_terminal() -> None:
    """Make standard input the terminal of the session: if we are killed, the program hears that it has none."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class NotDrawn(Exception):
    """A text did not come to the screen in time."""


class PseudoTerminal:
    """A program that believes that it runs in a terminal of 120×40 cells. A context manager: leaving it ends that."""

    def __init__(self, command: Sequence[str], more: Mapping[str, str]) -> None:
        """Start `command`, with `more` added to the environment. The clock begins here."""
        self._raw = bytearray()
        self._read = 0
        """How much of what was drawn an earlier `drawn` has used up."""
        screen, program = pty.openpty()
        fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **more}
        self._screen = screen
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=program,
            stdout=program,
            stderr=program,
            env=environment,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(program)

    def __enter__(self) -> "PseudoTerminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def press(self, keys: bytes) -> float:
        """Send these keys; returns when, on the clock of `drawn`."""
        pressed = time.perf_counter()
        os.write(self._screen, keys)
        return pressed - self.began

    def drawn(self, text: str, patience: float = 60.0) -> float:
        """Wait until the text is drawn after what an earlier call waited for; returns the seconds since the start.

        Raises `NotDrawn` when it does not come or the program ends.
        """
        wanted = text.encode()
        deadline = time.perf_counter() + patience
        while True:
            seen = ESCAPES.sub(b"", bytes(self._raw[self._read :]))
            if wanted in seen:
                self._read = len(self._raw)
                return self._latest - self.began
            if not self._more(deadline):
                raise NotDrawn(f"{text!r} was not drawn; the last was {seen[-300:].decode(errors='replace')!r}")

    def quiet(self, seconds: float) -> None:
        """Read until nothing was drawn for so long, and forget it."""
        while self._more(time.perf_counter() + seconds):
            pass
        self._read = len(self._raw)

    def watch(self, seconds: float) -> None:
        """Read for so long, whatever is drawn, and forget it."""
        deadline = time.perf_counter() + seconds
        while self._more(deadline):
            pass
        self._read = len(self._raw)

    def end(self) -> None:
        """End the program, gently if it lets itself be."""
        deadline = time.perf_counter() + 6
        with suppress(OSError):
            while self._process.poll() is None and time.perf_counter() < deadline:
                os.write(self._screen, END)
                self._more(time.perf_counter() + 0.5)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(OSError):
            os.close(self._screen)

    def _more(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._screen], [], [], max(deadline - time.perf_counter(), 0))
        if not ready:
            return False
        try:
            chunk = os.read(self._screen, 2**16)
        except OSError:  # the program has closed its end
            return False
        self._latest = time.perf_counter()
        self._raw += chunk
        return bool(chunk)
