"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, read and downloaded by torchvision.

It checks every download by its MD5, so no other pickle than the published ones is ever opened.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labbench.bench.dataset import Dataset, Images, Reading
from labbench.bench.download import fetch
from labbench.bench.errors import BenchError
from labbench.session.events import Progress

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10_FILES = (*(f"data_batch_{turn}" for turn in range(1, 6)), "test_batch", "batches.meta")
CIFAR100_FILES = ("train", "test", "meta")

CIFAR100_CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
    shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905 (as a list it is a hundred lines)
)

# What torchvision raises where a disk or a file fails it; a short file is a ValueError or an AssertionError in its
# reader of idx. A network that fails is an OSError.
FAILURES = (OSError, RuntimeError, ValueError, AssertionError)


@dataclass(frozen=True)
class Published:
    """One of torchvision's data sets, and what it does not tell before its files are there."""

    name: str
    source: str
    """The class in `torchvision.datasets`."""
    folder: str
    """Under the data folder."""
    files: Sequence[str]
    size: int
    """Bytes of the download."""
    held_out: int
    """One image in so many of the training part validates."""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def sources(self, reading: Reading) -> Iterable[Path]:
        """The unpacked files."""
        return [reading.data_dir / self.folder / file for file in self.files]

    def read(self, reading: Reading) -> Images:
        """The images, downloaded where they are not there."""
        from torchvision import datasets  # costs a second, so only when asked

        reader = getattr(datasets, self.source)
        try:
            # NumPy 2.4.0 to 2.4.4 warn of how a pickle of 2009, as CIFAR is, spells its dtype (numpy#31177).
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
                try:
                    train, test = (reader(reading.data_dir, train=part) for part in (True, False))
                except RuntimeError:  # not there, or not what was published
                    self._fetch(reader, reading)
                    train, test = (reader(reading.data_dir, train=part, download=True) for part in (True, False))
            images, labels = _tensors(train)
            test_part = _tensors(test)
        except FAILURES as error:
            raise BenchError(_trouble(self.name, reading.data_dir / self.folder, self.files, error)) from error
        # NumPy keeps the stream of RandomState frozen, so this split is the same with every version.
        shuffled = torch.from_numpy(np.random.RandomState(1).permutation(len(labels)))
        kept, held = shuffled[len(labels) // self.held_out :], shuffled[: len(labels) // self.held_out]
        splits = {
            "train": (images[kept], labels[kept]),
            "validation": (images[held], labels[held]),
            "test": test_part,
        }
        return Images(splits, self.classes, self.mean, self.std)

    def _fetch(self, reader: Any, reading: Reading) -> None:
        """Put the packed files where torchvision takes them from instead of downloading them itself."""
        from torchvision.datasets.utils import check_integrity

        folder = reading.data_dir / self.folder if hasattr(reader, "mirrors") else reading.data_dir
        here = 0

        def came(count: int) -> None:
            nonlocal here
            here += count
            note = f"{self.name} {here / 1e6:.1f} of {self.size / 1e6:.1f} MB"
            reading.report(Progress(phase="download", fraction=min(here / self.size, 1.0), note=note))

        for file, md5, addresses in _packed(reader):
            if check_integrity(folder / file, md5):
                came((folder / file).stat().st_size)
            else:
                came(0)
                fetch(addresses, folder / file, md5, reading.stopped, came)
        reading.report(Progress(phase="convert", fraction=0.0, note=self.name))


def _packed(reader: Any) -> list[tuple[str, str, list[str]]]:
    """The files of a download: name, MD5 and addresses."""
    if hasattr(reader, "mirrors"):
        return [(file, md5, [f"{mirror}{file}" for mirror in reader.mirrors]) for file, md5 in reader.resources]
    return [(reader.filename, reader.tgz_md5, [reader.url])]


def _tensors(part: Any) -> tuple[Tensor, Tensor]:
    """torchvision keeps MNIST as a tensor N×H×W and CIFAR as an array N×H×W×C."""
    images, labels = torch.as_tensor(part.data), torch.as_tensor(part.targets)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    return images, labels


def _trouble(name: str, folder: Path, files: Sequence[str], error: Exception) -> str:
    missing = [file for file in files if not (folder / file).is_file()]
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    if missing:
        what = f"{name} is not in {folder} and could not be downloaded ({reason})"
        cure = f"put {', '.join(missing)} there"
    else:
        what = f"{name} in {folder} is incomplete or broken ({reason})"
        cure = f"delete {', '.join(files)} there to download them again"
    return f"{what}; {cure}, or load digits or shapes, which need no network"


_MNIST = Published(
    name="mnist",
    source="MNIST",
    folder="MNIST/raw",
    files=IDX_FILES,
    size=11_594_722,
    held_out=6,
    classes=tuple("0123456789"),
    mean=(0.1307,),
    std=(0.3081,),
)

MNIST = Dataset(
    doc="""Handwritten digits, 28×28 gray: 70,000 images, a download of 11 MB

    LeCun, Cortes and Burges 1998. 50,000 to train, 10,000 of the training file to validate (seed 1), 10,000 to test.
    Found in the data folder as MNIST/raw/train-images-idx3-ubyte and so on, packed (.gz) or not.""",
    read=_MNIST.read,
    flip=False,
    classes=10,
    shape=(1, 28, 28),
    images={"train": 50_000, "validation": 10_000, "test": 10_000},
    download=True,
    sources=_MNIST.sources,
)

_FASHION_MNIST = Published(
    name="fashion-mnist",
    source="FashionMNIST",
    folder="FashionMNIST/raw",
    files=IDX_FILES,
    size=30_878_645,
    held_out=6,
    classes=(
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    mean=(0.2860,),
    std=(0.3530,),
)

FASHION_MNIST = Dataset(
    doc="""Pictures of clothes, 28×28 gray: 70,000 images, a download of 30 MB

    Xiao, Rasul and Vollgraf 2017 (arXiv 1708.07747), made to take the place of MNIST: same files, same size, harder.
    50,000 to train, 10,000 of the training file to validate (seed 1), 10,000 to test.
    Found in the data folder as FashionMNIST/raw/train-images-idx3-ubyte and so on, packed (.gz) or not.""",
    read=_FASHION_MNIST.read,
    flip=True,
    classes=10,
    shape=(1, 28, 28),
    images={"train": 50_000, "validation": 10_000, "test": 10_000},
    download=True,
    sources=_FASHION_MNIST.sources,
)

_CIFAR10 = Published(
    name="cifar10",
    source="CIFAR10",
    folder="cifar-10-batches-py",
    files=CIFAR10_FILES,
    size=170_498_071,
    held_out=10,
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)

CIFAR10 = Dataset(
    doc="""Photographs in 10 classes, 3×32×32: 60,000 images, a download of 170 MB

    Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    45,000 to train, 5,000 of the training files to validate (seed 1), 10,000 to test.
    Found in the data folder as cifar-10-batches-py or cifar-10-python.tar.gz.""",
    read=_CIFAR10.read,
    flip=True,
    classes=10,
    shape=(3, 32, 32),
    images={"train": 45_000, "validation": 5_000, "test": 10_000},
    download=True,
    sources=_CIFAR10.sources,
)

_CIFAR100 = Published(
    name="cifar100",
    source="CIFAR100",
    folder="cifar-100-python",
    files=CIFAR100_FILES,
    size=169_001_437,
    held_out=10,
    classes=CIFAR100_CLASSES,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)

CIFAR100 = Dataset(
    doc="""Photographs in 100 classes, 3×32×32: 60,000 images, a download of 169 MB

    Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; the fine labels.
    45,000 to train, 5,000 of the training file to validate (seed 1), 10,000 to test.
    Found in the data folder as cifar-100-python or cifar-100-python.tar.gz.""",
    read=_CIFAR100.read,
    flip=True,
    classes=100,
    shape=(3, 32, 32),
    images={"train": 45_000, "validation": 5_000, "test": 10_000},
    download=True,
    sources=_CIFAR100.sources,
)
