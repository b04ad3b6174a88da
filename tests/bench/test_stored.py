"""The cache of data sets: what comes out of it is what went in, or it is not taken at all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import safe_open

from labbench.bench.data import cache
from labbench.bench.data.dataset import Dataset, Images, Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.errors import BenchError, Stopped
from labbench.session.events import Progress


class Spoken:
    """A data set that is made of one file and counts how often it is read."""

    def __init__(self, folder: Path, size: int = 4) -> None:
        self.file, self.size, self.reads = folder / "words.txt", size, 0
        self.file.write_text("one")
        self.dataset = Dataset(doc="spoken", read=self.read, flip=False, sources=lambda reading, **_: [self.file])

    def read(self, reading: Reading, *, pitch: float = 1.0, note: str = "") -> Images:
        self.reads += 1
        x = torch.linspace(-1, 1, 5 * 2 * self.size**2).reshape(5, 2, self.size, self.size) * pitch
        x[0, 0, 0, 0] = torch.nan
        splits = {
            "train": (x.half()[:3], torch.tensor([0, 1, 1])),
            "validation": (x.half()[3:4], torch.tensor([0])),
            "test": (x.half()[4:], torch.tensor([1])),
        }
        return Images(splits, ('a "quoted" class', "naïve"), mean=(0.1, 1 / 3), std=(0.2, 2 / 3))


@pytest.fixture
def spoken(tmp_path: Path) -> Spoken:
    return Spoken(tmp_path)


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path / "data")


def read(spoken: Spoken, reading: Reading, **options: object) -> Images:
    files = cache.fingerprint(spoken.dataset, reading, options)
    return cache.read("spoken", spoken.dataset, reading, options, files)


def the_file(reading: Reading) -> Path:
    (path,) = (reading.data_dir / cache.FOLDER).iterdir()
    return path


def same(one: Images, other: Images) -> bool:
    assert (one.classes, one.mean, one.std) == (other.classes, other.mean, other.std)
    assert list(one.splits) == list(other.splits)
    for split, pair in one.splits.items():
        for mine, theirs in zip(pair, other.splits[split], strict=True):
            assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
            assert mine.numpy().tobytes() == theirs.numpy().tobytes()
    return True


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_a_data_set_comes_bit_for_bit_from_its_cache(name, reading):
    fresh = cache.read(name, DATASETS[name], reading, {}, "")
    broken = replace(DATASETS[name], read=lambda reading: pytest.fail("the cache was there"))
    assert same(cache.read(name, broken, reading, {}, ""), fresh)


def test_floats_classes_and_moments_survive_exactly(spoken, reading):
    fresh = read(spoken, reading, pitch=0.3)
    assert same(read(spoken, reading, pitch=0.3), fresh)
    assert spoken.reads == 1


def test_each_choice_of_options_has_its_own_file(spoken, reading):
    for options in ({}, {"pitch": 2.0}, {"pitch": 3.0}, {"note": "../../up"}):
        assert same(read(spoken, reading, **options), spoken.read(reading, **options))
    assert len(list((reading.data_dir / cache.FOLDER).iterdir())) == 4


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def damages(content: bytes) -> Iterator[bytes]:
    yield b""
    yield b"not a cache"
    yield content[:7]
    yield content[:-1]
    yield content[: len(content) // 2]
    yield content + b"\0"
    yield bytes(len(content))
    yield from (flipped(content, at, bit) for at in range(len(content)) for bit in (0, 6))


def test_whatever_bit_is_flipped_wherever_it_is_cut_it_is_never_taken_for_the_truth(tmp_path, reading):
    spoken = Spoken(tmp_path, size=1)
    fresh = read(spoken, reading)
    whole = the_file(reading).read_bytes()
    assert len(whole) < 2_000
    files = cache.fingerprint(spoken.dataset, reading, {})
    wanted = cache.Record(format=cache.FORMAT, dataset="spoken", options={}, version="1", files=files)
    for damaged in damages(whole):
        the_file(reading).write_bytes(damaged)
        try:
            found = cache._opened(the_file(reading), wanted, reading)
        except cache.BROKEN:
            continue
        assert found is None or same(found, fresh)  # a bit of the white space in the header says nothing


@pytest.mark.parametrize("damage", [b"", b"no", bytes(300)])
def test_a_broken_file_is_replaced_without_a_word(damage, spoken, reading, capsys):
    fresh = read(spoken, reading)
    whole = the_file(reading).read_bytes()
    the_file(reading).write_bytes(damage)
    assert same(read(spoken, reading), fresh)
    assert the_file(reading).read_bytes() == whole
    assert spoken.reads == 2
    assert capsys.readouterr() == ("", "")


def test_a_file_cut_short_is_replaced(spoken, reading):
    fresh = read(spoken, reading)
    for length in (5, 100, 400, the_file(reading).stat().st_size - 1):
        os.truncate(the_file(reading), length)
        assert same(read(spoken, reading), fresh)
    assert spoken.reads == 5


def test_another_version_of_the_reading_or_the_format_is_read_again(spoken, reading, monkeypatch):
    read(spoken, reading)
    spoken.dataset = replace(spoken.dataset, version="2")
    read(spoken, reading)
    read(spoken, reading)
    assert spoken.reads == 2
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    read(spoken, reading)
    read(spoken, reading)
    assert spoken.reads == 3


def test_files_that_were_changed_grew_or_are_gone_are_read_again(spoken, reading):
    read(spoken, reading)
    spoken.file.write_text("three")
    read(spoken, reading)
    status = spoken.file.stat()
    os.utime(spoken.file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    read(spoken, reading)
    assert spoken.reads == 3
    spoken.file.unlink()
    read(spoken, reading)
    assert spoken.reads == 4


def test_files_that_change_while_they_are_read_are_not_kept(spoken, reading):
    def change(reading: Reading) -> Images:
        images = spoken.read(reading)
        spoken.file.write_text("written meanwhile")
        return images

    spoken.dataset = replace(spoken.dataset, read=change)
    read(spoken, reading)
    assert not (reading.data_dir / cache.FOLDER).exists()


def test_what_was_downloaded_while_it_was_read_is_kept(spoken, reading):
    spoken.file.unlink()

    def download(reading: Reading) -> Images:
        spoken.file.write_text("now it is there")
        return spoken.read(reading)

    spoken.dataset = replace(spoken.dataset, read=download)
    read(spoken, reading)
    read(spoken, reading)
    assert spoken.reads == 1


@pytest.mark.parametrize("obstacle", ["a file in the way", "a folder in the way"])
def test_a_folder_that_cannot_be_written_costs_only_the_time(obstacle, spoken, reading):
    if obstacle == "a file in the way":
        reading.data_dir.write_text("")
    else:
        (reading.data_dir / cache.FOLDER / "spoken.safetensors").mkdir(parents=True)
    for _ in range(2):
        assert same(read(spoken, reading), spoken.read(reading))


def test_a_refusal_and_a_stop_leave_no_file(spoken, reading):
    for error in (BenchError("no such folder"), Stopped()):

        def refuse(reading: Reading, error: Exception = error) -> Images:
            raise error

        spoken.dataset = replace(spoken.dataset, read=refuse)
        with pytest.raises(type(error)):
            read(spoken, reading)
    assert not (reading.data_dir / cache.FOLDER).exists()


def test_a_stop_is_heard_while_the_cache_is_checked_and_how_far_it_is_told(spoken, reading, monkeypatch):
    read(spoken, reading)
    monkeypatch.setattr(cache, "CHUNK", 16)
    told: list[Progress] = []
    listening = replace(reading, report=told.append)
    read(spoken, listening)
    assert {event.phase for event in told} == {"check"}
    assert told[-1].fraction == 1
    with pytest.raises(Stopped):
        read(spoken, replace(listening, stopped=lambda: len(told) > 40))
    assert spoken.reads == 1


def test_writing_into_the_tensors_does_not_reach_the_file(spoken, reading):
    fresh = read(spoken, reading)
    before = the_file(reading).read_bytes()
    read(spoken, reading).splits["train"][0].fill_(7)
    assert the_file(reading).read_bytes() == before
    assert same(read(spoken, reading), fresh)
    assert spoken.reads == 1


def test_everybody_who_may_read_the_folder_may_read_the_cache(spoken, reading, tmp_path):
    read(spoken, reading)
    (tmp_path / "plain").touch()
    assert the_file(reading).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_only_tensors_and_one_record_are_in_the_file(spoken, reading):
    read(spoken, reading)
    with safe_open(the_file(reading), framework="pt") as file:
        assert set(file.metadata()) == {cache.RECORD}
        assert sorted(file.keys()) == sorted(
            f"{split}.{what}" for split in ("train", "validation", "test") for what in ("images", "labels")
        )


def python(program: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_with_a_cache_neither_scikit_learn_nor_torchvision_is_imported(reading):
    program = """
