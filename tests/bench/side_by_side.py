"""Two or more ways to do the same, timed side by side: in turn, in one process, round after round. Medians, their
spread and the ratio, which is taken within each round, so that another program on the cores slows both sides."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from labbench.bench.states.devices import machine

PACKAGES = ("torch", "torchvision", "scikit-learn", "numpy", "lightning")


@dataclass(frozen=True)
class Timed:
    """One case: the seconds of each side, round by round. The first side is what the others are compared with."""

    case: str
    seconds: Mapping[str, list[float]]
    items: float = 1.0
    """How many things (images, say) one call of a side does: figures are given per second of them."""
    unit: str = "s"
    """"s" for seconds of a call, or what `items` counts."""

    def figure(self, side: str) -> list[float]:
        """The figure of each round: seconds, or items per second."""
        return [s if self.unit == "s" else self.items / s for s in self.seconds[side]]

    def ratios(self, side: str) -> list[float]:
        """How many times as fast as the first side, round by round."""
        first = next(iter(self.seconds))
        return [other / own for other, own in zip(self.seconds[first], self.seconds[side], strict=True)]

    def lines(self) -> Iterator[str]:
        """One line for each side: median, least and most of the rounds, ratio."""
        yield self.case
        for side in self.seconds:
            figures, ratios = self.figure(side), self.ratios(side)
            unit = "s" if self.unit == "s" else f"{self.unit}/s"
            yield (
                f"  {side:<32} {number(statistics.median(figures)):>9} {unit:<9}"
                f" ({number(min(figures))} … {number(max(figures))})"
                f"  × {statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
            )

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured, and the medians."""
        return {
            "case": self.case,
            "unit": self.unit,
            "items": self.items,
            "sides": {
                side: {
                    "seconds": seconds,
                    "median": statistics.median(self.figure(side)),
                    "ratio": statistics.median(self.ratios(side)),
                }
                for side, seconds in self.seconds.items()
            },
        }


def number(value: float) -> str:
    """A figure with three or more significant digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def side_by_side(
    case: str,
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    items: float = 1.0,
    unit: str = "s",
    clock: Callable[[], float] = time.perf_counter,
) -> Timed:
    """Each side is called once to warm up, then once a round, in an order that turns around from round to round.

    On a machine that others use, `time.process_time` with one thread counts what a side computes, not what it waits.
    """
    for call in sides.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            seconds[name].append(timed(sides[name], clock))
    return Timed(case, seconds, items, unit)


def timed(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, with what it left a GPU to do."""
    finish()
    began = clock()
    call()
    finish()
    return clock() - began


def finish() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def circumstances() -> dict[str, str]:
    """Machine, threads and versions: what every figure depends on."""
    found = {"machine": machine(), "threads": str(torch.get_num_threads()), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has: --rounds, --threads and --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each side is timed (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    return parser


def show(options: argparse.Namespace, cases: Iterator[Timed]) -> None:
    """Print the circumstances and then each case as soon as it is measured; write them all to --json."""
    if options.threads:
        torch.set_num_threads(options.threads)
    found = circumstances()
    print("; ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    done = []
    for case in cases:
        print("\n".join(case.lines()), flush=True)
        done.append(case.as_json())
    if options.json:
        options.json.write_text(json.dumps({"circumstances": found, "cases": done}, indent=1), encoding="utf-8")
