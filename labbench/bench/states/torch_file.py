"""Files that torch writes, on disks that may be full."""

from pathlib import Path
from typing import Any

import torch


def write(content: Any, path: Path) -> None:
    """What `torch.save` writes. Raises `OSError` where the disk takes no more; torch says only at which place."""
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