import sys
from pathlib import Path
from labbench.bench.data import cache
from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
for name in ("digits", "shapes"):
    cache.read(name, DATASETS[name], Reading(Path(sys.argv[1])), {}, "")
print([module for module in ("sklearn", "torchvision") if module in sys.modules])
"""
    assert python(program, reading.data_dir) == "['sklearn']"
    assert python(program, reading.data_dir) == "[]"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is told by Linux")
def test_a_large_cache_is_mapped_not_loaded(tmp_path):
    """128 MB of pixels take no memory of their own: the check touches pages of the file, which can be dropped."""
    program = """
import sys, torch
from pathlib import Path
from labbench.bench.data import cache
from labbench.bench.data.dataset import Dataset, Images, Reading
def read(reading):
    x = torch.zeros(2**27, dtype=torch.uint8).view(-1, 1, 64, 64)
    return Images({"train": (x, torch.zeros(len(x), dtype=torch.int64))}, ("a", "b"))
def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) // 1024
large, reading = Dataset(doc="", read=read, flip=False), Reading(Path(sys.argv[1]))
before = anonymous()
images = cache.read("large", large, reading, {}, "")
print(anonymous() - before)
"""
    assert int(python(program, tmp_path)) > 100
    assert int(python(program, tmp_path)) < 20


def test_remarks_are_kept_and_caches_from_before_there_were_any_stay_good(spoken, reading):
    record = cache.Record(format=1, dataset="x", options={}, version="1", files="", mean=(0.1,))
    assert cache._encoded(record) == msgspec.json.encode(record).replace(b',"remarks":[]', b"")
    really = spoken.dataset.read
    said = replace(
        spoken.dataset, read=lambda reading, **how: replace(really(reading, **how), remarks=("left out: x",))
    )
    for _ in range(2):
        files = cache.fingerprint(said, reading, {})
        assert cache.read("spoken", said, reading, {}, files).remarks == ("left out: x",)
    assert spoken.reads == 1
