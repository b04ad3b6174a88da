"""The outline of a curve that grows: all that a picture can show of it, however long it is."""

import math
from collections.abc import Sequence

from msgspec import Struct

Point = tuple[float, float | None]
MOST = 1024  # parts of a curve: several for each dot of the widest picture


class Outline(Struct):
    """Parts of neighbouring points, each told by its lowest, its highest and one that is not finite: no spike is lost.

    A point is looked at once; what is drawn is never more than some thousand.
    """

    points: Sequence[Point]
    """The curve. Points may be added to its end, nothing else."""
    _seen: int = 0
    _size: int = 1
    """Points of a full part."""
    _room: int = 0
    """Points that still belong to the last part."""
    _parts: list[tuple[Point, ...]] = []

    def drawn(self) -> Sequence[Point]:
        """The points themselves while they are few, else their outline."""
        if len(self.points) <= MOST:
            return self.points
        for number in range(self._seen, len(self.points)):
            self._take(self.points[number])
        self._seen = len(self.points)
        return [point for part in self._parts for point in part]

    def _take(self, point: Point) -> None:
        if self._room:
            self._parts[-1] = ends((*self._parts[-1], point))
            self._room -= 1
            return
        if len(self._parts) == MOST:
            self._parts = [ends((*one, *other)) for one, other in zip(*[iter(self._parts)] * 2, strict=True)]
            self._size *= 2
        self._parts.append((point,))
        self._room = self._size - 1


def ends(points: Sequence[Point]) -> tuple[Point, ...]:
    """The lowest and the highest of some points and the first that is not finite, in their order."""
    known = [(y, n) for n, (_, y) in enumerate(points) if y is not None and math.isfinite(y)]
    lost = next((n for n, (_, y) in enumerate(points) if y is None or not math.isfinite(y)), None)
    kept = {min(known)[1], max(known)[1]} if known else set()
    return tuple(points[n] for n in sorted(kept if lost is None else {*kept, lost}))
