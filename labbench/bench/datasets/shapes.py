"""Ten shapes on busy backgrounds, drawn by formula: a stand-in for CIFAR where there is no network."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from labbench.bench.dataset import Dataset, Splits

IMAGES = {"train": 6_000, "validation": 1_000, "test": 1_000}
SIDE = 32
SEED = 20_260

Field = np.ndarray
"""A number per pixel: float32 N×32×32."""

# A shape is its signed distance from the edge, negative inside, in units in which it fills a circle of radius about 1.
# The sizes are chosen so that no class stands out by its area.


def _disc(x: Field, y: Field, radius: float = 0.85) -> Field:
    return np.sqrt(x * x + y * y) - radius


def _box(x: Field, y: Field, width: float, height: float) -> Field:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def _wedge(x: Field, y: Field, corners: int) -> tuple[Field, Field]:
    """The plane folded so that one half of one corner, centered on the x axis, stands for all."""
    angle, turn = np.arctan2(y, x), np.float32(2 * np.pi / corners)
    folded = np.abs(angle - turn * np.rint(angle / turn))
    radius = np.sqrt(x * x + y * y)
    return radius * np.cos(folded), radius * np.sin(folded)


def _polygon(x: Field, y: Field, corners: int, radius: float) -> Field:
    x, y = _wedge(x, y, corners)
    half = np.pi / corners
    return (x - radius) * np.float32(np.cos(half)) + y * np.float32(np.sin(half))


def _ring(x: Field, y: Field) -> Field:
    return np.abs(_disc(x, y, 0.72)) - 0.21


def _star(x: Field, y: Field) -> Field:
    x, y = _wedge(x, y, 5)
    tip, notch = 1.15, 0.55
    dx, dy = notch * np.cos(np.pi / 5) - tip, notch * np.sin(np.pi / 5)
    return ((x - tip) * np.float32(dy) - y * np.float32(dx)) / np.float32(np.hypot(dx, dy))


def _cross(x: Field, y: Field) -> Field:
    return np.minimum(_box(x, y, 1.0, 0.32), _box(x, y, 0.32, 1.0))


def _crescent(x: Field, y: Field) -> Field:
    return np.maximum(_disc(x, y, 1.0), -_disc(x - 0.5, y, 0.78))


def _heart(x: Field, y: Field) -> Field:
    y = y + 0.2
    diagonal = np.float32(np.sqrt(0.5))
    square = _box((x + y) * diagonal, (x - y) * diagonal, 0.54, 0.54)
    lobes = _disc(np.abs(x) - 0.54 * diagonal, y - 0.54 * diagonal, 0.54)
    return np.minimum(square, lobes)


def _arrow(x: Field, y: Field) -> Field:
    return np.minimum(_box(x + 0.4, y, 0.6, 0.26), _polygon(x - 0.3, y, 3, 0.85))


SHAPES_BY_NAME: dict[str, Callable[[Field, Field], Field]] = {
    "disc": _disc,
    "ring": _ring,
    "square": lambda x, y: _box(x, y, 0.75, 0.75),
    "triangle": lambda x, y: _polygon(x, y, 3, 1.15),
    "pentagon": lambda x, y: _polygon(x, y, 5, 0.97),
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
}


def read(data_dir: Path) -> Splits:
    """The pictures, drawn once a process; the folder is not looked at."""
    return dict(_drawn())


@cache
def _drawn() -> Splits:
    return {
        split: _draw(np.random.default_rng([SEED, turn]), count) for turn, (split, count) in enumerate(IMAGES.items())
    }


def _draw(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """That many pictures, as many of each class, in random order."""
    each = count // len(SHAPES_BY_NAME)
    images = np.concatenate([_pictures(rng, each, shape) for shape in SHAPES_BY_NAME.values()])
    labels = np.repeat(np.arange(len(SHAPES_BY_NAME)), each)
    order = rng.permutation(count)
    return torch.from_numpy(images[order]), torch.from_numpy(labels[order].astype(np.int64))


def _pictures(rng: np.random.Generator, count: int, shape: Callable[[Field, Field], Field]) -> np.ndarray:
    """Pictures of one shape, uint8 N×3×32×32: background, strokes behind it, the shape, strokes across it, noise."""

    def uniform(low: float, high: float, *per_image: int) -> np.ndarray:
        return rng.uniform(low, high, (count, *(per_image or (1, 1)))).astype(np.float32)

    y, x = np.meshgrid(*2 * [np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2], indexing="ij")
    ground = uniform(0.1, 0.9, 3, 1, 1)
    contrast = uniform(0.15, 0.6, 3, 1, 1)
    ink = np.where(ground < 0.5, ground + contrast, ground - contrast)

    canvas = ground + uniform(-0.2, 0.2, 3, 1, 1) * _ripple(uniform, x, y, 0.02, 0.1)[:, None]
    canvas += uniform(-0.15, 0.15, 3, 1, 1) * _ripple(uniform, x, y, 0.15, 0.6)[:, None]
    canvas = _stroke(canvas, uniform, x, y)

    turn, radius = uniform(0, 2 * np.pi), uniform(5, 11)
    dx, dy = x - uniform(-6, 6), y - uniform(-6, 6)
    u, v = (np.cos(turn) * dx + np.sin(turn) * dy) / radius, (np.cos(turn) * dy - np.sin(turn) * dx) / radius
    shade = uniform(-0.15, 0.15, 3, 1, 1) * _ripple(uniform, x, y, 0.05, 0.3)[:, None]
    canvas = _cover(canvas, ink + shade, shape(u, v) * radius)

    for _ in range(2):
        canvas = _stroke(canvas, uniform, x, y)
    canvas += uniform(0.02, 0.12, 1, 1, 1) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return np.rint(canvas.clip(0, 1) * 255).astype(np.uint8)


def _ripple(uniform: Callable[..., np.ndarray], x: Field, y: Field, low: float, high: float) -> Field:
    """A wave in a random direction, `low` to `high` radians a pixel: slow it is a gradient, fast a texture."""
    angle, pace = uniform(0, 2 * np.pi), uniform(low, high)
    return np.sin((x * np.cos(angle) + y * np.sin(angle)) * pace + uniform(0, 2 * np.pi))


def _stroke(canvas: np.ndarray, uniform: Callable[..., np.ndarray], x: Field, y: Field) -> np.ndarray:
    """A short straight line in any color and place, to distract."""
    angle, half = uniform(0, 2 * np.pi), uniform(3, 10)
    dx, dy = x - uniform(-16, 16), y - uniform(-16, 16)
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return _cover(canvas, uniform(0, 1, 3, 1, 1), np.maximum(np.abs(along) - half, np.abs(across) - uniform(0.5, 1.5)))


def _cover(canvas: np.ndarray, color: np.ndarray, pixels_from_edge: Field) -> np.ndarray:
    """Paint what is inside, with an edge one pixel soft."""
    opacity = (0.5 - pixels_from_edge).clip(0, 1)[:, None]
    return canvas + (color - canvas) * opacity


SHAPES = Dataset(
    doc="""Generated shapes, 3×32×32, offline: ten shapes drawn by formula, an honest stand-in for CIFAR

    Disc to arrow, at any place, size, angle and color, on waves, behind strokes and noise; seeded, the same everywhere.
    Nothing here was photographed: figures on it say nothing about CIFAR.
    6,000 to train, 1,000 to validate, 1,000 to test.""",
    classes=tuple(SHAPES_BY_NAME),
    shape=(3, SIDE, SIDE),
    images=IMAGES,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    flip=True,
    read=read,
)
