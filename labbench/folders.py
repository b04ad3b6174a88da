"""Where things lie on this platform: data sets, sessions, checkpoints and the log."""

import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import platformdirs


def data() -> Path:
    """The folder of downloaded data sets (`--data-dir` names another)."""
    return _own(platformdirs.user_data_path) / "data"


def sessions() -> Path:
    """The folder where every run of the app is recorded unless `--session FILE` says otherwise."""
    return _own(platformdirs.user_data_path) / "sessions"


def session_file(name: str) -> Path:
    """The file that a name on the command line means: the one here, else the session that `labbench sessions` lists so,
    with or without .jsonl."""
    path = Path(name)
    if os.path.basename(name) == name and not os.path.exists(path):
        for listed in (sessions() / name, sessions() / f"{name}.jsonl"):
            if os.path.isfile(listed):
                return listed
    return path


def checkpoints() -> Path:
    """The cache of weights; anything in it can be computed again from a session."""
    return _own(platformdirs.user_cache_path) / "checkpoints"


def settings() -> Path:
    """The file of remembered form values and the chosen theme."""
    return _own(platformdirs.user_config_path) / "settings.json"


def log() -> Path:
    """The log file: what the worker and the libraries in it write, and every traceback."""
    return _own(platformdirs.user_log_path) / "labbench.log"


def trouble() -> str:
    """What of all this cannot be used here, and why, in a sentence; "" where everything can. Labbench does without it:
    without a log and without checkpoints everything works, and is computed anew."""
    lost, reasons = [], []
    for what, file in (("no log", log()), ("no checkpoints", checkpoints() / "any")):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") if file.exists() else tempfile.TemporaryFile(dir=file.parent):
                pass
        except OSError as error:
            lost.append(what)
            reasons.append(f"{file.parent}: {error.strerror}")
    homeless = "" if _home() else f"no home folder: what would lie there is in {_homeless()}"
    return "; ".join(filter(None, (homeless, f"{' and '.join(lost)}: {'; '.join(reasons)}" if lost else "")))


def _own(kind: Callable[..., Path]) -> Path:
    try:
        return kind("labbench", appauthor=False)
    except RuntimeError:  # HOME is not set, and this user has none: a container's
        return _homeless() / kind.__name__.split("_")[1]


def _home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


@cache
def _homeless() -> Path:
    """A folder for a user without a home; one that somebody else has made there is not used."""
    try:
        folder = Path(tempfile.gettempdir()) / f"labbench-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder if folder.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix="labbench-"))
    except OSError:  # nothing can be written anywhere
        return Path(os.devnull) / "labbench"
