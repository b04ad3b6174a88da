"""How long it takes until something is there: the first paint, the worker, a model, a recording, the help.

    python tests/bench/startup.py --json startup.json

Everything runs in turn in a terminal of 120×40 cells, and so do what it is measured against: importing torch, importing
Textual, and Python alone. A first round, which fills the caches of the disk and of the data set, does not count.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pseudo_terminal import PseudoTerminal
from side_by_side import Timed, arguments, show

RECORDING = Path(__file__).parents[2] / "sessions" / "resnet-20-kmeans.jsonl"
LABBENCH = [sys.executable, "-m", "labbench"]
MODEL = [*LABBENCH, "--model", "lenet-5", "--dataset", "digits"]
PLAY = [*LABBENCH, "play", str(RECORDING)]

# What is on the screen when …
PAINTED = "Layers"  # the panes are there: nothing of a session yet
ASKED = "warming up: choose"  # the dialog that asks what to open is there, too
READY = "device auto is"  # the dialog knows the devices: the worker has imported torch
LOADED = "conv1"  # the table has the layers of LeNet-5
PLAYING = "playing"  # the status line tells how far the recording is

Marks = dict[str, float]


def run(code: str) -> Callable[[dict[str, str]], Marks]:
    """Seconds of Python with this program."""
    return lambda folders: {"end": _timed([sys.executable, "-c", code], folders)}


def drawn(command: list[str], **texts: str) -> Callable[[dict[str, str]], Marks]:
    """Seconds from the command to each of these texts on the screen."""

    def measure(folders: dict[str, str]) -> Marks:
        with PseudoTerminal(command, folders) as terminal:
            return {name: terminal.drawn(text) for name, text in texts.items()}

    return measure


def _timed(command: list[str], folders: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env={**os.environ, **folders}, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


PROGRAMS: dict[str, Callable[[dict[str, str]], Marks]] = {
    "import torch": run("import torch"),
    "import textual": run("import textual.app, textual.widgets; textual.widgets.Static"),
    "python": run("pass"),
    "help": lambda folders: {"end": _timed([*LABBENCH, "--help"], folders)},
    "labbench": drawn(LABBENCH, painted=PAINTED, asked=ASKED, ready=READY),
    "model": drawn(MODEL, painted=PAINTED, loaded=LOADED),
    "play": drawn(PLAY, painted=PAINTED, playing=PLAYING),
}

CASES = {
    "until the first paint (no more than 0.35 s; play, with its first frame: 0.5 s)": {
        "python -c 'import textual.app'": ("import textual", "end"),
        "labbench: panes": ("labbench", "painted"),
        "labbench: dialog": ("labbench", "asked"),
        "labbench --model lenet-5: panes": ("model", "painted"),
        "labbench play: panes": ("play", "painted"),
        "labbench play: first frame": ("play", "playing"),
    },
    "until the worker is ready (as close to importing torch as it gets)": {
        "python -c 'import torch'": ("import torch", "end"),
        "labbench: worker ready": ("labbench", "ready"),
        "labbench --model lenet-5: loaded": ("model", "loaded"),
    },
    "until the help is printed (no more than 0.15 s)": {
        "python -c pass": ("python", "end"),
        "labbench --help": ("help", "end"),
    },
}


def cases(options: argparse.Namespace) -> Iterator[Timed]:
    """Every program once a round, in an order that turns around."""
    marks: dict[str, list[Marks]] = {name: [] for name in PROGRAMS}
    with TemporaryDirectory() as folder:
        folders = {f"XDG_{name}_HOME": f"{folder}/{name.lower()}" for name in ("DATA", "CACHE", "STATE", "CONFIG")}
        for turn in range(-1, options.rounds):
            for name in list(PROGRAMS)[:: -1 if turn % 2 else 1]:
                found = PROGRAMS[name](folders)
                if turn >= 0:
                    marks[name].append(found)
    for case, sides in CASES.items():
        yield Timed(case, {side: [found[mark] for found in marks[name]] for side, (name, mark) in sides.items()})


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=7).parse_args()
    show(options, cases(options))
