"""What killed writers have left half written in labbench's own folders: it goes when something is started."""

import threading
from contextlib import suppress
from pathlib import Path

from labbench import folders
from labbench.session.writing import sweep


def sweep_own(data_dir: Path | None = None) -> None:
    """Remove it; nobody waits for that."""
    threading.Thread(target=_sweep, args=(data_dir or folders.data(),), daemon=True).start()


def _sweep(data_dir: Path) -> None:
    from labbench.session.store import Store  # not needed for the first picture

    for folder in (folders.sessions(), folders.settings().parent):
        sweep(folder)
    Store(folders.checkpoints()).sweep()
    with suppress(OSError):
        for folder in (data_dir, *data_dir.glob("*/"), *data_dir.glob("*/*/")):  # downloads lie no deeper
            sweep(folder)
