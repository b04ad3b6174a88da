"""A real terminal around a real program: whatever ends or suspends it, the terminal is as it was, the session whole."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import fake_worker
import pytest

from labbench.session.events import Closed
from labbench.session.jsonl import read
from labbench.session.operations import Finetune, Load

LOAD = Load(model="lenet-5", dataset="digits")
RUN = Finetune(epochs=3, seed=13)  # until it is stopped
PROGRAM = f"""
import sys
from labbench import cli, client
from labbench.session.operations import Finetune
from labbench.tui import app
client.worker_command = lambda *_: [sys.executable, {fake_worker.__file__!r}]
import labbench.tui.start
labbench.tui.start.worker_command = client.worker_command
there = app.LabbenchApp._take_ready
def take_ready(self, event):
    there(self, event)
    if not self.desk.session.steps:
        self.set_timer(0.3, lambda: self.desk.perform(Finetune(epochs=3, seed=13)))
app.LabbenchApp._take_ready = take_ready
sys.exit(cli.main())
"""
PATIENCE = 60.0
RECORDING = Path(__file__).parents[2] / "sessions" / "lenet-5-digits.jsonl"
LOCAL = 3  # where a terminal's attributes say whether it echoes


class Terminal:
    """A terminal of 80×24, and all that was written to it."""

    def __init__(self, *command, **environment):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 80))
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**os.environ, "TERM": "xterm-256color", **environment},
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # it becomes the one that controls
        )

    def until(self, condition):
        """Read until it is so of what was shown; fail after a while that is long enough for a busy machine."""
        end = time.monotonic() + PATIENCE
        while not condition(self.shown):
            assert time.monotonic() < end, self.shown[-3000:]
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.shown += os.read(self.master, 2**16)

    def press(self, keys):
        """Type something; what was shown before is forgotten."""
        self.shown = b""
        os.write(self.master, keys)

    def ended(self):
        """The exit code, once the program has ended and all was read."""
        self.until(lambda _: self.process.poll() is not None)
        with contextlib.suppress(AssertionError):
            while select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 2**16)
        return self.process.returncode

    def close(self):
        """Take the terminal away, as a window that is closed."""
        os.close(self.slave)
        os.close(self.master)
        self.master = -1


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def open_(*command, **environment):
        opened.append(Terminal(*command, **environment))
        return opened[-1]

    yield open_
    for one in opened:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        if one.master >= 0:
            one.close()


@pytest.fixture
def bench(terminal, tmp_path):
    """A terminal in which a run is under way, and the file of its session."""
    path, command = tmp_path / "lesson.jsonl", bench_in(tmp_path)
    one = terminal(*command)
    one.until(lambda _: trains(path))
    return one, path


def bench_in(folder):
    """The command of a bench that opens a model and trains it, in a file of that folder."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    session = folder / "lesson.jsonl"
    return [sys.executable, program, "--session", session, "--model", "lenet-5", "--dataset", "digits"]


def trains(path):
    return path.exists() and b'"train"' in path.read_bytes()


def left_whole(shown):
    """Whether the alternate screen, mouse reports, bracketed paste and a hidden cursor were taken back."""
    pairs = [(b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h")]
    pairs += [(b"\x1b[?%dh" % mode, b"\x1b[?%dl" % mode) for mode in (1000, 1003, 1006, 2004, 1004)]
    return all(on in shown and shown.rindex(on) < shown.rindex(off) for on, off in pairs)


def kept(path):
    session = read(path)[1]
    return session.changes == (LOAD, RUN) and isinstance(session.events[-1][1], Closed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_bench_as_quitting_does(bench, number):
    one, path = bench
    one.process.send_signal(number)
    assert one.ended() == 128 + number
    assert left_whole(one.shown)
    assert termios.tcgetattr(one.slave) == one.before
    assert kept(path)
    assert f"go on with: labbench {path}" in one.shown.decode().replace("\r\n", "")


def test_a_terminal_that_is_closed_ends_the_bench_with_a_whole_session(bench):
    one, path = bench
    one.close()
    one.process.wait(PATIENCE)
    assert kept(path)


def test_a_recording_ends_by_a_signal_too(terminal):
    player = terminal(sys.executable, "-m", "labbench", "play", RECORDING)
    player.until(lambda shown: b"conv1" in shown)
    player.process.send_signal(signal.SIGTERM)
    assert player.ended() == 143
    assert left_whole(player.shown) and termios.tcgetattr(player.slave) == player.before


def test_ctrl_z_gives_the_terminal_back_and_fg_goes_on_where_it_was(terminal, tmp_path):
    shell = terminal("bash", "--norc", "--noediting", "-i", PS1="$ ")
    shell.until(lambda shown: b"$ " in shown)
    shell.press(" ".join(map(str, bench_in(tmp_path))).encode() + b"\n")
    shell.until(lambda shown: b"conv1" in shown and trains(tmp_path / "lesson.jsonl"))
    worker = _worker_of(shell.process.pid)
    started = shell.shown
    shell.press(b"\x1a")
    shell.until(lambda shown: b"fg goes on" in shown and b"$ " in shown[shown.rindex(b"fg goes on") :])
    assert left_whole(started + shell.shown)
    assert b"suspended, and the worker with it" in shell.shown
    assert _state(worker) == "T"
    cooked = termios.ICANON | termios.ECHO | termios.ISIG
    assert termios.tcgetattr(shell.slave)[LOCAL] & cooked == cooked
    shell.press(b"fg\n")
    shell.until(lambda shown: b"Curves" in shown and b"finetune" in shown)  # all of it is drawn again
    assert _state(worker) != "T"
    shell.press(b"q")
    shell.until(lambda shown: b"Stop and quit" in shown)
    shell.press(b"y")
    shell.until(lambda shown: b"go on with" in shown and shown.endswith(b"$ "))
    shell.press(b"exit\n")
    assert shell.ended() == 0


def test_where_no_shell_could_bring_it_back_ctrl_z_changes_nothing(terminal, bench):
    one, path = bench
    one.press(b"\x1a")
    one.until(lambda shown: b"Curves" in shown.partition(b"\x1b[?1049l")[2].partition(b"\x1b[?1049h")[2])
    one.process.send_signal(signal.SIGTERM)
    assert one.ended() == 143
    assert kept(path)


@pytest.mark.parametrize("encoding", [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_terminal_that_is_not_in_utf_8_is_told_why_and_what_to_do(terminal, encoding):
    one = terminal(sys.executable, "-m", "labbench", PYTHONCOERCECLOCALE="0", **encoding)
    assert one.ended() == 3
    said = one.shown.decode()
    assert "needs a terminal in UTF-8" in said and next(iter(encoding)) in said
    assert "\x1b" not in said and "\\u" not in said


def _worker_of(shell):
    (bench,) = _children(shell)
    (worker,) = _children(bench)
    return worker


def _children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
