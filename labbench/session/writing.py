"""Files that are there whole or not at all, whenever a writer is stopped or killed."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"  # behind the name of a file that is being written
ABANDONED = 24 * 3600  # seconds after which nobody writes to an unfinished file any more


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another file beside `path`, to be written; it takes the place of `path` if nothing is raised, else it goes.
    What may be done to the file stays as it was.

    Makes the folder, and removes what a killed writer left there. Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{path.name}.*{PART}"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > ABANDONED:
                old.unlink()
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        part.touch()
        mode = (path if path.exists() else part).stat().st_mode  # safetensors writes for the owner's eyes only
        yield part
        part.chmod(mode)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
