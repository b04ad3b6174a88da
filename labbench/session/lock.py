"""One writer to a session file: whoever records there holds an lock on it, which ends when its process does."""

import errno
import os
import sys
from io import FileIO
from pathlib import Path

from labbench.session import reading

LOCKS = Path("/proc/locks")  # Linux's list of who holds what


class InUse(OSError):
    """Another labbench records there; `strerror` says so."""


def take(file: FileIO) -> None:
    """Hold the lock of an open file until it is closed. Raises `InUse`; without locks nothing is guarded."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _holder(os.fstat(file.fileno()).st_ino)
        who = f" (pid {pid})" if pid else ""
        raise InUse(errno.EBUSY, f"this session is open in another labbench{who}", file.name) from None
    except OSError:  # a file system without locks
        return


def opened(path: Path) -> FileIO:
    """A regular file with its lock, open for reading and writing without a buffer. Raises `InUse`, or another
    `OSError`."""
    while True:
        file = reading.opened(path, "r+")
        try:
            take(file)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # what was locked has been replaced meanwhile


def free(path: Path) -> bool:
    """Whether nobody records there."""
    try:
        opened(path).close()
    except InUse:
        return False
    except OSError:
        return True
    return True


def _holder(inode: int) -> int:
    """The process that holds the lock of this file; 0 where that is not told."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:  # 3: FLOCK  ADVISORY  WRITE 4711 fd:00:2345 0 EOF
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            return int(words[4]) if words[4].isdecimal() else 0
    return 0
