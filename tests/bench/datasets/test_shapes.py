"""The generated shapes: a shape is where its name says, and chance does not give the class away."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.datasets.shapes import SHAPES_BY_NAME
from labbench.bench.errors import Stopped
from labbench.session.events import Progress

AREA = {"disc": 2.27, "ring": 1.90, "square": 2.25, "pentagon": 2.21, "cross": 2.15}
"""By formula: πr², 2π·0.72·0.42, 1.5², 5·0.78²·tan 36°, two bars of 2×0.64 less their crossing."""


def _inside(name: str, side: int = 201) -> torch.Tensor:
    line = torch.linspace(-1.5, 1.5, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return SHAPES_BY_NAME[name](x[None], y[None])[0] < 0


@pytest.mark.parametrize(("name", "area"), AREA.items())
def test_a_shape_has_the_area_of_its_formula(name, area):
    assert _inside(name).float().mean() * 9 == pytest.approx(area, abs=0.1)


def test_shapes_are_of_like_size_so_that_area_does_not_tell_them_apart():
    areas = [float(_inside(name).float().mean() * 9) for name in SHAPES_BY_NAME]
    assert min(areas) > 1.1
    assert max(areas) < 2.4


def test_every_shape_equals_its_mirror_image_so_flipping_keeps_the_class():
    assert DATASETS["shapes"].flip
    for name in SHAPES_BY_NAME:
        inside = _inside(name)
        upright, sideways = inside == inside.flip(1), inside == inside.flip(0)
        assert max(upright.float().mean(), sideways.float().mean()) > 0.999, name


def test_the_average_picture_of_a_class_does_not_tell_its_color():
    images, labels = DATASETS["shapes"].read(Reading(Path("/nowhere"))).splits["train"]
    means = torch.stack([images[labels == label].float().mean((0, 2, 3)) for label in range(10)])
    assert (means - means.mean(0)).abs().max() < 8


def test_drawing_tells_how_far_it_is_and_can_be_stopped():
    told: list[Progress] = []
    DATASETS["shapes"].read(Reading(Path("/nowhere"), told.append))
    assert len(told) == 30
    assert [event.fraction for event in told] == sorted(event.fraction for event in told)
    assert (told[1].fraction, told[1].note) == (600 / 8_000, "drawing 600 times ring")
    assert told[-1].fraction == 7_900 / 8_000
    del told[:]
    with pytest.raises(Stopped):
        DATASETS["shapes"].read(Reading(Path("/nowhere"), told.append, lambda: len(told) == 2))


def test_drawing_leaves_the_number_of_threads_as_it_was():
    program = """
import torch
from pathlib import Path
from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
torch.set_num_threads(3)
DATASETS["shapes"].read(Reading(Path("/nowhere"))).splits
print(torch.get_num_threads())
"""
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "3\n"
