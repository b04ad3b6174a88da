"""Files that others may have made: only regular ones are opened, none is waited for, none is read beyond its limit."""

import errno
import os
import stat
from io import FileIO
from pathlib import Path

ADDRESS = "file://"


def opened(path: Path, mode: str = "r") -> FileIO:
    """A regular file, open without a buffer. A pipe, a device or a folder raises an `OSError` that says so."""
    return FileIO(path, mode, opener=_regular)


def content(path: Path, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes. Raises an `OSError` that says what is wrong."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"{size:,} bytes are too many: at most {limit:,} are read", str(path))
        return exactly(file, size)


def tail(path: Path, size: int) -> bytes:
    """The last bytes of a regular file, `size` at most. Raises `OSError`."""
    with opened(path) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - size))
        return exactly(file, min(end, size))


def exactly(file: FileIO, size: int) -> bytes:
    """The next `size` bytes of a file without a buffer, fewer only where it ends."""
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def text_of(path: Path) -> str:
    """A path as text that JSON can hold: as it is, or as an address where it is no UTF-8. `path_of` gives it back."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return path.absolute().as_uri()
    return os.fspath(path)


def path_of(text: str) -> Path:
    """The path of a text, which may be one of `text_of`."""
    if text.startswith(ADDRESS):
        from urllib.parse import unquote_to_bytes

        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix(ADDRESS))))
    return Path(text).expanduser()


def _regular(path: str, flags: int) -> int:
    file = os.open(path, flags | os.O_NONBLOCK)  # a pipe that nobody writes to is not waited for
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "a pipe or a device, no regular file", path)
