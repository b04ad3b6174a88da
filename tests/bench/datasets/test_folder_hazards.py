"""Image folders with links in circles, pipes, programs, too many pixels: nothing hangs, runs or multiplies."""

import os
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folder import NOWHERE, numbered, picture
from PIL import Image

from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import folder as folder_module
from labbench.bench.datasets.folder import read, sources
from labbench.bench.errors import BenchError, Stopped


@pytest.mark.parametrize("loop", ["a/loop", "a/deep/loop"])
@pytest.mark.parametrize("target", [".", "..", "../..", "../../.."])
def test_links_that_lead_around_multiply_nothing_and_are_told(loop, target, tmp_path):
    top = numbered(tmp_path / "more" / "pictures", "ab", 8)
    (top / "a" / "deep").mkdir()
    (top / loop).symlink_to(target, target_is_directory=True)
    (top / "b" / "loop").symlink_to(target, target_is_directory=True)
    images = read(NOWHERE, path=str(top), size=8)
    assert sum(len(y) for _, y in images.splits.values()) == 16
    assert images.remarks == (f"left out {top / loop}: the same folder is there already, and 1 more like it",)


def test_two_links_that_lead_around_at_many_places_take_no_time(tmp_path):
    numbered(tmp_path, "ab", 4)
    for name in "ab":
        for link in ("x", "y", "z"):
            (tmp_path / name / link).symlink_to("..", target_is_directory=True)
    looked = 0

    def stopped() -> bool:
        nonlocal looked
        looked += 1
        return False

    assert len(sources(Reading(tmp_path, stopped=stopped), path=str(tmp_path))) == 8
    assert looked == 8 + 6


def test_an_image_has_the_class_of_the_folder_in_which_it_really_lies(tmp_path):
    numbered(tmp_path, "ab", 3)
    picture(tmp_path / "b" / "deep" / "x.png")
    (tmp_path / "a" / "theirs").symlink_to("../b/deep", target_is_directory=True)
    (tmp_path / "c").symlink_to("a", target_is_directory=True)
    listing = folder_module._listing(NOWHERE, str(tmp_path))
    assert listing.classes == ("a", "b")
    labels = [label for part in listing.files.values() for _, label in part]
    assert sorted(labels) == [0, 0, 0, 1, 1, 1, 1]


def test_links_to_folders_elsewhere_are_followed_once(tmp_path):
    pool = numbered(tmp_path / "pool", "xy", 3)
    top = numbered(tmp_path / "pictures", "ab", 3)
    (top / "a" / "1st").symlink_to(pool / "x", target_is_directory=True)
    (top / "a" / "2nd").symlink_to(pool / "x", target_is_directory=True)
    (top / "c").symlink_to(pool / "y", target_is_directory=True)
    (top / "b" / "single.png").symlink_to(pool / "x" / "000.png")
    listing = folder_module._listing(NOWHERE, str(top))
    assert listing.classes == ("a", "b", "c")
    labels = [label for part in listing.files.values() for _, label in part]
    assert np.bincount(labels).tolist() == [6, 4, 3]
    assert listing.left_out == (f"left out {top / 'a' / '2nd'}: the same folder is there already",)


def test_one_folder_may_be_two_splits(tmp_path):
    numbered(tmp_path / "train", "ab", 3)
    numbered(tmp_path / "test", "ab", 2)
    (tmp_path / "val").symlink_to("test", target_is_directory=True)
    listing = folder_module._listing(NOWHERE, str(tmp_path))
    assert [len(part) for part in listing.files.values()] == [6, 4, 4]


def test_what_is_called_like_an_image_and_is_no_file_is_passed_over_and_told(tmp_path):
    numbered(tmp_path, "ab", 3)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "b" / "null.png").symlink_to("/dev/zero")
    (tmp_path / "b" / "nowhere.jpg").symlink_to("nowhere")
    (tmp_path / "b" / "itself.jpg").symlink_to("itself.jpg")
    images = read(NOWHERE, path=str(tmp_path), size=8)
    assert sum(len(y) for _, y in images.splits.values()) == 6
    assert images.remarks == (f"left out {tmp_path / 'a' / 'pipe.png'}: it is no file, and 3 more like it",)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp"])
def test_no_program_is_started_to_read_an_image(extension, tmp_path, monkeypatch):
    numbered(tmp_path / "p", "ab", 3)
    (tmp_path / "p" / "a" / f"x.{extension}").write_bytes(POSTSCRIPT)
    (tmp_path / "bin").mkdir()
    for name in ("gs", "gswin32c", "xv", "display"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho ran > {tmp_path}/ran\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    with pytest.raises(BenchError, match=rf"x\.{extension} cannot be read as an image \(it is none of JPEG, PNG, PPM"):
        read(NOWHERE, path=str(tmp_path / "p"))
    assert not (tmp_path / "ran").exists()


def plain_header(path: Path, width: int, height: int) -> None:
    """A file of a few bytes that says how many pixels it has."""
    if path.suffix == ".ppm":
        path.write_bytes(f"P6 {width} {height} 255\n".encode())
    else:
        Image.new("L", (8, 8)).save(path)
        content = bytearray(path.read_bytes())
        content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        path.write_bytes(content)


@pytest.mark.parametrize("extension", ["ppm", "png"])
@pytest.mark.parametrize("side", [8_001, 13_000, 40_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(side, extension, tmp_path):
    numbered(tmp_path, "ab", 3)
    plain_header(tmp_path / "a" / f"large.{extension}", side, side)
    with pytest.raises(
        BenchError, match=rf"large\.{extension} cannot be read as an image \(.* pixels; at most 64 million"
    ):
        read(NOWHERE, path=str(tmp_path))


def test_a_file_of_too_many_bytes_is_refused(tmp_path):
    numbered(tmp_path, "ab", 3)
    with (tmp_path / "a" / "large.webp").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(BenchError, match=r"large\.webp .*1,099,511,627,776 bytes; at most 1,073,741,824 are read"):
        read(NOWHERE, path=str(tmp_path))


def test_a_jpeg_of_too_many_pixels_is_decoded_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "PIXELS", 20_000)
    numbered(tmp_path, "ab", 3)
    Image.new("RGB", (800, 600), (10, 200, 30)).save(tmp_path / "a" / "000.jpg")
    images = read(NOWHERE, path=str(tmp_path), size=32)
    reds = torch.cat([x[:, 0].flatten(1).float().mean(1) for x, _ in images.splits.values()])
    assert sum(len(y) for _, y in images.splits.values()) == 7
    assert reds.isclose(torch.tensor(10.0), atol=3).any()


def test_all_threads_together_decode_no_more_pixels_than_there_is_room_for():
    room, most, now = folder_module._Room(100), 0, 0
    lock = threading.Lock()

    def decode(pixels: int) -> None:
        nonlocal most, now
        with room.taken(pixels):
            with lock:
                now += pixels
                most = max(most, now)
            time.sleep(0.001)
            with lock:
                now -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [60, 40, 30, 30, 250, 10, 99, 1] * 4))
    assert most == 250  # alone: larger than the room


def test_a_stop_is_heard_while_one_image_takes_long(tmp_path, monkeypatch):
    numbered(tmp_path, "ab", 3)
    stop, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(folder_module, "_image", lambda *_: stop.set() or go_on.wait(30))
    with pytest.raises(Stopped):
        read(Reading(tmp_path, stopped=stop.is_set), path=str(tmp_path), size=8)
    go_on.set()
