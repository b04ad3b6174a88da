"""Peak memory of opening a data set and of training on it: labbench against the loop that users have.

    python tests/bench/memory.py --models resnet-20 lenet-5 --json figures.json

Each side runs in a process of its own, in turn, and says what the system counts as its peak resident memory: after the
imports, with the data open, after a few steps. 50,000 random images in the shape of CIFAR-10; labbench reads them from
its memory-mapped cache, the other side from an array in memory, as torchvision's CIFAR10 does.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES, SHAPE, BATCH, STEPS = 50_000, (3, 32, 32), 128, 3
MODELS = ("resnet-20", "lenet-300-100", "resnet-18")
SIDES = ("ordinary loop", "labbench", "labbench plain")
MOMENTS = ("imports", "data", "training")


def peak() -> float:
    """Peak resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands the peak of the parent on to what it starts, but not here
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


def write(folder: Path) -> None:
    """The images, as both sides find them on disk."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (IMAGES, *SHAPE), generator=generator, dtype=torch.uint8)
    y = torch.randint(0, 10, (IMAGES,), generator=generator)
    save_file({"x": x, "y": y}, folder / "images.safetensors")
    np.savez(folder / "images.npz", x=x.permute(0, 2, 3, 1).contiguous().numpy(), y=y.numpy())


def bench_side(folder: Path, model: str, engine: str) -> list[float]:
    """Peaks of labbench: the images are a view of a file that is mapped into memory."""
    import torch
    from bench_examples import state_of
    from safetensors.torch import load_file

    from labbench.bench.data.dataset import Images
    from labbench.bench.errors import never
    from labbench.bench.models import MODELS as CATALOGUE
    from labbench.bench.states.state import Data
    from labbench.bench.training.loop import begun, interruptible, train_epoch
    from labbench.bench.training.run import random_numbers
    from labbench.session.operations import PLAIN, Finetune

    peaks = [peak()]
    found = load_file(folder / "images.safetensors")
    few = found["x"][:BATCH], found["y"][:BATCH]
    splits = {"train": (found["x"], found["y"]), "validation": few, "test": few}
    images = Images(splits, tuple("0123456789"), mean=(0.5,) * 3, std=(0.25,) * 3)
    torch.manual_seed(0)
    state = state_of(CATALOGUE[model].build(SHAPE, 10), Data("random", images, True, SHAPE[-1]))
    peaks.append(peak())
    way = PLAIN if engine == "plain" else {**PLAIN, "precision": "bf16", "layout": "channels_last", "engine": "fast"}
    run = begun(Finetune(batch_size=BATCH, epochs=1, **way), state, lambda _: None, never)
    run.steps = STEPS
    with interruptible(run, never), random_numbers(run):
        train_epoch(run, 1, lambda _: None, never)
    return [*peaks, peak()]


def ordinary_side(folder: Path, model: str) -> list[float]:
    """Peaks of the loop of tutorials, over an array in memory."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from torchvision import transforms as t

    from labbench.bench.models import MODELS as CATALOGUE

    peaks = [peak()]
    found = np.load(folder / "images.npz")
    x, y = found["x"], found["y"].tolist()
    moves = [t.RandomCrop(SHAPE[-1], padding=4), t.RandomHorizontalFlip(), t.ToTensor(), t.Normalize(0.5, 0.25)]
    transform = t.Compose(moves)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(y)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return transform(Image.fromarray(x[index])), y[index]

    torch.manual_seed(0)
    network = CATALOGUE[model].build(SHAPE, 10).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    loader = iter(torch.utils.data.DataLoader(Pictures(), BATCH, shuffle=True))
    peaks.append(peak())
    for _ in range(STEPS):
        images, labels = next(loader)
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return [*peaks, peak()]


def one(side: str, folder: Path, model: str) -> list[float]:
    """The peaks of one side, in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--models", model]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peaks: list[float] = json.loads(said.splitlines()[-1])
    return peaks


def main() -> None:
    """Measure every side in turn, or be one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "ordinary loop":
        print(json.dumps(ordinary_side(options.folder, options.models[0])))
        return
    if options.side:
        print(json.dumps(bench_side(options.folder, options.models[0], options.side.removeprefix("labbench").strip())))
        return
    from side_by_side import circumstances

    about = circumstances()
    print("; ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for model in options.models:
            rounds = [{side: one(side, Path(folder), model) for side in SIDES} for _ in range(options.rounds)]
            print(f"{model}: peak MB of {', '.join(MOMENTS)}")
            for side in SIDES:
                peaks = {moment: [turn[side][n] for turn in rounds] for n, moment in enumerate(MOMENTS)}
                figures.setdefault(model, {})[side] = peaks
                ratios = [turn[side][-1] / turn[SIDES[0]][-1] for turn in rounds]
                medians = "  ".join(
                    f"{statistics.median(values):7,.0f} ({min(values):,.0f} … {max(values):,.0f})"
                    for values in peaks.values()
                )
                print(f"  {side:<16}{medians}  × {statistics.median(ratios):.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"circumstances": about, "MB": figures}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
