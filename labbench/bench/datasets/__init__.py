"""The data sets that can be loaded, by the name that a user types."""

from labbench.bench.data.dataset import Dataset
from labbench.bench.datasets.asc import ASC
from labbench.bench.datasets.digits import DIGITS
from labbench.bench.datasets.folder import FOLDER
from labbench.bench.datasets.shapes import SHAPES
from labbench.bench.datasets.vision import CIFAR10, CIFAR100, FASHION_MNIST, MNIST

DATASETS: dict[str, Dataset] = {
    "digits": DIGITS,
    "shapes": SHAPES,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "folder": FOLDER,
    "asc": ASC,
}
