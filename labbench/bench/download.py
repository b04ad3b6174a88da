"""Fetching published files: with progress, a stop that is heard at once, and servers that may fall silent."""

import hashlib
import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from labbench.bench.errors import Stopped
from labbench.session.writing import whole

SILENCE = 20.0  # seconds without a byte, after which a server is given up
GLANCE = 0.1  # seconds between two looks at the stop
CHUNK = 2**16  # bytes


def is_whole(path: Path, size: int, sha256: str, stopped: Callable[[], bool]) -> bool:
    """Whether a file is there, of this size and SHA-256. Raises `Stopped`, and `OSError` where it cannot be read."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if stopped():
                raise Stopped
            digest.update(chunk)
    return digest.hexdigest() == sha256


def fetch(
    addresses: Sequence[str],
    path: Path,
    size: int,
    sha256: str,
    stopped: Callable[[], bool],
    came: Callable[[int], None],
) -> None:
    """Download a file from the first of these addresses that has it; `came` hears how many more bytes there are.

    The file is under its name when it is whole and of this SHA-256, not before; of an answer that is longer no more
    than `size` bytes are written. Raises `Stopped`, and `OSError` with what each server answered.
    """
    answers = []
    for address in addresses:
        received = 0
        try:
            with whole(path) as part, part.open("wb") as file:
                digest = hashlib.sha256()
                for chunk in _chunks(address, size, stopped):
                    if received + len(chunk) > size:
                        raise OSError(f"it sent more than the {size:,} bytes of the published file")
                    file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    came(len(chunk))
                if digest.hexdigest() != sha256:
                    raise OSError("what it sent is not the published file: the SHA-256 differs")
            return
        except (OSError, HTTPException, ValueError) as error:
            came(-received)
            why = str(getattr(error, "reason", "") or error) or type(error).__name__
            answers.append(f"{urlsplit(address).hostname}: {why}")
    raise OSError("; ".join(answers))


def _chunks(address: str, size: int, stopped: Callable[[], bool]) -> Iterator[bytes]:
    """The bytes of an address as they come, hardly more than `size` of them.

    A thread waits for the network, because nothing wakes who waits there: neither a stop nor, while names are looked
    up, a time-out. It may outlive this by `SILENCE`; nobody hears it then.
    """
    heard: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    ended = threading.Event()
    threading.Thread(target=_listen, args=(address, size, heard, ended), daemon=True).start()
    last = time.monotonic()
    try:
        while True:
            if stopped():
                raise Stopped
            try:
                piece = heard.get(timeout=GLANCE)
            except queue.Empty:
                if time.monotonic() - last > SILENCE:
                    raise TimeoutError(f"nothing came for {SILENCE:g} seconds") from None
                continue
            if isinstance(piece, Exception):
                raise piece
            if not piece:
                return
            last = time.monotonic()
            yield piece
    finally:
        ended.set()


def _listen(address: str, size: int, heard: "queue.SimpleQueue[bytes | Exception]", ended: threading.Event) -> None:
    """Put what comes into the queue, up to the first piece that is beyond `size`, and b"" at the end, or what went
    wrong."""
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "labbench"})
        with urllib.request.urlopen(request, timeout=SILENCE) as response:
            left = response.length  # None where the server does not tell
            while size >= 0 and left != 0 and (chunk := response.read1(CHUNK)) and not ended.is_set():
                heard.put(chunk)
                size -= len(chunk)
                left = left and left - len(chunk)
            if left and size >= 0:
                raise ConnectionError(f"the connection broke {left:,} bytes before the end")
        heard.put(b"")
    except HTTPError as error:
        error.close()
        heard.put(OSError(f"HTTP {error.code}, {error.reason}"))
    except Exception as error:  # noqa: BLE001  # raised again by who listens
        heard.put(error)
