"""Image folders: the classes and files of torchvision's ImageFolder, splits that never move, and plain refusals."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from image_folder import NOWHERE, numbered, picture
from PIL import Image

from labbench.bench.apply import apply
from labbench.bench.data import cache
from labbench.bench.data.dataset import Reading, nobody
from labbench.bench.datasets import DATASETS
from labbench.bench.datasets import folder as folder_module
from labbench.bench.datasets.folder import EXTENSIONS, read, sources
from labbench.bench.errors import BenchError, Stopped, never
from labbench.bench.measuring.accuracy import measured
from labbench.bench.states.state import Data
from labbench.bench.tools import Tools
from labbench.session.events import Progress
from labbench.session.operations import Finetune, Load


def values(part: tuple[torch.Tensor, torch.Tensor]) -> list[tuple[int, int]]:
    """The gray and the label of every picture."""
    return [(int(x[0, 0, 0]), int(y)) for x, y in zip(*part, strict=True)]


def test_classes_and_files_are_those_of_image_folder(tmp_path):
    for name in ("b/1.PNG", "b/deep/er/2.jpeg", "B/3.bmp", "a10/4.tiff", "a9/5.webp", "a9/6.Ppm", "é/7.jpg", "é/8.pgm"):
        picture(tmp_path / name)
    (tmp_path / "a9" / "notes.txt").write_text("no image")
    (tmp_path / "readme.png").write_text("no subfolder")
    theirs = torchvision.datasets.ImageFolder(tmp_path)
    for name in ("b", "B", "a10", "a9", "é"):
        for extra in "xy":
            picture(tmp_path / name / f"{extra}.png")
    theirs = torchvision.datasets.ImageFolder(tmp_path)
    found = folder_module._listing(NOWHERE, str(tmp_path))
    assert list(found.classes) == theirs.classes
    ours = sorted((str(path), label) for part in found.files.values() for path, label in part)
    assert ours == sorted(theirs.samples)
    assert torchvision.datasets.folder.IMG_EXTENSIONS == EXTENSIONS


def test_without_split_folders_each_class_is_parted_alike_and_nothing_is_lost(tmp_path):
    splits = read(NOWHERE, path=str(numbered(tmp_path, "abc", 40)), size=8).splits
    assert {split: torch.bincount(y).tolist() for split, (_, y) in splits.items()} == {
        "train": [28] * 3,
        "validation": [6] * 3,
        "test": [6] * 3,
    }
    everything = [value for part in splits.values() for value in values(part)]
    assert sorted(everything) == [(turn * 40 + number, turn) for turn in range(3) for number in range(40)]


def test_the_split_is_fixed_for_all_time(tmp_path):
    """Sessions recorded with one version are replayed with another: whoever changes this breaks them."""
    splits = read(NOWHERE, path=str(numbered(tmp_path, "ab", 7)), size=8).splits
    assert [value for value, _ in values(splits["validation"])] == HELD["validation"]
    assert [value for value, _ in values(splits["test"])] == HELD["test"]


HELD = {"validation": [6, 13], "test": [2, 9]}


def test_three_images_of_a_class_are_enough(tmp_path):
    splits = read(NOWHERE, path=str(numbered(tmp_path, "ab", 3)), size=8).splits
    assert [len(y) for _, y in splits.values()] == [2, 2, 2]


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_split_folders_are_the_splits(validation, tmp_path):
    for turn, split in enumerate(("train", validation, "test")):
        for label, name in enumerate("ab"):
            picture(tmp_path / split / name / "one.png", (10 * turn + label,) * 3)
    splits = read(NOWHERE, path=str(tmp_path), size=8).splits
    assert {split: values(part) for split, part in splits.items()} == {
        "train": [(0, 0), (1, 1)],
        "validation": [(10, 0), (11, 1)],
        "test": [(20, 0), (21, 1)],
    }


@pytest.mark.parametrize(("there", "absent"), [("test", "validation"), ("val", "test"), (None, "validation")])
def test_a_split_without_a_folder_is_taken_from_the_training_images(there, absent, tmp_path):
    numbered(tmp_path / "train", "ab", 10)
    if there:
        numbered(tmp_path / there, "ab", 5)
    splits = read(NOWHERE, path=str(tmp_path), size=8).splits
    assert list(splits) == ["train", "validation", "test"]
    assert torch.bincount(splits[absent][1]).tolist() == [2, 2]
    assert len(splits["train"][1]) == 20 - 4 * (1 if there else 2)


def test_train_among_other_subfolders_is_a_class(tmp_path):
    images = read(NOWHERE, path=str(numbered(tmp_path, ("bus", "train", "tram"), 3)), size=8)
    assert images.classes == ("bus", "train", "tram")


def test_what_is_hidden_is_passed_over_at_any_depth(tmp_path):
    numbered(tmp_path, "ab", 3)
    for name in (".ipynb_checkpoints/1.png", "a/.ipynb_checkpoints/0-checkpoint.png", "__MACOSX/a/._0.png"):
        picture(tmp_path / name)
    for name in ("a/._0.png", "a/.DS_Store", ".DS_Store", "b/.hidden.png"):
        (tmp_path / name).write_bytes(b"no image")
    images = read(NOWHERE, path=str(tmp_path), size=8)
    assert images.classes == ("a", "b")
    assert sum(len(y) for _, y in images.splits.values()) == 6
    assert images.remarks == ()


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (20, 20), (30, 50)])
def test_the_shorter_side_is_scaled_and_the_middle_is_kept(size, tmp_path):
    width, height = size
    wide = Image.new("RGB", size, (255, 0, 0))  # the ends, that go
    short = min(size)
    wide.paste((0, 0, 255), ((width - short) // 2, (height - short) // 2, (width + short) // 2, (height + short) // 2))
    numbered(tmp_path, "ab", 3)
    wide.save(tmp_path / "a" / "000.png")
    splits = read(NOWHERE, path=str(tmp_path), size=10).splits
    (image,) = (x for part in splits.values() for x in part[0] if x[2].min() > 200)
    assert tuple(image.shape) == (3, 10, 10)
    assert image[0, :, 2:-2].max() < 60


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "I;16"])
def test_any_kind_of_image_becomes_color_or_gray(mode, tmp_path):
    for name in "ab":
        for number in range(3):
            white = {"1": 1, "I;16": 65_535, "RGBA": (255, 255, 255, 9), "LA": (255, 9)}.get(mode, 255)
            if mode == "P":
                (tmp_path / name).mkdir(exist_ok=True)
                Image.new("RGB", (9, 9), "white").quantize(2).save(tmp_path / name / f"{number}.png")
            else:
                picture(tmp_path / name / f"{number}.png", white, mode=mode)
    for channels in (3, 1):
        x, _ = read(NOWHERE, path=str(tmp_path), size=9, channels=channels).splits["train"]
        assert tuple(x.shape) == (2, channels, 9, 9)
        assert x.dtype == torch.uint8
        assert x.min() == 255


def test_deep_grays_keep_their_steps(tmp_path):
    for name in "ab":
        for number in range(3):
            picture(tmp_path / name / f"{number}.png", 257 * 100, mode="I;16")
    x, _ = read(NOWHERE, path=str(tmp_path), size=8, channels=1).splits["train"]
    assert x.unique().tolist() == [100]


def test_mean_and_deviation_are_those_of_the_training_images(tmp_path):
    random = np.random.default_rng(1)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(8):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8) // np.array([1, 2, 4], dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    images = read(NOWHERE, path=str(tmp_path), size=16)
    pixels = images.splits["train"][0].double() / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(images.mean, rel=1e-9)
    assert pixels.std((0, 2, 3), correction=0).tolist() == pytest.approx(images.std, rel=1e-9)


def test_images_of_one_gray_can_be_normalized(tmp_path):
    for name in "ab":
        for number in range(3):
            picture(tmp_path / name / f"{number}.png")
    images = read(NOWHERE, path=str(tmp_path), size=8)
    data = Data("folder", images, True, 8)
    assert torch.isfinite(data.normalized(images.splits["train"][0])).all()


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ([], "has no subfolders; at least two are needed"),
        (["a/1.png", "a/2.png", "a/3.png"], r"has one subfolder \(a\); at least two are needed"),
        (["a/1.txt", "b/1.txt"], "no images under .*; they end in .jpg"),
        (["a/1.png", "a/2.png", "a/3.png", "b/1.png"], "b has 1 images; at least 3 are needed to have some to train"),
        (["a/1.png", "a/2.png", "a/3.png", "b/1.txt"], "b has 0 images; at least 3 are needed"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png"], "a has 1 images; at least 2 are needed"),
        (
            ["train/a/1.png", "train/b/1.png", "val/a/1.png", "test/c/1.png"],
            "test/c is a class that the training images do not have",
        ),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "test/a/1.txt"], "no images under .*test; "),
        (["train/a/1.png", "val/a/1.png", "validation/a/1.png"], "has both val and validation"),
        (["a\nb/1.png", "c/1.png"], "cannot be shown as the name of a class"),
    ],
)
def test_too_little_is_refused_with_what_is_missing(made, sentence, tmp_path):
    for name in made:
        if name.endswith(".png"):
            picture(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("no image")
    with pytest.raises(BenchError, match=sentence) as refused:
        read(NOWHERE, path=str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("given", ["", "  "])
def test_a_path_is_asked_for(given):
    with pytest.raises(BenchError, match="folder needs a path: that of a folder of images with one subfolder"):
        sources(NOWHERE, path=given)


@pytest.mark.parametrize("given", ["/no/such/folder", "~/neither", "~nobody-here/x", __file__])
def test_a_path_that_is_no_folder_is_named(given):
    with pytest.raises(BenchError, match=r"there is no folder .*(such|neither|nobody-here|\.py)"):
        read(NOWHERE, path=given)


def test_home_is_understood(tmp_path):
    numbered(tmp_path / "pictures", "ab", 3)  # the tests' HOME is their folder
    assert len(sources(NOWHERE, path="~/pictures")) == 6


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif", "bmp", "ppm"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5])
def test_a_broken_image_is_named(extension, share, tmp_path):
    numbered(tmp_path, "ab", 3)
    broken = tmp_path / "b" / f"broken.{extension}"
    noise = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(broken)
    os.truncate(broken, int(broken.stat().st_size * share))
    with pytest.raises(BenchError, match=rf"b/broken\.{extension} cannot be read as an image \(.+\); remove it or"):
        read(NOWHERE, path=str(tmp_path))


def test_converting_tells_how_far_it_is_and_can_be_stopped(tmp_path):
    numbered(tmp_path, "abcde", 40)
    told: list[Progress] = []
    listening = Reading(tmp_path, told.append)
    read(listening, path=str(tmp_path), size=8)
    assert {event.phase for event in told} == {"convert"}
    assert [event.fraction for event in told] == sorted(event.fraction for event in told)
    assert told[50].note == "50 of 200 images"
    told.clear()
    with pytest.raises(Stopped):
        read(replace(listening, stopped=lambda: len(told) >= 20), path=str(tmp_path), size=8)
    assert len(told) == 20
    with pytest.raises(Stopped):
        sources(replace(listening, stopped=lambda: True), path=str(tmp_path))


def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> tuple[int, tuple[str, ...]]:
    """How many images are opened to read the folder through the cache, and its classes."""
    opened: list[Path] = []
    really = folder_module._image
    monkeypatch.setattr(folder_module, "_image", lambda file, *how: opened.append(file) or really(file, *how))
    dataset, reading = DATASETS["folder"], Reading(tmp_path / "data")
    chosen = {"path": str(tmp_path / "pictures"), "size": 8, "channels": 3, **options}
    images = cache.read("folder", dataset, reading, chosen, cache.fingerprint(dataset, reading, chosen))
    monkeypatch.undo()
    return len(opened), images.classes


def test_images_are_opened_again_only_when_one_of_them_changes(tmp_path, monkeypatch):
    pictures = numbered(tmp_path / "pictures", "ab", 3)
    assert cached(tmp_path, monkeypatch) == (6, ("a", "b"))
    assert cached(tmp_path, monkeypatch) == (0, ("a", "b"))
    assert cached(tmp_path, monkeypatch, size=9) == (6, ("a", "b"))
    (pictures / "a" / "notes.txt").write_text("no image")
    assert cached(tmp_path, monkeypatch) == (0, ("a", "b"))
    picture(pictures / "a" / "000.png", size=(30, 30))
    assert cached(tmp_path, monkeypatch)[0] == 6
    (pictures / "b").rename(pictures / "c")
    assert cached(tmp_path, monkeypatch) == (6, ("a", "c"))
    picture(pictures / "c" / "one more.png")
    assert cached(tmp_path, monkeypatch)[0] == 7


def test_a_model_learns_a_folder_of_three_classes(tmp_path):
    random = np.random.default_rng(1)
    for channel, name in enumerate(("red", "green", "blue")):
        (tmp_path / name).mkdir()
        for number in range(30):
            pixels = random.integers(0, 120, (30, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    images = read(NOWHERE, path=str(tmp_path), size=28)
    tools = Tools(lambda name, options, side: Data(name, images, True, side))
    load = Load(model="lenet-300-100", dataset="folder", data_options={"path": str(tmp_path), "size": 28}, device="cpu")
    state = apply(load, None, tools).state
    assert state.data.shape == (3, 28, 28)
    assert state.data.classes == ("blue", "green", "red")
    learned = apply(Finetune(epochs=6, lr=0.02), state, tools).state
    assert measured(learned, "test", nobody, never).accuracy["test"].top1 > 0.8
