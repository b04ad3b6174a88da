"""Power cuts: of each file is left what was last synced of it, of each folder the names that were, or, as on many file
systems, also those that were not."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults import Disk, Killed, on


class Losing(Disk):
    """A disk that knows what would be left of a folder."""

    def __init__(self, folder: Path, *at: int) -> None:
        super().__init__(*at, kind="killed")
        self._folder = folder
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        for path in (folder, *folder.rglob("*")):
            self._keep(path)

    def call(self, name: str, do: Callable[[], Any], half: Callable[[], Any] = lambda: None) -> Any:
        """Do it; what is synced is kept."""
        found = super().call(name, do, half)
        if name in ("fsync", "fdatasync"):
            self._keep(Path(os.readlink(f"/proc/self/fd/{self.synced}")))
        return found

    def _keep(self, path: Path) -> None:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            self._names[status.st_ino] = {name: (path / name).stat().st_ino for name in os.listdir(path)}
        else:
            self._contents[status.st_ino] = path.read_bytes()

    def after(self, there: Path, names_are_kept: bool) -> None:
        """Make the folder as it is after a power cut. `names_are_kept`: whether they are without being synced."""
        now = {path.stat().st_ino: path for path in (self._folder, *self._folder.rglob("*"))}

        def make(inode: int, path: Path) -> None:
            if inode in now and now[inode].is_dir():
                path.mkdir(parents=True)
                names = self._names.get(inode, {})
                if names_are_kept:
                    names = {one.name: one.stat().st_ino for one in now[inode].iterdir()}
                for name, other in names.items():
                    make(other, path / name)
            else:
                path.write_bytes(self._contents.get(inode, b""))

        make(self._folder.stat().st_ino, there)


def every_power_cut(
    folder: Path, prepare: Callable[[Path], object], operate: Callable[[Path], object], look: Callable[[Path], object]
) -> int:
    """Do `operate` on what `prepare` made with a power cut before each call, and see by `look` that old or new is left;
    and that the new is, once it was done. Returns the number of power cuts."""
    first = folder / "first"
    first.mkdir(parents=True)
    prepare(first)
    old, disk = look(first), Losing(first)
    with on(disk):
        operate(first)
    new = look(first)
    assert old != new
    cuts = 0
    for number in range(1, len(disk.calls) + 2):
        for kept in (False, True):
            where, there = folder / f"{number}-{kept}", folder / f"{number}-{kept}-after"
            where.mkdir()
            prepare(where)
            losing = Losing(where, number)
            with on(losing), suppress(Killed):
                operate(where)
            losing.after(there, kept)
            said = f"at call {number} of {len(disk.calls)}: {losing.calls[-1]}, names kept: {kept}"
            assert look(there) in ((new,) if number > len(disk.calls) else (old, new)), said
            cuts += 1
    return cuts
