"""The data sets that can be loaded, by the name that a user types."""

from labbench.bench.dataset import Dataset
from labbench.bench.datasets.digits import DIGITS
from labbench.bench.datasets.shapes import SHAPES

DATASETS: dict[str, Dataset] = {
    "digits": DIGITS,
    "shapes": SHAPES,
}
