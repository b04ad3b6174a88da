"""Small folders of images, for the tests of their reader."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from labbench.bench.data.dataset import Reading

NOWHERE = Reading(Path("/nowhere"))


def picture(path: Path, color: object = (200, 30, 60), size: tuple[int, int] = (12, 10), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)  # type: ignore[arg-type]


def numbered(top: Path, classes: Iterable[str], count: int) -> Path:
    """Gray pictures, of which no two are the same."""
    for turn, name in enumerate(classes):
        for number in range(count):
            picture(top / name / f"{number:03}.png", (turn * count + number,) * 3)
    return top
