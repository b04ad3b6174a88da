"""TAU Urban Acoustic Scenes from a small folder in the published format: splits, tensors, refusals, the stop."""

import builtins
import os
import shutil
from collections import defaultdict
from pathlib import Path

import asc_folder
import pytest
import soundfile
import torch

from labbench.bench.data import spectrogram
from labbench.bench.data.dataset import Images, Reading
from labbench.bench.datasets import DATASETS, asc
from labbench.bench.datasets.asc import FOLDER, SCENES, TEST, TRAIN, read, sources
from labbench.bench.errors import BenchError, Stopped
from labbench.session.events import Progress

PLACES, SLICES, TESTED = 3, 2, 1


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / FOLDER
    return asc_folder.write(folder, places=PLACES, slices=SLICES, test=TESTED)


@pytest.fixture(scope="module")
def images(published: Path) -> Images:
    return read(Reading(published.parent))


@pytest.fixture
def lists(published: Path, tmp_path: Path) -> Path:
    """The same folder with lists that may be changed."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "audio").symlink_to(published / "audio")
    shutil.copytree(published / "evaluation_setup", folder / "evaluation_setup")
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(BenchError) as raised:
        read(Reading(folder.parent))
    return str(raised.value)


def test_every_clip_becomes_a_spectrogram_of_its_split(images: Images) -> None:
    counts = {"train": 10 * (PLACES - 1) * SLICES, "validation": 10 * SLICES, "test": 10 * TESTED}
    assert images.classes == SCENES and len(SCENES) == 10 == DATASETS["asc"].classes
    assert list(images.splits) == list(counts)
    for split, (x, y) in images.splits.items():
        assert x.shape == (counts[split], 1, 128, 100) and x.dtype == torch.float16
        assert y.dtype == torch.int64 and torch.equal(y.bincount(minlength=10), torch.full((10,), counts[split] // 10))
        assert x.isfinite().all() and -1.5 < x.min() < x.max() < 4


def test_a_clip_lies_where_its_label_is(published: Path, images: Images) -> None:
    names = [line.split("\t") for line in (published / TEST).read_text().splitlines()[1:]]
    x, y = images.splits["test"]
    for number in (0, 3, len(names) - 1):
        name, scene = names[number]
        alone = spectrogram.log_mel(spectrogram.clip(published / name)[None], spectrogram.FRONT_ENDS["128x100"])
        assert torch.allclose(x[number].float(), alone, atol=2e-3)
        assert SCENES[y[number]] == scene


def test_the_path_and_the_other_front_end_are_options(published: Path) -> None:
    made = read(Reading(Path("/nowhere")), path=str(published), front_end="256x44")
    assert {x.shape[1:] for x, _ in made.splits.values()} == {(1, 256, 44)}


def test_the_home_folder_may_be_a_tilde(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(published.parent))
    assert sources(Reading(Path("/nowhere")), path=f"~/{FOLDER}")[1] == published / TRAIN


def test_what_a_cache_must_watch_is_there(published: Path) -> None:
    watched = sources(Reading(published.parent))
    assert watched == sources(Reading(Path("/nowhere")), path=str(published), front_end="256x44")
    assert {path.name for path in watched} == {"audio", "fold1_train.csv", "fold1_evaluate.csv"}
    assert all(path.exists() for path in watched)


def test_reading_again_gives_the_same(published: Path, images: Images) -> None:
    again = read(Reading(published.parent))
    for split, (x, y) in images.splits.items():
        assert torch.equal(again.splits[split][0], x) and torch.equal(again.splits[split][1], y)


# The validation part


def clips(places: dict[str, int], slices: int = 10, devices: tuple[str, ...] = ("a", "b", "s1")) -> list[asc.Clip]:
    """Clips of so many places of each scene."""
    return [
        asc.Clip(f"audio/{scene}-lyon-{place}-{segment}-{part}-{device}.wav", label, f"{scene}-lyon-{place}")
        for label, scene in enumerate(SCENES)
        for place in range(places.get(scene, 10))
        for segment in (17, 18)
        for part in range(slices)
        for device in devices
    ]


def test_a_tenth_of_each_scenes_places_validate_and_none_is_on_both_sides() -> None:
    every = clips({"airport": 28, "bus": 51, "tram": 2})
    kept, held = asc._parted(every, Path("list"))
    assert sorted(kept + held) == sorted(every)
    assert not {clip.place for clip in kept} & {clip.place for clip in held}
    places = defaultdict(set)
    for clip in held:
        places[SCENES[clip.label]].add(clip.place)
    assert {scene: len(found) for scene, found in places.items()} == {
        **dict.fromkeys(SCENES, 1),
        "airport": 3,
        "bus": 5,
    }


def test_the_validation_part_does_not_depend_on_the_order_of_the_list() -> None:
    every = clips({})
    held = asc._parted(every, Path("list"))[1]
    assert sorted(asc._parted(every[::-1], Path("list"))[1]) == sorted(held)
    assert len({clip.place.rpartition("-")[2] for clip in held}) > 1, "not the first of each"


@pytest.mark.parametrize(("count", "said"), [(0, "no place of bus"), (1, "only bus-lyon-0 of bus")])
def test_a_scene_of_which_nothing_can_be_held_out_is_refused(count: int, said: str) -> None:
    with pytest.raises(BenchError, match=f"list: {said}; expected two places or more"):
        asc._parted(clips({"bus": count}), Path("list"))


# What is missing or wrong


def test_a_list_that_is_a_pipe_holds_nothing_up(lists: Path) -> None:
    (lists / TEST).unlink()
    os.mkfifo(lists / TEST)
    with pytest.raises(BenchError, match=r"fold1_evaluate\.csv cannot be read \(it is no file\); unpack it from"):
        read(Reading(lists), path=str(lists))


def test_without_the_folder_one_is_told_what_to_put_where(tmp_path: Path) -> None:
    said = refusal(tmp_path / FOLDER)
    assert str(tmp_path / FOLDER / "audio") in said and "zenodo.org/records/6337421" in said and "path" in said


@pytest.mark.parametrize("file", [TRAIN, TEST])
def test_a_list_that_is_not_there_is_named(lists: Path, file: str) -> None:
    (lists / file).unlink()
    said = refusal(lists)
    assert str(lists / file) in said and "No such file" in said


GOOD = "audio/bus-lyon-1000-40000-3-s1.wav"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{GOOD}", "expected audio/airport-lisbon-1000-40000-0-a.wav, a tab and one of airport, bus"),
        (f"{GOOD}\t", "a tab and one of airport, bus"),
        (f"{GOOD},bus", "a tab and one of"),
        (f"{GOOD}\tlibrary", "one of airport, bus"),
        (f"{GOOD}\ttram", "is labelled tram; expected bus, as it is named"),
        ("audio/bus-lyon-1000-40000-a.wav\tbus", "expected audio/airport-lisbon-1000-40000-0-a.wav"),
        ("audio/../bus-lyon-1000-40000-3-a.wav\tbus", "expected audio/airport-lisbon-1000-40000-0-a.wav"),
        ("/bus-lyon-1000-40000-3-a.wav\tbus", "expected audio/airport-lisbon-1000-40000-0-a.wav"),
        ("", ""),
    ],
)
def test_a_garbled_line_is_named_with_what_was_expected(lists: Path, line: str, said: str) -> None:
    text = (lists / TRAIN).read_text()
    (lists / TRAIN).write_text(f"{text}{line}\n")
    if not line:  # an empty line says nothing wrong
        read(Reading(lists.parent))
        return
    number = text.count("\n") + 1
    found = refusal(lists)
    assert f"{lists / TRAIN}, line {number}: " in found and said in found


def test_a_list_with_other_separators_or_none_of_the_columns_is_refused(lists: Path) -> None:
    text = (lists / TEST).read_text()
    for other in (text.replace("\t", ","), text.partition("\n")[2], ""):
        (lists / TEST).write_text(other)
        assert f"{lists / TEST}, line 1: " in (said := refusal(lists))
        assert "expected filename, a tab and scene_label" in said


def test_a_list_that_is_no_text_or_names_nothing_is_refused(lists: Path) -> None:
    (lists / TRAIN).write_bytes(b"filename\tscene_label\n\xff\xfe\x00")
    assert f"{lists / TRAIN} is no list of files" in refusal(lists)
    (lists / TRAIN).write_text("filename\tscene_label\n")
    assert f"{lists / TRAIN} names no file" in refusal(lists)


def test_a_list_may_end_its_lines_as_windows_does(lists: Path, images: Images) -> None:
    for file in (TRAIN, TEST):
        (lists / file).write_bytes((lists / file).read_bytes().replace(b"\n", b"\r\n"))
    made = read(Reading(lists.parent))
    assert torch.equal(made.splits["validation"][0], images.splits["validation"][0])


def test_a_clip_that_is_listed_twice_is_refused(lists: Path) -> None:
    text = (lists / TRAIN).read_text()
    (lists / TRAIN).write_text(text + text.splitlines()[1] + "\n")
    assert f"line {text.count(chr(10)) + 1}: " in (said := refusal(lists)) and "twice" in said


def test_nothing_is_tested_on_what_trained(lists: Path) -> None:
    (lists / TEST).write_text((lists / TRAIN).read_text())
    assert f"{lists / TEST}: audio/airport-" in (said := refusal(lists)) and "is in fold1_train.csv too" in said


def test_missing_clips_are_counted_before_anything_is_converted(lists: Path) -> None:
    text = (lists / TRAIN).read_text()
    (lists / TRAIN).write_text(f"{text}{GOOD}\tbus\n")
    assert f"{lists / GOOD} of fold1_train.csv is missing" in refusal(lists)
    (lists / TRAIN).write_text(f"{text}{GOOD}\tbus\n{GOOD.replace('-3-', '-4-')}\tbus\n")
    reports: list[Progress] = []
    with pytest.raises(BenchError, match=r"and 1 more of fold1_train\.csv are missing"):
        read(Reading(lists.parent, reports.append))
    assert not reports


def test_a_clip_that_is_no_sound_is_named(lists: Path, published: Path) -> None:
    (lists / "audio").unlink()
    shutil.copytree(published / "audio", lists / "audio")
    broken = sorted((lists / "audio").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:1000])
    assert str(broken) in (said := refusal(lists)) and "expected 44,100 samples" in said
    soundfile.write(broken, [0.0] * 44_100, 44_100, subtype="PCM_16")
    read(Reading(lists.parent))  # fewer bits are no harm


def test_without_the_extra_it_is_named_before_any_file_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without(name: str, *more: object) -> object:
        if name == "soxr":
            raise ModuleNotFoundError("No module named 'soxr'")
        return ordinary(name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BenchError, match=r"^asc needs .*soxr.*pip install 'labbench\[audio\]'$"):
        read(Reading(Path("/nowhere")))


# Progress and stop


def test_converting_tells_how_far_it_is(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asc, "BATCH", 8)
    reports: list[Progress] = []
    read(Reading(published.parent, reports.append))
    assert {report.phase for report in reports} == {"convert"}
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and fractions[0] == 0 and 0.8 < fractions[-1] < 1
    assert reports[1].note == f"8 of {10 * (PLACES * SLICES + TESTED)} clips"


def test_a_stop_ends_it_at_the_next_batch(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asc, "BATCH", 4)
    ordinary = spectrogram.clip
    clips: list[Path] = []

    def counted(path: Path) -> torch.Tensor:
        clips.append(path)
        return ordinary(path)

    monkeypatch.setattr(spectrogram, "clip", counted)
    with pytest.raises(Stopped):
        read(Reading(published.parent, stopped=lambda: len(clips) >= 10))
    assert len(clips) == 12
