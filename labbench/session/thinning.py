"""What of a long run is recorded. Everything of its beginning, and less and less often what comes later, so that a
recording grows with the logarithm of its length; the newest of each kind is there when the run ends."""

from typing import TypeAlias

from labbench.session.events import AnyEvent, Metric, Progress, Sparsity, Started

Timed: TypeAlias = tuple[float, AnyEvent]

PROGRESS_INTERVAL = 0.5  # seconds: enough to play it, small enough to keep it
PROGRESS, METRIC, SPARSITY = 50, 2000, 20
"""An event is kept when the run has gone on by one n-th since the last of its kind that was.

Of E epochs that is one table of layers for each of the first 20, then 20·ln(E/20); of each curve the first 2,000 points
that are equally far apart, then 2,000·ln(E/2000), finer than any axis shows; of T seconds one progress for each half
second up to 25 s, then 50·ln(T/25). 100,000 epochs of 350 layers in a day: 191 tables, 9,826 points a curve, 458
progresses. A spike between two points that are kept is lost.
"""


class Thinning:
    """Decides event by event. What is left out for now is held until something else follows it, or a newer one does."""

    def __init__(self) -> None:
        self._began = 0.0
        self._kept: dict[str, float] = {}
        """How far the run was at the last event of each kind that was kept."""
        self._held: dict[str, Timed] = {}
        self._seconds = 0.0

    def admit(self, seconds: float, event: AnyEvent) -> list[Timed]:
        """The events to record now, in the order of time: this one, none, or this one after those that were held."""
        match event:
            case Progress():
                return self._thinned("", seconds - self._began, PROGRESS, PROGRESS_INTERVAL, (seconds, event))
            case Metric():
                return self._thinned(event.name, event.x, METRIC, 0.0, (seconds, event))
            case Sparsity():
                return self._thinned(" ", event.epoch, SPARSITY, 0.0, (seconds, event))
            case _:
                held, self._held = sorted(self._held.values(), key=lambda timed: timed[0]), {}
                if isinstance(event, Started):
                    self._began, self._kept = seconds, {}
                return [self._in_order(timed) for timed in (*held, (seconds, event))]

    def _thinned(self, kind: str, place: float, part: int, least: float, timed: Timed) -> list[Timed]:
        last = self._kept.get(kind)
        if last is not None and place - last < max(least, last / part):
            self._held[kind] = timed
            return []
        self._kept[kind] = place
        self._held.pop(kind, None)
        return [self._in_order(timed)]

    def _in_order(self, timed: Timed) -> Timed:
        """The event at its time, or, where others were recorded since, at theirs."""
        self._seconds = max(self._seconds, timed[0])
        return self._seconds, timed[1]
