"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, from their published files, downloaded where they are not there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labbench import published
from labbench.bench.data import unpacked
from labbench.bench.data.dataset import Dataset, Images, Reading
from labbench.bench.download import fetch, is_whole
from labbench.bench.errors import BenchError
from labbench.published import Packed, Published
from labbench.session.events import Progress

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


@dataclass(frozen=True)
class Vision:
    """One of the data sets, and what its files do not tell."""

    published: Published
    held_out: int
    """One image in so many of the training part validates."""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def sources(self, reading: Reading) -> Iterable[Path]:
        """The files that are there, unpacked or packed."""
        there = self.published.found(reading.data_dir)
        return list(dict.fromkeys(there[file] for file in self.published.files if file in there))

    def read(self, reading: Reading) -> Images:
        """The images, downloaded where they are not there."""
        there = self.published.found(reading.data_dir)
        found: dict[str, unpacked.Part] = {}
        broken: dict[Path, Exception] = {}
        try:
            for path in dict.fromkeys(there.values()):
                try:
                    found |= self._unpacked(path, [file for file in there if there[file] == path], reading)
                except unpacked.FAILURES as error:
                    broken[path] = error
            if len(found) < len(self.published.files):
                found |= self._fetched(found, reading)
            train, test = (self._part(found, part) for part in ("train", "test"))
        except unpacked.FAILURES as error:
            raise BenchError(self._trouble(reading.data_dir, there, broken, error)) from error
        images, labels = train
        # NumPy keeps the stream of RandomState frozen, so this split is the same with every version.
        shuffled = torch.from_numpy(np.random.RandomState(1).permutation(len(labels)))
        kept, held = shuffled[len(labels) // self.held_out :], shuffled[: len(labels) // self.held_out]
        splits = {"train": (images[kept], labels[kept]), "validation": (images[held], labels[held]), "test": test}
        read = [path for path in there.values() if path not in broken]
        return Images(splits, self.classes, self.mean, self.std, self._elsewhere(reading.data_dir, read))

    def _unpacked(self, path: Path, files: Sequence[str], reading: Reading) -> dict[str, unpacked.Part]:
        """What is in a file: in an archive that of several."""
        if not self.published.archived:
            return {file: unpacked.idx(path, reading.stopped) for file in files}
        md5 = dict(zip(self.published.files, self.published.md5, strict=True))
        return unpacked.pickles(path, {file: md5[file] for file in files}, reading.stopped)

    def _fetched(self, found: Iterable[str], reading: Reading) -> dict[str, unpacked.Part]:
        """What is still missing, from packed files that are downloaded unless a whole one lies where they go."""
        one, folder = self.published, self.published.target(reading.data_dir)
        missing = [file for file in one.files if file not in found]
        packed = dict.fromkeys(one.packed if one.archived else (one.packed[one.files.index(file)] for file in missing))
        absent = [file for file in packed if not is_whole(folder / file.name, file.size, file.sha256, reading.stopped)]
        self._download(absent, folder, reading)
        reading.report(Progress(phase="convert", fraction=0.0, note=one.name))
        if one.archived:
            return self._unpacked(folder / one.packed[0].name, missing, reading)
        return {
            name: part
            for name, file in zip(missing, packed, strict=True)
            for part in self._unpacked(folder / file.name, [name], reading).values()
        }

    def _download(self, files: Sequence[Packed], folder: Path, reading: Reading) -> None:
        size, here = sum(file.size for file in files), 0

        def came(count: int) -> None:
            nonlocal here
            here += count
            note = f"{self.published.name} {here / 1e6:.1f} of {size / 1e6:.1f} MB"
            reading.report(Progress(phase="download", fraction=min(here / size, 1.0), note=note))

        for file in files:
            came(0)
            addresses = [server + file.name for server in self.published.servers]
            fetch(addresses, folder / file.name, file.size, file.sha256, reading.stopped, came)

    def _part(self, found: dict[str, unpacked.Part], part: str) -> tuple[Tensor, Tensor]:
        """The images N×C×H×W and labels of one of the two published parts."""
        files = self.published.files
        if self.published.archived:
            of_part = [file for file in files if file.startswith("test") == (part == "test") and "meta" not in file]
            images = torch.from_numpy(np.concatenate([found[file].images for file in of_part]))
            labels = torch.from_numpy(np.concatenate([found[file].labels for file in of_part]))
        else:
            first = 0 if part == "train" else 2
            images = torch.from_numpy(found[files[first]].images).unsqueeze(1)
            labels = torch.from_numpy(found[files[first + 1]].labels)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise ValueError(f"labels from {labels.min()} to {labels.max()} for {len(self.classes)} classes")
        return images, labels

    def _elsewhere(self, data_dir: Path, paths: Iterable[Path]) -> tuple[str, ...]:
        """A remark where files were found that are not where a download puts them."""
        usual = {self.published.target(data_dir), data_dir / self.published.folder}
        folders = dict.fromkeys(str(path.parent) for path in paths if path.parent not in usual)
        return (f"read from {', '.join(folders)}",) if folders else ()

    def _trouble(self, data_dir: Path, there: dict[str, Path], broken: dict[Path, Exception], error: Exception) -> str:
        one, folder, why = self.published, data_dir / self.published.folder, _said(error)
        if missing := [file for file in one.files if file not in there]:
            what = f"{one.name} is not in {folder} and could not be downloaded ({why})"
            packed = f"{one.packed[0].name} into {data_dir}" if one.archived else "the same packed (.gz)"
            cure = f"put {', '.join(missing)} there, or {packed}"
        elif broken:
            files = ", ".join(f"{path} ({_said(found)})" for path, found in broken.items())
            what = f"{one.name} is incomplete or broken: {files}; it could not be downloaded again ({why})"
            cure = "put whole files there"
        else:
            what, cure = f"{one.name} in {folder} is incomplete or broken ({why})", "put whole files there"
        return f"{what}; {cure}, or load digits or shapes, which need no network"


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


_MNIST = Vision(
    published.MNIST,
    held_out=6,
    classes=tuple("0123456789"),
    mean=(0.1307,),
    std=(0.3081,),
)

MNIST = Dataset(
    doc="""Handwritten digits, 28×28 gray: 70,000 images, a download of 11 MB

    LeCun, Cortes and Burges 1998. 50,000 to train, 10,000 of the training file to validate (seed 1), 10,000 to test.
    Found in the data folder as MNIST/raw/train-images-idx3-ubyte and so on, packed (.gz) or not, or in mnist.""",
    read=_MNIST.read,
    flip=False,
    classes=10,
    shape=(1, 28, 28),
    images={"train": 50_000, "validation": 10_000, "test": 10_000},
    download=True,
    sources=_MNIST.sources,
)

_FASHION_MNIST = Vision(
    published.FASHION_MNIST,
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
    Found in the data folder as FashionMNIST/raw/train-images-idx3-ubyte and so on, packed (.gz) or not, in
    fashion-mnist, or where Debian's dataset-fashion-mnist puts it.""",
    read=_FASHION_MNIST.read,
    flip=True,
    classes=10,
    shape=(1, 28, 28),
    images={"train": 50_000, "validation": 10_000, "test": 10_000},
    download=True,
    sources=_FASHION_MNIST.sources,
)

_CIFAR10 = Vision(
    published.CIFAR10,
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

_CIFAR100 = Vision(
    published.CIFAR100,
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
