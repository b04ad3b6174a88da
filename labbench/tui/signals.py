"""Signals and the terminal: whatever ends the app ends it in order, and ctrl+z gives the terminal back as it was."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver

from labbench.exits import by_signal, heard, say

if TYPE_CHECKING:
    from labbench.tui.app import LabbenchApp

KEYS, SCREEN = 0, 2  # the file descriptors through which Textual reads and draws
MOMENT = 0.05  # seconds until a signal has reached this process, whichever of its threads takes it


def quit_on_signals(app: "LabbenchApp") -> None:
    """Quit, as with q but without a question, where a signal asks the program to end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, *heard()):
        loop.add_signal_handler(number, _quit, app, number)


def _quit(app: "LabbenchApp", number: int) -> None:
    for stream in (KEYS, SCREEN):
        if not os.isatty(stream):  # it was closed: what is at its end is read and written as nothing
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    app.end(by_signal(number))


class Terminal(LinuxDriver):
    """Textual's terminal, which may be closed at any time: what is drawn from then on is lost."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._file: Any = Forgiving(self._file)


class Forgiving:
    """A file that takes whatever is written, as long as it can."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> None:
        """Write it, or lose it."""
        with contextlib.suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """Bring it to the terminal, or lose it."""
        with contextlib.suppress(OSError):
            self._file.flush()


class Suspension:
    """Gives the terminal back while the app is suspended, and takes it again as it has to be. The worker, which is in a
    process group of its own, stands still meanwhile."""

    def __init__(self, app: "LabbenchApp", driver: Driver) -> None:
        """From now on SIGTSTP suspends, which is what Textual does on ctrl+z."""
        self._app = app
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._asleep = False
        self._continued = False
        signal.signal(signal.SIGTSTP, self.suspend)
        signal.signal(signal.SIGCONT, self._go_on)

    def suspend(self, *_: object) -> None:
        """Stand still until the shell's fg. Where no shell could do that, go on at once."""
        self._asleep = True
        self._app.link.suspend()
        self._driver.suspend_application_mode()
        with contextlib.redirect_stderr(sys.__stderr__):  # not to Textual's
            say(f"suspended{'' if self._app.playback else ', and the worker with it'}; fg goes on")
        handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTSTP, *heard())}
        while self._stopped() and not _in_front():  # by bg: it could only draw over what others write
            pass
        for number, handler in handlers.items():
            signal.signal(number, handler)
        self._take_again()
        self._app.link.wake()
        self._asleep = False

    def _stopped(self) -> bool:
        """Stand still until SIGCONT; False where the system does not allow it, since nobody could send that."""
        self._continued = False
        os.kill(os.getpid(), signal.SIGTSTP)
        time.sleep(MOMENT)
        return self._continued

    def _go_on(self, *_: object) -> None:
        self._continued = True
        if self._asleep:
            return
        if not _in_front():
            self.suspend()
            return
        self._driver.suspend_application_mode()  # after SIGSTOP, which nobody hears: the shell has had the terminal
        self._take_again()

    def _take_again(self) -> None:
        self._driver.resume_application_mode()
        self._loop.call_soon_threadsafe(partial(self._app.refresh, layout=True))


def _in_front() -> bool:
    try:
        return os.tcgetpgrp(KEYS) == os.getpgrp()
    except OSError:  # the terminal is gone
        return True
