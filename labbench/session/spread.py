"""Mean and spread of the figures of a session over seeds, and the tolerance that follows from it."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from labbench.session.operations import AnyOperation
from labbench.session.snapshot import Snapshot

DEVIATIONS = 2 * math.sqrt(2)
"""So many standard deviations may two runs be apart: their difference has √2 of one, and 95 % lie within twice
that where the deviation is known well; from three seeds it is a guess."""


class Spread(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure over seeds. Fractions, not percent."""

    n: int
    mean: float
    sd: float | None = None
    """Of a sample, n − 1 in the denominator; null where there is one value only."""

    @property
    def tolerance(self) -> float:
        """By how much two runs may differ; 0 where nothing is known."""
        return DEVIATIONS * self.sd if self.sd else 0.0


Tolerance: TypeAlias = dict[int, dict[str, Spread]]
"""Step → split → its accuracy over seeds."""


class Figures(Struct, frozen=True, kw_only=True):
    """What came of one step, seed by seed: figure ("validation", "test", "sparsity") → seed → value."""

    number: int
    operation: AnyOperation
    values: dict[str, dict[int, float]]

    def spread(self, name: str) -> Spread | None:
        """A figure over the seeds, or None where it was never measured."""
        return spread_of(list(self.values.get(name, {}).values()))


def spread_of(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation of at least one value."""
    if not values:
        return None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(n=len(values), mean=statistics.fmean(values), sd=sd)


def figures_of(snapshot: Snapshot) -> dict[str, float]:
    """What is gathered of a step."""
    return {"sparsity": snapshot.prunable.sparsity} | {
        split: accuracy.top1 for split, accuracy in snapshot.accuracy.items()
    }


def gathered(
    operations: Mapping[int, AnyOperation], runs: Mapping[int, Mapping[int, Snapshot | None]]
) -> tuple[Figures, ...]:
    """The steps (by number) with what came of them; `runs`: seed → step → the model after it, as far as it came."""
    found = []
    for number, operation in operations.items():
        values: dict[str, dict[int, float]] = {}
        for seed, steps in runs.items():
            snapshot = steps.get(number)
            for name, value in (figures_of(snapshot) if snapshot else {}).items():
                values.setdefault(name, {})[seed] = value
        found.append(Figures(number=number, operation=operation, values=values))
    return tuple(found)


def tolerance_of(steps: Iterable[Figures]) -> Tolerance:
    """What a session file carries of it: the accuracies that at least two seeds gave."""
    found = {
        step.number: {
            split: spread
            for split in ("validation", "test")
            if (spread := step.spread(split)) is not None and spread.sd is not None
        }
        for step in steps
    }
    return {number: spreads for number, spreads in found.items() if spreads}
