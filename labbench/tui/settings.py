"""What the app remembers from one run to the next: the theme, and the last values of every form."""

import contextlib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from labbench.session import reading
from labbench.session.catalogue import knobs_of
from labbench.session.check import BadInput, operation_from, wrong
from labbench.session.jsonl import encode
from labbench.session.operations import OPERATIONS, AnyOperation, Finetune, Load
from labbench.session.writing import PRIVATE, whole

THEME = "textual-dark"
LIMIT = 2**22  # bytes of the file


class Remembered(Struct, kw_only=True):
    """The file's content."""

    theme: str = THEME
    load: dict[str, Any] = {}
    operations: dict[str, dict[str, Any]] = {}


class Settings:
    """Remembered values and the file they live in. A file that cannot be read or written is done without."""

    def __init__(self, path: Path, remembered: Remembered | None = None) -> None:
        self._path = path
        self._remembered = remembered or Remembered()

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """The settings of this file; defaults where it is absent or broken."""
        try:
            return cls(path, msgspec.json.decode(reading.content(path, LIMIT), type=Remembered))
        except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return cls(path)

    @property
    def theme(self) -> str:
        """Name of the chosen theme. It may be one that this Textual does not have."""
        return self._remembered.theme

    @theme.setter
    def theme(self, name: str) -> None:
        self._remembered.theme = name

    def remember(self, operation: AnyOperation) -> None:
        """Keep the values of this operation for the next form of its kind."""
        if isinstance(operation, Finetune) and operation.resume:
            return  # its values are those of the run that was stopped
        raw = msgspec.to_builtins(operation)
        name = raw.pop("op")
        knobs = knobs_of(type(operation))
        kept = {k.name: raw[k.name] for k in knobs if k.name in raw and not (k.once or k.recorded or k.offered)}
        if isinstance(operation, Load):
            self._remembered.load = kept
        self._remembered.operations[name] = kept

    def last(self, name: str) -> dict[str, object]:
        """The values of the last such operation, as far as they are still right."""
        knobs = {knob.name: knob for knob in knobs_of(OPERATIONS[name])} if name in OPERATIONS else {}
        given = self._remembered.operations.get(name, {})
        return {key: value for key, value in given.items() if key in knobs and not wrong(knobs[key], value)}

    def last_load(self) -> Load | None:
        """The model and data that were opened last."""
        with contextlib.suppress(BadInput):
            operation = operation_from({"op": "load", **self._remembered.load})
            return operation if isinstance(operation, Load) else None
        return None

    def save(self) -> None:
        """Write the file in one step, so that no reader sees half of it; where that cannot be, go without."""
        with contextlib.suppress(OSError), whole(self._path, PRIVATE) as part:
            part.write_bytes(msgspec.json.format(encode(self._remembered).rstrip(), indent=2))
