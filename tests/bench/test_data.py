"""How images reach a model: enlarged where they are too small, normalized unless they are floats already."""

import pytest
import torch

from labbench.bench.data.dataset import Images
from labbench.bench.states.state import Data


def of(images: torch.Tensor, side: int) -> Data:
    splits = {split: (images, torch.zeros(len(images), dtype=torch.int64)) for split in ("train", "validation", "test")}
    return Data("test", Images(splits, ("a", "b"), mean=(0.5,), std=(0.25,)), False, side)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
@pytest.mark.parametrize(
    ("shape", "enlarged"),
    [
        ((8, 8), (28, 28)),
        ((28, 28), (28, 28)),
        ((256, 20), (256, 28)),
        ((20, 100), (28, 100)),
        ((128, 100), (128, 100)),
    ],
)
def test_only_the_sides_that_are_too_short_grow(
    shape: tuple[int, int], enlarged: tuple[int, int], dtype: torch.dtype
) -> None:
    images = torch.arange(2 * shape[0] * shape[1]).remainder(200).view(2, 1, *shape).to(dtype)
    data = of(images, 28)
    made = data.on(torch.device("cpu"))["train"][0]
    assert data.shape == (1, *enlarged) == tuple(made.shape[1:])
    assert made.dtype == dtype
    if shape == enlarged:
        assert made.data_ptr() == images.data_ptr(), "gigabytes are not copied"


def test_pixels_are_normalized_and_floats_are_taken_as_they_are() -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    assert of(pixels, 1).normalized(pixels).flatten().tolist() == pytest.approx([-2.0, 2.0, -1.2])
    floats = torch.tensor([-1.5, 0.25, 3.0], dtype=torch.float16).view(3, 1, 1, 1)
    made = of(floats, 1).normalized(floats)
    assert made.dtype == torch.float32 and torch.equal(made, floats.float())
