"""Shared by all tests: nothing is read from or written to the user's own folders."""

import os
from pathlib import Path

import pytest

from labbench.client import PATIENT

os.environ |= PATIENT  # before torch is imported: the machine may be shared
if "PYTEST_XDIST_WORKER" in os.environ:  # pytest -n: the cores are, in any case
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, sessions, checkpoints, settings and log lie in a folder of the test."""
    for name in ("DATA", "CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("HOME", str(tmp_path))
