"""Files that torch writes, on disks that may be full."""

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch


def write(content: Any, path: Path) -> None:
    """What `torch.save` writes. Raises `OSError` where the disk takes no more."""
    written(path, lambda file: torch.save(content, file))


def written(path: Path, save: Callable[[IO[bytes]], None]) -> None:
    """A file that torch saves. Raises `OSError` where the disk takes no more; torch says only at which place."""
    try:
        with path.open("wb") as file:
            save(file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
