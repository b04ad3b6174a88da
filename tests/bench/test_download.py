"""Downloads from a server on this machine: quick, slow, silent, breaking off, lying, and absent."""

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from labbench.bench import download
from labbench.bench.errors import Stopped

CONTENT = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Sends CONTENT in the way that the path says."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ended = threading.Event()
        self.asked: list[str] = []

    def address(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{way}/file.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        way = self.path.split("/")[1]
        self.server.asked.append(way)
        if way == "silent":
            self.server.ended.wait(30)
            return
        if way == "absent":
            self.send_error(404)
            return
        if way == "moved":
            self.send_response(302)
            self.send_header("Location", "/whole/file.gz")
            self.end_headers()
            return
        self.send_response(200)
        if way not in ("untold", "endless"):
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.send(way)

    def send(self, way: str) -> None:
        half = len(CONTENT) // 2
        match way:
            case "short":
                self.wfile.write(CONTENT[:half])
            case "falling-silent":
                self.wfile.write(CONTENT[:half])
                self.wfile.flush()
                self.server.ended.wait(30)
            case "slow":
                for start in range(0, len(CONTENT), 2**15):
                    self.wfile.write(CONTENT[start : start + 2**15])
                    if self.server.ended.wait(0.02):
                        return
            case "false":
                self.wfile.write(CONTENT[::-1])
            case "endless":
                while not self.server.ended.is_set():
                    self.wfile.write(CONTENT)
            case _:
                self.wfile.write(CONTENT)

    def handle(self) -> None:
        with suppress(ConnectionError):  # the other side went: that is what is tried here
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SILENCE", 0.5)


def fetch(server: Server, path: Path, *ways: str, stopped: Callable[[], bool] = lambda: False) -> list[int]:
    """The pieces that came."""
    pieces: list[int] = []
    download.fetch([server.address(way) for way in ways], path, len(CONTENT), SHA256, stopped, pieces.append)
    return pieces


@pytest.mark.parametrize("way", ["whole", "slow", "untold", "moved"])
def test_the_file_is_there_when_it_is_whole(way, server, tmp_path):
    path = tmp_path / "made" / "on demand" / "file.gz"
    pieces = fetch(server, path, way)
    assert path.read_bytes() == CONTENT
    assert sum(pieces) == len(CONTENT)
    assert len(pieces) > 5
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ("absent", "127.0.0.1: HTTP 404, Not Found"),
        ("silent", "127.0.0.1: (nothing came for 0.5 seconds|timed out)"),
        ("falling-silent", "127.0.0.1: (nothing came for 0.5 seconds|timed out)"),
        ("short", "127.0.0.1: the connection broke 512,000 bytes before the end"),
        ("endless", "127.0.0.1: it sent more than the 1,024,000 bytes of the published file"),
        ("false", "127.0.0.1: what it sent is not the published file: the SHA-256 differs"),
    ],
)
def test_what_went_wrong_is_told_in_a_sentence_and_no_file_is_left(way, sentence, server, tmp_path, patience):
    with pytest.raises(OSError, match=f"^{sentence}$"):
        fetch(server, tmp_path / "file.gz", way)
    assert list(tmp_path.iterdir()) == []


def test_of_an_answer_without_end_hardly_more_than_the_known_size_is_read(server):
    heard: queue.SimpleQueue = queue.SimpleQueue()
    download._listen(server.address("endless"), len(CONTENT), heard, threading.Event())
    pieces = [heard.get() for _ in range(heard.qsize())]
    assert pieces.pop() == b""
    assert len(CONTENT) < sum(map(len, pieces)) <= len(CONTENT) + download.CHUNK


def test_a_file_that_is_there_is_known_by_its_size_and_its_sha256(tmp_path):
    path = tmp_path / "file.gz"
    assert not download.is_whole(path, len(CONTENT), SHA256, lambda: False)
    for content in (CONTENT[:-1], CONTENT[::-1]):
        path.write_bytes(content)
        assert not download.is_whole(path, len(CONTENT), SHA256, lambda: False)
    path.write_bytes(CONTENT)
    assert download.is_whole(path, len(CONTENT), SHA256, lambda: False)
    with pytest.raises(Stopped):
        download.is_whole(path, len(CONTENT), SHA256, lambda: True)


def test_a_server_that_is_not_there_is_told(tmp_path):
    with pytest.raises(OSError, match=r"^127\.0\.0\.1: .*refused"):
        download.fetch(["http://127.0.0.1:9/file.gz"], tmp_path / "file.gz", 1, SHA256, lambda: False, lambda _: None)


def test_the_next_address_is_tried_where_one_fails(server, tmp_path, patience):
    pieces = fetch(server, tmp_path / "file.gz", "absent", "short", "silent", "whole", "false")
    assert server.asked == ["absent", "short", "silent", "whole"]
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert sum(pieces) == len(CONTENT)


def test_every_failure_is_told_where_all_fail(server, tmp_path):
    with pytest.raises(OSError, match=r"HTTP 404, Not Found; .*the connection broke"):
        fetch(server, tmp_path / "file.gz", "absent", "short")


@pytest.mark.parametrize("way", ["silent", "falling-silent", "slow"])
def test_a_stop_is_heard_within_a_second_and_leaves_nothing(way, server, tmp_path):
    stop = threading.Event()
    threading.Timer(0.4, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        fetch(server, tmp_path / "file.gz", way, "whole", stopped=stop.is_set)
    assert time.monotonic() - began < 1.4
    assert list(tmp_path.iterdir()) == []
    assert server.asked == [way]


def test_what_was_there_stays_where_the_new_one_does_not_come(server, tmp_path):
    (tmp_path / "file.gz").write_bytes(b"an older one")
    with pytest.raises(OSError):
        fetch(server, tmp_path / "file.gz", "short")
    assert (tmp_path / "file.gz").read_bytes() == b"an older one"
