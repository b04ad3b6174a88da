"""How long a key takes to the screen, idle and while ResNet-20 trains on digits on all cores, and what the screen costs
the training.

    python tests/bench/keys.py --json keys.json

Shift+down goes to the next layer and marks it. A key's time ends when the marked row is written to the terminal of
120×40 cells. Keys come at odd moments, seven a second. The training's rate is taken from the session files: without the
screen, with it, and with somebody at the keys, in turn.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pseudo_terminal import PseudoTerminal
from side_by_side import Timed, arguments, show

from labbench.session.events import Progress
from labbench.session.jsonl import read

LABBENCH = [sys.executable, "-m", "labbench"]
RECIPE = """title = "train"
[[step]]
op = "load"
model = "resnet-20"
dataset = "digits"
[[step]]
op = "finetune"
epochs = 10000
"""
MARK, UNMARK, TOP, ONE_STEP, QUIT = b"\x1b[1;2B", b"\x1b", b"g", b".", b"\x11"
ROWS = 18  # as many layers are seen at once
BEGINNING = 3.0  # seconds of a training that do not count


@dataclass(frozen=True)
class Latencies:
    """Seconds from keys to the screen, by what went on."""

    case: str
    seconds: dict[str, list[float]]

    def percentiles(self, name: str) -> tuple[float, float]:
        """The 50th and the 99th, in milliseconds."""
        found = statistics.quantiles(self.seconds[name], n=100, method="inclusive")
        return 1000 * found[49], 1000 * found[98]

    def lines(self) -> Iterator[str]:
        """One line for each state."""
        yield self.case
        for name, seconds in self.seconds.items():
            half, most = self.percentiles(name)
            yield f"  {name:<32} p50 {half:5.1f} ms   p99 {most:5.1f} ms   worst {1000 * max(seconds):5.1f} ms"

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        return {
            "case": self.case,
            "seconds": self.seconds,
            "p50_p99_ms": {n: self.percentiles(n) for n in self.seconds},
        }


def pressed(terminal: PseudoTerminal, layers: list[str], seconds: float, chance: random.Random) -> list[float]:
    """Seconds of every key that was pressed in so long."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for key in (UNMARK, TOP):  # one after the other: together they would be alt+g
            terminal.press(key)
            terminal.watch(0.3)
        for layer in layers[1:ROWS]:
            began = terminal.press(MARK)
            found.append(terminal.drawn(f"● {layer}", patience=10) - began)
            terminal.watch(chance.uniform(0.03, 0.2))
    return found


def with_screen(
    folder: Path, options: argparse.Namespace, chance: random.Random
) -> tuple[list[float], list[float], float, float]:
    """The keys while idle and while training, and steps a second while nobody and while somebody is at them."""
    session = folder / "screen.jsonl"
    session.unlink(missing_ok=True)
    with PseudoTerminal(
        [*LABBENCH, str(folder / "recipe.toml"), "--session", str(session)], folders(folder)
    ) as terminal:
        terminal.drawn("ready: ")
        terminal.press(ONE_STEP)
        terminal.drawn("layer1.0.conv1")
        terminal.watch(2.0)
        snapshot = read(session)[1].snapshot
        layers = [row.name for row in snapshot.rows if row.prunable] if snapshot else []
        idle = pressed(terminal, layers, options.seconds / 2, chance)
        terminal.press(ONE_STEP)
        terminal.drawn("img/s")
        terminal.watch(BEGINNING + options.seconds)
        training = pressed(terminal, layers, options.seconds, chance)
        terminal.press(QUIT)
        terminal.drawn("Stop it and quit")
        terminal.press(b"y")
        terminal.watch(3.0)
    watched = BEGINNING + options.seconds
    return idle, training, rate(session, until=watched), rate(session, watched)


def without(folder: Path, options: argparse.Namespace) -> float:
    """Images a second of `labbench run`."""
    session = folder / "headless.jsonl"
    session.unlink(missing_ok=True)
    process = subprocess.Popen(
        [*LABBENCH, "run", str(folder / "recipe.toml"), "--out", str(session)],
        env={**os.environ, **folders(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not session.exists() or b'"phase":"train"' not in session.read_bytes():
        time.sleep(0.2)
    time.sleep(BEGINNING + options.seconds)
    process.send_signal(signal.SIGINT)
    process.wait()
    return rate(session)


def rate(path: Path, first: float = BEGINNING, until: float = float("inf")) -> float:
    """Steps a second between two moments of a training by the times of the session file, measuring included."""
    _, session, _ = read(path)
    told = [(seconds, event.step) for seconds, event in session.events if isinstance(event, Progress) and event.step]
    counted = [one for one in told if first <= one[0] - told[0][0] <= until]
    (began, step), (ended, last) = counted[0], counted[-1]
    return (last - step) / (ended - began)


def folders(folder: Path) -> dict[str, str]:
    """Where the app keeps its files."""
    return {f"XDG_{name}_HOME": f"{folder}/{name.lower()}" for name in ("DATA", "CACHE", "STATE", "CONFIG")}


def cases(options: argparse.Namespace) -> Iterator[Any]:
    """The keys, and the training with and without the screen."""
    chance = random.Random(1)
    keys: dict[str, list[float]] = {"idle": [], "while ResNet-20 trains": []}
    step: dict[str, list[float]] = {"without a screen": [], "with the screen": [], "with the screen, keys pressed": []}
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
        for turn in range(options.rounds):
            for side in ("without", "with")[:: -1 if turn % 2 else 1]:
                if side == "without":
                    step["without a screen"].append(1 / without(folder, options))
                else:
                    idle, training, watched, at_keys = with_screen(folder, options, chance)
                    keys["idle"] += idle
                    keys["while ResNet-20 trains"] += training
                    step["with the screen"].append(1 / watched)
                    step["with the screen, keys pressed"].append(1 / at_keys)
    yield Latencies("key to screen (no more than 10 ms at p50, 50 ms at p99)", keys)
    yield Timed("training ResNet-20 (with the screen no less than 0.95)", step, 128, "images")


if __name__ == "__main__":
    parser = arguments(__doc__.splitlines()[0], rounds=5)
    parser.add_argument("--seconds", type=float, default=20, help="of each training (%(default)s)")
    options = parser.parse_args()
    show(options, cases(options))
