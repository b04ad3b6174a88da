"""What cannot be written costs what would have been kept, never what is computed. Each kind of it is said once."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from safetensors import SafetensorError

from labbench.bench.shortage import is_shortage
from labbench.session.store import Busy

Kind: TypeAlias = Literal["checkpoints", "data sets"]

SENTENCES: dict[Kind, str] = {
    "checkpoints": "no checkpoints are kept any more: {}; what is computed stays in memory, its steps in the session",
    "data sets": "data sets are not kept as they were read: {}; the next start reads them from their files again",
}


class Unkept:
    """Why something could not be kept, and whether that was said."""

    def __init__(self) -> None:
        self.reasons: dict[Kind, str] = {}
        self._said: set[Kind] = set()

    @contextmanager
    def tolerated(self, kind: Kind) -> Iterator[None]:
        """While it lasts, a disk or a memory that fails is only remembered. Somebody else who writes is no failure."""
        try:
            yield
        except Busy:
            pass
        except (OSError, SafetensorError, MemoryError, RuntimeError) as error:
            if not isinstance(error, OSError | SafetensorError) and not is_shortage(error):
                raise
            self.reasons.setdefault(kind, _reason(error))

    def said(self) -> tuple[str, ...]:
        """The sentences that nobody has got yet."""
        new = [kind for kind in self.reasons if kind not in self._said]
        self._said.update(new)
        return tuple(SENTENCES[kind].format(self.reasons[kind]) for kind in new)


def _reason(error: Exception) -> str:
    """What was wrong, and where, in a few words."""
    if isinstance(error, OSError):
        where = os.path.dirname(error.filename) if isinstance(error.filename, str) else ""
        return f"{error.strerror or error}{f' ({where})' if where else ''}"
    if isinstance(error, SafetensorError) and (number := re.search(r"os error (\d+)", str(error))):
        return os.strerror(int(number[1]))
    return "there is not enough memory" if is_shortage(error) else str(error) or os.strerror(errno.EIO)
