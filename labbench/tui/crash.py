"""An unexpected error: the traceback goes to the log, one sentence to the user."""

import traceback
from datetime import datetime
from pathlib import Path

from labbench.printable import printable
from labbench.session.writing import privately


def report(error: BaseException, log: Path) -> str:
    """Write the traceback of an error to the log; returns the sentence for the user."""
    what = printable(" ".join(f"{type(error).__name__}: {error}".split())[:300])
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8", opener=privately) as file:
            file.write(f"\n{datetime.now().astimezone().isoformat(timespec='seconds')} the terminal app broke\n")
            traceback.print_exception(error, file=file)
    except OSError as problem:
        return f"labbench broke: {what} (and the log cannot be written: {problem.strerror or problem})"
    return f"labbench broke: {what} (traceback in {log}; the session file has everything up to here)"
