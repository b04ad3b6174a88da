"""What holds for every data set; the images themselves are looked at where they need no download."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labbench.bench.data.dataset import Images, Reading, Splits
from labbench.bench.datasets import DATASETS
from labbench.bench.datasets.vision import Published

KNOWN = [name for name, dataset in DATASETS.items() if dataset.images]
OFFLINE = [name for name in KNOWN if not DATASETS[name].download]


@pytest.fixture(scope="module", params=OFFLINE)
def offline(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def images(offline: str) -> Images:
    return DATASETS[offline].read(Reading(Path("/nowhere")))


@pytest.fixture(scope="module")
def splits(images: Images) -> Splits:
    return images.splits


def test_the_menu_begins_with_what_works_offline():
    assert list(DATASETS) == ["digits", "shapes", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder", "asc"]
    assert OFFLINE == ["digits", "shapes"]


@pytest.mark.parametrize("name", DATASETS)
def test_an_entry_describes_itself_on_a_line_of_a_small_terminal(name):
    first, *more = DATASETS[name].doc.splitlines()
    assert 0 < len(first) <= 76
    assert any(line.strip() for line in more)


@pytest.mark.parametrize("name", KNOWN)
def test_an_entry_is_consistent(name):
    dataset = DATASETS[name]
    assert list(dataset.images) == ["train", "validation", "test"]
    if isinstance(source := getattr(dataset.read, "__self__", None), Published):
        check_images(dataset, source.classes, source.mean, source.std)


def check_images(dataset, classes, mean, std):
    assert len(mean) == len(std) == dataset.shape[0]
    assert all(0 < value < 1 for value in (*mean, *std))
    assert len(set(classes)) == len(classes) == dataset.classes


def test_shapes_say_that_they_are_generated():
    assert "generated" in DATASETS["shapes"].doc.splitlines()[0].lower()


def test_images_and_labels_are_what_the_entry_promises(offline, splits):
    dataset = DATASETS[offline]
    assert list(splits) == list(dataset.images)
    for split, (images, labels) in splits.items():
        assert images.dtype == torch.uint8
        assert tuple(images.shape) == (dataset.images[split], *dataset.shape)
        assert labels.dtype == torch.int64
        assert tuple(labels.shape) == (dataset.images[split],)
        assert images.is_contiguous()


def test_every_class_is_in_every_split_in_like_proportion(offline, splits):
    classes = DATASETS[offline].classes
    for _, labels in splits.values():
        share = torch.bincount(labels, minlength=classes) / len(labels)
        assert len(share) == classes
        assert torch.all((share - 1 / classes).abs() < 0.01)


def test_no_image_is_in_two_splits(splits):
    seen: set[bytes] = set()
    for images, _ in splits.values():
        here = {image.numpy().tobytes() for image in images}
        assert not here & seen
        seen |= here


def test_mean_and_deviation_are_those_of_the_training_images(offline, images):
    check_images(DATASETS[offline], images.classes, images.mean, images.std)
    pixels = images.splits["train"][0] / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(images.mean, abs=0.005)
    assert pixels.std((0, 2, 3)).tolist() == pytest.approx(images.std, abs=0.005)


def test_every_process_reads_the_same_with_any_number_of_threads(offline, splits):
    digest = "\n".join(f"{split} {_digest(part)}" for split, part in splits.items())
    program = f"""
import hashlib, sys, torch
from pathlib import Path
torch.set_num_threads({1 if torch.get_num_threads() > 1 else 3})
from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
for split, (images, labels) in DATASETS[{offline!r}].read(Reading(Path("/nowhere"))).splits.items():
    print(split, hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest())
"""
    assert _python(program).strip() == digest


def test_the_catalogue_costs_no_import_of_a_large_library():
    heavy = ("torchvision", "sklearn", "soundfile", "soxr", "kaldi_native_fbank")
    program = f"import labbench.bench.datasets, sys; print([m for m in {heavy} if m in sys.modules])"
    assert _python(program).strip() == "[]"


def _digest(part: tuple[torch.Tensor, torch.Tensor]) -> str:
    return hashlib.sha256(part[0].numpy().tobytes() + part[1].numpy().tobytes()).hexdigest()


def _python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
