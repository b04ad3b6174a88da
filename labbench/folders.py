"""Where things lie on this platform: data sets, sessions, checkpoints and the log."""

import os
from pathlib import Path

import platformdirs


def data() -> Path:
    """The folder of downloaded data sets (`--data-dir` names another)."""
    return platformdirs.user_data_path("labbench", appauthor=False) / "data"


def sessions() -> Path:
    """The folder where every run of the app is recorded unless `--session FILE` says otherwise."""
    return platformdirs.user_data_path("labbench", appauthor=False) / "sessions"


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
    return platformdirs.user_cache_path("labbench", appauthor=False) / "checkpoints"


def settings() -> Path:
    """The file of remembered form values and the chosen theme."""
    return platformdirs.user_config_path("labbench", appauthor=False) / "settings.json"


def log() -> Path:
    """The log file: what the worker and the libraries in it write, and every traceback."""
    return platformdirs.user_log_path("labbench", appauthor=False) / "labbench.log"
