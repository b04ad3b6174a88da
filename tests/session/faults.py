"""Faults at every call that changes a disk: an operation is done once to count the calls, and then once for each of
them and each kind of fault, in a fresh folder. What is there afterwards is the old or the new, whole."""

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal
from unittest.mock import patch

from labbench.session import reading
from labbench.session.writing import PART, sweep

Kind = Literal["full", "broken", "killed"]
KINDS: tuple[Kind, ...] = ("full", "broken", "killed")
CHANGING = (
    *("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir"),
    *("chmod", "utime", "truncate", "fsync", "fdatasync", "pwrite"),
)
TAKES_ROOM = ("open", "write", "mkdir", "link", "pwrite")
NOBODY = 2**22 + 12345  # no process has this number
DEEP = ("", "*/", "*/*/", "*/*/*/")


class Killed(BaseException):
    """Nothing that the process does from here on happens."""


class Disk:
    """Counts what is done to it, and breaks at the given calls."""

    used: "ClassVar[Disk | None]" = None
    """The one that files lie on now."""

    def __init__(self, *at: int, kind: Kind = "broken") -> None:
        self.calls: list[str] = []
        self.dead = self.full = False
        self.files: list[io.FileIO] = []
        self.synced = -1
        """The open file that was synced last."""
        self._at, self._kind = at, kind

    def call(self, name: str, do: Callable[[], Any], half: Callable[[], Any] = lambda: None) -> Any:
        """Do it, or half of it and fail."""
        if self.dead:
            raise Killed
        self.calls.append(name)
        if self.full and name in TAKES_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(self.calls) not in self._at:
            return do()
        half()
        if self._kind == "killed":
            self.dead = True
            raise Killed
        self.full = self._kind == "full"
        code = errno.ENOSPC if self.full else errno.EIO
        raise OSError(code, os.strerror(code))


class OneByOne:
    """Threads that do one thing after the other."""

    def __init__(self, count: int) -> None:
        self.map = map

    def __enter__(self) -> "OneByOne":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@contextmanager
def on(disk: Disk) -> Iterator[None]:
    """Every call that changes a file goes over this disk; the files that a killed process had open are closed."""

    class File(io.FileIO):
        def __init__(self, file: Any, mode: str = "r", closefd: bool = True, opener: Any = None) -> None:
            make = lambda: io.FileIO.__init__(self, file, mode, closefd, opener)  # noqa: E731
            disk.call("open", make) if set(mode) & set("wax+") else make()
            disk.files.append(self)

        def write(self, data: Any) -> int:
            if disk.dead:  # a buffer that is thrown away
                return len(data)
            half = bytes(data)[: len(data) // 2]
            found: int = disk.call("write", lambda: io.FileIO.write(self, data), lambda: io.FileIO.write(self, half))
            return found

        def truncate(self, size: int | None = None) -> int:
            found: int = disk.call("truncate", lambda: io.FileIO.truncate(self, size))
            return found

    plain = io.open

    def opened(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
        if "b" not in mode or options.get("closefd") is False:
            return plain(file, mode, buffering, *more, **options)
        raw = File(file, mode.replace("b", ""), opener=options.get("opener"))
        kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
        return raw if buffering == 0 else kind(raw)  # type: ignore[arg-type]

    def tapped(name: str) -> Callable[..., Any]:
        do = getattr(os, name)

        def called(*given: Any, **options: Any) -> Any:
            if name in ("fsync", "fdatasync"):
                disk.synced = given[0]
            return disk.call(name, lambda: do(*given, **options))

        return called

    make = os.open

    def made(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        do = lambda: make(path, flags, mode, **options)  # noqa: E731
        found: int = disk.call("open", do) if flags & os.O_CREAT else do()
        return found

    with ExitStack() as stack:
        for name in filter(os.__dict__.get, CHANGING):  # macOS has no fdatasync
            stack.enter_context(patch.object(os, name, tapped(name)))
        stack.enter_context(patch.object(os, "open", made))
        stack.enter_context(patch.object(os, "getpid", lambda: NOBODY))
        stack.enter_context(patch.object(io, "open", opened))
        stack.enter_context(patch.object(builtins, "open", opened))
        stack.enter_context(patch.object(reading, "FileIO", File))
        stack.enter_context(patch.object(Disk, "used", disk))
        stack.enter_context(patch.object(futures, "ThreadPoolExecutor", OneByOne))  # calls are counted in their order
        try:
            yield
        finally:
            for file in disk.files:
                io.FileIO.close(file)


def every_fault(
    folder: Path,
    prepare: Callable[[Path], object],
    operate: Callable[[Path], object],
    look: Callable[[Path], object],
    refused: tuple[type[Exception], ...] = (OSError,),
) -> int:
    """Do `operate` on what `prepare` made, with each fault at each call, and see by `look` that it is old or new.

    Afterwards nothing half is left, and without a fault the same works. Returns the number of faults.
    """
    before, first = folder / "before", folder / "none"
    before.mkdir(parents=True)
    prepare(before)
    shutil.copytree(before, first)
    old = look(first)
    disk = Disk()
    with on(disk):
        operate(first)
    new = look(first)
    assert old != new and len(disk.calls) > 1
    cases = 0
    for kind in KINDS:
        for number, name in enumerate(disk.calls, 1):
            where, said = folder / f"{kind}-{number}", f"{kind} at call {number}: {name}"
            shutil.copytree(before, where)
            broken = Disk(number, kind=kind)
            with on(broken):
                try:
                    operate(where)
                except (Killed, *refused):
                    pass
            cases += 1
            assert look(where) in (old, new), said
            left = [path.name for path in where.rglob(f"*{PART}")]
            assert kind == "killed" or name in ("unlink", "remove", "rmdir") or not left, f"{said}: {left}"
            for deep in DEEP:
                for one in where.glob(deep) if deep else [where]:
                    sweep(one)
            assert not list(where.rglob(f"*{PART}")), said
            if look(where) == old:
                operate(where)
            assert look(where) == new, said
    return cases
