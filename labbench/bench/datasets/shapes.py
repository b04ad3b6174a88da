"""Ten shapes on busy backgrounds, drawn by formula: a stand-in for CIFAR where there is no network."""

from collections.abc import Callable
from functools import partial
from math import cos, pi, sin, sqrt
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from labbench.bench.data.dataset import Dataset, Images, Reading
from labbench.bench.errors import Stopped
from labbench.bench.threads import one_thread
from labbench.session.events import Progress

IMAGES = {"train": 6_000, "validation": 1_000, "test": 1_000}
SIDE = 32
SEED = 20_260

Uniform: TypeAlias = Callable[[float, float], Tensor]
"""Evenly spread random numbers from low to high, one per picture or one per picture and channel."""

Field: TypeAlias = Tensor
"""A number per pixel: float32 N×32×32."""

# A shape is its signed distance from the edge, negative inside, in units in which it fills a circle of radius about 1.
# The sizes are chosen so that no class stands out by its area.


def _disc(x: Field, y: Field, radius: float = 0.85) -> Field:
    return (x * x + y * y).sqrt() - radius


def _box(x: Field, y: Field, width: float, height: float) -> Field:
    return torch.maximum(x.abs() - width, y.abs() - height)


def _sides(x: Field, y: Field, corners: int, apothem: float) -> Tensor:
    """How far outside each side of a regular polygon, corners×N×32×32. One of the corners is on the x axis."""
    angles = [(2 * turn + 1) * pi / corners for turn in range(corners)]
    return torch.stack([x * cos(angle) + y * sin(angle) - apothem for angle in angles])


def _polygon(x: Field, y: Field, corners: int, apothem: float) -> Field:
    return _sides(x, y, corners, apothem).amax(0)


def _star(x: Field, y: Field) -> Field:
    """A pentagram: all that is outside of one side of its inner pentagon at most."""
    return _sides(x, y, 5, 0.38).topk(2, dim=0).values[1]


def _ring(x: Field, y: Field) -> Field:
    return _disc(x, y, 0.72).abs() - 0.21


def _cross(x: Field, y: Field) -> Field:
    return torch.minimum(_box(x, y, 1.0, 0.32), _box(x, y, 0.32, 1.0))


def _crescent(x: Field, y: Field) -> Field:
    return torch.maximum(_disc(x, y, 1.0), -_disc(x - 0.5, y, 0.78))


def _heart(x: Field, y: Field) -> Field:
    half = 0.54
    y, diagonal = y + 0.2, sqrt(0.5)
    square = _box((x + y) * diagonal, (x - y) * diagonal, half, half)
    lobes = _disc(x.abs() - half * diagonal, y - half * diagonal, half)
    return torch.minimum(square, lobes)


def _arrow(x: Field, y: Field) -> Field:
    return torch.minimum(_box(x + 0.4, y, 0.6, 0.26), _polygon(x - 0.3, y, 3, 0.43))


SHAPES_BY_NAME: dict[str, Callable[[Field, Field], Field]] = {
    "disc": _disc,
    "ring": _ring,
    "square": lambda x, y: _box(x, y, 0.75, 0.75),
    "triangle": lambda x, y: _polygon(x, y, 3, 0.58),
    "pentagon": lambda x, y: _polygon(x, y, 5, 0.78),
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
}


