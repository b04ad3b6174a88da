"""The digits: the same images as scikit-learn's, and a split that never moves."""

import hashlib
from pathlib import Path

import torch
from sklearn.datasets import load_digits

from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS


def test_every_digit_of_scikit_learn_is_in_one_split_with_its_label():
    found = load_digits()
    theirs = sorted(
        (image.astype(int).tobytes(), int(label)) for image, label in zip(found.images, found.target, strict=True)
    )
    ours = []
    for images, labels in DATASETS["digits"].read(Reading(Path("/nowhere"))).splits.values():
        grays = torch.round(images[:, 0] / 255 * 16).long()
        ours += [(image.numpy().tobytes(), int(label)) for image, label in zip(grays, labels, strict=True)]
    assert sorted(ours) == theirs


def test_black_is_0_and_white_is_255():
    images, _ = DATASETS["digits"].read(Reading(Path("/nowhere"))).splits["train"]
    assert images.min() == 0
    assert images.max() == 255


def test_the_split_is_fixed_for_all_time():
    """Sessions recorded with one version are replayed with another: whoever changes this breaks them."""
    splits = DATASETS["digits"].read(Reading(Path("/nowhere"))).splits
    digests = [hashlib.sha256(images.numpy().tobytes()).hexdigest()[:12] for images, _ in splits.values()]
    assert digests == ["0e81eb2a5f5a", "dfd1773aa9d1", "ad8ee37cab7a"]
