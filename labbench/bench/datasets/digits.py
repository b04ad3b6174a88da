"""The handwritten digits that come with scikit-learn: real, small, and there without a network."""

import numpy as np
import torch

from labbench.bench.data.dataset import Dataset, Images, Reading

IMAGES = {"train": 1_077, "validation": 360, "test": 360}


def read(reading: Reading) -> Images:
    """The digits of scikit-learn; the folder is not looked at."""
    from sklearn.datasets import load_digits  # costs half a second, so only when asked

    found = load_digits()
    images = torch.from_numpy(np.rint(found.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(found.target.astype(np.int64))
    # NumPy keeps the stream of RandomState frozen, so this split is the same with every version.
    shuffled = np.random.RandomState(1).permutation(len(labels))
    rest = shuffled[np.argsort(found.target[shuffled], kind="stable")]
    rest, test = _every_so_often(rest, IMAGES["test"])
    train, validation = _every_so_often(rest, IMAGES["validation"])
    parts = {"train": train, "validation": validation, "test": test}
    splits = {split: (images[part], labels[part]) for split, part in parts.items()}
    return Images(splits, tuple("0123456789"), mean=(0.3052,), std=(0.3759,))


def _every_so_often(indices: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices parted in two, `count` of them taken at even distances: stratified where they are sorted by class."""
    taken = np.zeros(len(indices), dtype=bool)
    taken[(2 * np.arange(count) + 1) * len(indices) // (2 * count)] = True
    return indices[~taken], indices[taken]


DIGITS = Dataset(
    doc="""Handwritten digits, 8×8 gray: 1,797 real images, works offline

    Come with scikit-learn: the test part of "Optical Recognition of Handwritten Digits"
    (Alpaydin and Kaynak, UCI 1998), 13 writers, 17 grays.
    A fixed stratified split: 1,077 to train, 360 to validate, 360 to test.""",
    read=read,
    flip=False,
    classes=10,
    shape=(1, 8, 8),
    images=IMAGES,
)