def read(reading: Reading) -> Images:
    """The pictures, drawn: seconds. The folder is not looked at."""
    with one_thread():
        drawing = _drawing(reading)
        parts = enumerate(IMAGES.items())
        splits = {split: _draw(np.random.default_rng([SEED, turn]), count, drawing) for turn, (split, count) in parts}
    return Images(splits, tuple(SHAPES_BY_NAME), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def _drawing(reading: Reading) -> Callable[[int, str], None]:
    """To be told how many of which shape will be drawn next. Raises `Stopped`."""
    drawn = 0

    def tell(count: int, name: str) -> None:
        nonlocal drawn
        if reading.stopped():
            raise Stopped
        fraction = drawn / sum(IMAGES.values())
        reading.report(Progress(phase="convert", fraction=fraction, note=f"drawing {count} times {name}"))
        drawn += count

    return tell


def _draw(rng: "np.random.Generator", count: int, drawing: Callable[[int, str], None]) -> tuple[Tensor, Tensor]:
    """That many pictures, as many of each class, in random order."""
    each = count // len(SHAPES_BY_NAME)
    images = []
    for name, shape in SHAPES_BY_NAME.items():
        drawing(each, name)
        images.append(_pictures(rng, each, shape))
    labels = torch.arange(len(SHAPES_BY_NAME)).repeat_interleave(each)
    order = torch.from_numpy(rng.permutation(count))
    return torch.cat(images)[order], labels[order]


def _pictures(rng: "np.random.Generator", count: int, shape: Callable[[Field, Field], Field]) -> Tensor:
    """Pictures of one shape, uint8 N×3×32×32: background, a stroke behind, the shape, a stroke across it, noise."""
    number, color = partial(_uniform, rng, (count, 1, 1)), partial(_uniform, rng, (count, 3, 1, 1))
    y, x = torch.meshgrid(*2 * [torch.arange(SIDE) - (SIDE - 1) / 2], indexing="ij")

    ground, contrast = color(0.1, 0.9), color(0.28, 0.6)
    canvas = ground + color(-0.2, 0.2) * _wave(number, x, y, 0.02, 0.1)
    canvas = canvas + color(-0.1, 0.1) * _wave(number, x, y, 0.15, 0.6)
    canvas = _stroke(canvas, number, color, x, y)

    turn, radius = number(-pi, pi), number(6.5, 11.5)
    dx, dy = x - number(-4.5, 4.5), y - number(-4.5, 4.5)
    edge = shape((turn.cos() * dx + turn.sin() * dy) / radius, (turn.cos() * dy - turn.sin() * dx) / radius) * radius
    ink = torch.where(ground < 0.5, ground + contrast, ground - contrast)
    canvas = _cover(canvas, ink + color(-0.15, 0.15) * _wave(number, x, y, 0.05, 0.3), edge)

    canvas = _stroke(canvas, number, color, x, y)
    canvas = canvas + color(0.02, 0.09)[:, :1] * torch.from_numpy(rng.standard_normal(canvas.shape, dtype=np.float32))
    return (canvas.clamp(0, 1) * 255).round().to(torch.uint8)


def _uniform(rng: "np.random.Generator", shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return torch.from_numpy(rng.random(shape, dtype=np.float32)) * (high - low) + low


def _wave(number: Uniform, x: Field, y: Field, low: float, high: float) -> Tensor:
    """A wave N×1×32×32 in a random direction, `low` to `high` radians a pixel: slow a gradient, fast a texture."""
    angle, pace = number(-pi, pi), number(low, high)
    return torch.sin((x * angle.cos() + y * angle.sin()) * pace + number(-pi, pi)).unsqueeze(1)


def _stroke(canvas: Tensor, number: Uniform, color: Uniform, x: Field, y: Field) -> Tensor:
    """A short straight line in any color and place, to distract."""
    angle, half = number(-pi, pi), number(3, 10)
    dx, dy = x - number(-16, 16), y - number(-16, 16)
    along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    return _cover(canvas, color(0, 1), torch.maximum(along.abs() - half, across.abs() - number(0.5, 1.5)))


def _cover(canvas: Tensor, color: Tensor, pixels_from_edge: Field) -> Tensor:
    """Paint what is inside, with an edge one pixel soft."""
    return canvas + (color - canvas) * (0.5 - pixels_from_edge).clamp(0, 1).unsqueeze(1)


SHAPES = Dataset(
    doc="""Generated pictures of ten shapes, 3×32×32: 8,000 images, works offline

    A stand-in for CIFAR: disc to arrow, at any place, size, angle and color, on waves, behind strokes
    and noise; seeded, the same everywhere. Nothing here was photographed: figures on it say nothing
    about CIFAR. 6,000 to train, 1,000 to validate, 1,000 to test.""",
    read=read,
    flip=True,
    classes=len(SHAPES_BY_NAME),
    shape=(3, SIDE, SIDE),
    images=IMAGES,
    version=f"1, torch {torch.__version__}, numpy {np.__version__}",  # sines and random numbers are theirs
)
