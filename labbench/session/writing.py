"""Files that are there whole or not at all, whenever a writer is stopped or killed or the power fails."""

import errno
import os
import re
import shutil
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"  # behind the name of a file that is being written
ABANDONED = 24 * 3600  # seconds after which nobody writes to an unfinished file any more
PRIVATE = 0o600  # what others may do with files that labbench makes in its own folders: nothing
TOGETHER = 8  # files that are synced at the same time
LONGEST = 40  # characters of a file's name that the name of its part repeats: a name has 255 bytes at most
_OF = re.compile(
    r"\..+\.(?:([0-9a-f]{8})-)?(\d{1,10})(?:-[0-9a-f]{8})?\.part", re.DOTALL
)  # .NAME.MACHINE-PROCESS-….part
_CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
_CANNOT_LINK = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EXDEV)


@contextmanager
def whole(
    path: Path, mode: int = 0o666, *, new: bool = False, named: bool = False, synced: bool = True
) -> Iterator[Path]:
    """Another file beside `path`, to be written; it takes the place of `path` if nothing is raised, else it goes.

    It stands on the disk before it has its name, and its name does when this returns; not `synced`, that is left to
    whoever needs it. A link is written through. What may be done to a file that is replaced stays as it was; `mode`,
    less the umask, is for one that was not there. With `new` there must be none. With `named` the other file has the
    name of `path`, in a folder of its own.

    Makes the folder, and removes what killed writers left there. Raises `OSError`.
    """
    path = Path(os.path.realpath(path))
    _make_folder(path.parent, synced)
    sweep(path.parent)
    before = _regular(path)
    if new and before:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    made = path.with_name(f".{path.name[:LONGEST]}.{_here()}-{os.getpid()}-{os.urandom(4).hex()}{PART}")
    part = made / path.name if named else made
    try:
        if named:
            made.mkdir(0o700)
        part.touch(mode, exist_ok=False)
        wanted = (before or part.stat()).st_mode
        yield part
        if part.stat().st_mode != wanted:  # safetensors writes for the owner's eyes only
            part.chmod(stat.S_IMODE(wanted))
        if synced:
            sync_path(part)
        if new:
            _place_new(part, path)
        else:
            os.replace(part, path)
    finally:
        with suppress(OSError):
            _remove(made)
    if synced:
        sync_folder(path.parent)


def privately(path: str, flags: int) -> int:
    """What `open` takes as its opener for a file that is its user's alone."""
    return os.open(path, flags, PRIVATE)


def sync(file: int) -> None:
    """What was written to an open file stands on the disk, where the file system can promise that. Raises `OSError`."""
    try:
        getattr(os, "fdatasync", os.fsync)(file)  # macOS has only the other
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def sync_path(path: Path) -> None:
    """The same of a file that is there."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """The same of the names in a folder."""
    with suppress(PermissionError):  # a folder that may be written to, but not read
        sync_path(folder)


def sync_all(paths: Iterable[Path]) -> None:
    """The same of many: whoever waits for a disk together waits a tenth of the time."""
    from concurrent.futures import ThreadPoolExecutor  # here, since a front end writes one file at a time

    with ThreadPoolExecutor(TOGETHER) as threads:
        for _ in threads.map(lambda path: sync_folder(path) if path.is_dir() else sync_path(path), paths):
            pass


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder: parts whose process is gone, or that nobody wrote to for long."""
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            if entry.name.endswith(PART):
                with suppress(OSError):
                    if is_abandoned(Path(entry.path)):
                        _remove(Path(entry.path))


def is_abandoned(part: Path) -> bool:
    """Whether nobody writes to a part any more, as far as can be told: of a process elsewhere only its age can."""
    found = _OF.fullmatch(part.name)
    if found is None:
        return False
    gone = found[1] == _here() and not _is_alive(int(found[2]))
    return gone or time.time() - part.lstat().st_mtime > ABANDONED


def _here() -> str:
    """This machine, and in it the container whose process numbers mean something here."""
    place = os.uname().nodename
    with suppress(OSError):
        place += f" {os.stat('/proc/self/ns/pid').st_ino}"
    return f"{zlib.crc32(place.encode(errors='surrogateescape')):08x}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _regular(path: Path) -> os.stat_result | None:
    """What is known of a file that is to be replaced, None where there is none. `OSError`: it is not to be replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):  # a folder is refused where it would be replaced
        return found
    raise OSError(errno.EINVAL, "a pipe or a device, no regular file", str(path))


def _make_folder(folder: Path, synced: bool) -> None:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing if synced else ():
        sync_folder(one.parent)


def _place_new(part: Path, path: Path) -> None:
    try:
        os.link(part, path)  # unlike a renaming, it never replaces
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        path.touch(exist_ok=False)
        os.replace(part, path)


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)
