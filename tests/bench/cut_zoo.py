"""Structured pruning of every model of the zoo, one line each: parameters, MACs, and how long it takes.

    python tests/bench/cut_zoo.py [MODEL[:option=value,…] …] [--amount 0.3] [--json]

Each model is opened on random images, cut by group magnitude (local and global), checked against its channel-zeroed
twin (by the cut itself), written with its record, rebuilt from the file on a fresh model, and compared. No part of the
tests.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
from bench_examples import noise, shaken

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.models import MODELS
from labbench.bench.states.checkpoints import fill, read, save
from labbench.bench.states.opened import fresh, load
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.cli import _option
from labbench.session.operations import Load, Prune


def opened(name: str, options: dict) -> tuple[State, Tools]:
    """A model on a few random images of the shape it was made for, its norms as training leaves them."""
    model = MODELS[name]
    data = noise((1 if model.side < 32 else 3, model.side, model.side), images=4)
    tools = Tools(lambda dataset, given, side: data)
    state, _, _ = load(Load(model=name, dataset="digits", options=options, device="cpu"), tools.data)
    return shaken(state), tools


def line_of(name: str, options: dict, amount: float, scope: str) -> dict:
    """What one cut did."""
    state, tools = opened(name, options)
    before = snapshot(state, final=False)
    line = {
        "model": f"{name}{'' if not options else ' ' + ' '.join(f'{k}={v}' for k, v in options.items())}",
        "scope": scope,
        "parameters": before.whole.now,
        "macs": before.macs,
    }
    began = time.perf_counter()
    try:
        after, _, remarks = apply(Prune(method="group-magnitude", amount=amount, scope=scope), state, tools)
    except BenchError as error:
        return line | {"refused": str(error)}
    seconds = time.perf_counter() - began
    now = snapshot(after, final=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        size = save(after, path)
        rebuilt = fill(fresh(after.load, tools.data), *read(path), path)
    x = torch.randn(2, *state.data.shape)
    with torch.no_grad():
        same = torch.equal(rebuilt.model(x), after.model(x))
    whole = [remark.removeprefix("left whole: ") for remark in remarks if remark.startswith("left whole")]
    return line | {
        "parameters after": now.whole.now,
        "macs after": now.macs,
        "seconds": round(seconds, 2),
        "bytes": size,
        "rebuilt equal": same,
        "left whole": whole,
    }


def text_of(line: dict) -> str:
    """One line of the table."""
    start = f"{line['model']:<28} {line['scope']:<6} {line['parameters']:>11,}"
    if "refused" in line:
        return f"{start}  refused: {line['refused']}"
    ratio = line["parameters after"] / line["parameters"]
    macs = line["macs after"] / max(line["macs"], 1)
    equal = "equal" if line["rebuilt equal"] else "DIFFERS"
    return (
        f"{start} → {line['parameters after']:>11,} ({ratio:4.0%})  MACs {line['macs'] / 1e6:>9,.1f} → "
        f"{line['macs after'] / 1e6:>8,.1f} M ({macs:4.0%})  {line['seconds']:>6.2f} s  rebuilt {equal}"
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL[:option=value,…]")
    parser.add_argument("--amount", type=float, default=0.3)
    parser.add_argument("--scope", choices=["layer", "global"], help="only this scope")
    parser.add_argument("--json", action="store_true", help="one JSON value instead of a table")
    given = parser.parse_args()
    if not given.json:
        threads = torch.get_num_threads()
        print(f"{platform.machine()}, {threads} threads, Python {platform.python_version()}, torch {torch.__version__}")
    lines = []
    for text in given.models:
        name, _, options = text.partition(":")
        chosen = dict(_option("MODEL", option) for option in options.split(",") if option)
        for scope in [given.scope] if given.scope else ["layer", "global"]:
            lines.append(line_of(name, chosen, given.amount, scope))
            if not given.json:
                print(text_of(lines[-1]), flush=True)
                for whole in lines[-1].get("left whole", []):
                    print(f"{'':<28}        left whole: {whole}")
    if given.json:
        json.dump(lines, sys.stdout, indent=2)
    return 0 if all(line.get("rebuilt equal", True) for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
