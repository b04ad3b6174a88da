"""Training: labbench's loop against the loop that users have (DataLoader without workers over PIL images, RandomCrop,
flip, ToTensor, Normalize, fp32, SGD, `.item()` each step) and, where it is installed, Lightning's Trainer.

    python tests/bench/train.py --models resnet-20 lenet-5 --rounds 5 --json figures.json

Random images in the shape of CIFAR-10, for the LeNets in that of MNIST; batches of 128. Both sides crop, and mirror
what is no digit, unless the case says otherwise. Measuring epochs, and the few steps by which labbench chooses once a
run how it computes, are not timed.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import util

import torch
import torch.nn.functional as F
from bench_examples import do, state_of
from side_by_side import Timed, arguments, show, side_by_side
from torch import Tensor, nn
from torch.nn.utils import prune

from labbench.bench.data.dataset import Images
from labbench.bench.errors import never
from labbench.bench.models import MODELS
from labbench.bench.states.state import BATCH_NORM, Data, State, is_frozen, weight_of
from labbench.bench.training.loop import begun, interruptible, keep_features, train_epoch
from labbench.bench.training.run import Run, random_numbers
from labbench.bench.training.tied_clusters import Tie
from labbench.session.operations import PLAIN, Cluster, Finetune, Freeze, Operation, Prune

BATCH = 128
MEAN, STD = 0.5, 0.25
EPOCHS = 1000  # of the run that the timed steps are the beginning of: long, so that the probe is worth its time
CONVS_FROZEN = ("conv1", "layer1.*")  # 7 of the 20 layers of a ResNet-20
Side = Callable[[], None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """What is trained, and what was done to it before."""

    model: str
    steps: int
    """Timed in one round."""
    shape: tuple[int, int, int] = (3, 32, 32)
    done: tuple[Operation, ...] = ()
    augment: bool = True
    beside: tuple[Operation, ...] | None = None
    """A further side: labbench after these operations instead."""


CASES: dict[str, Case] = {
    "lenet-300-100": Case("lenet-300-100", 60, (1, 28, 28)),
    "lenet-5": Case("lenet-5", 40, (1, 28, 28)),
    "resnet-20": Case("resnet-20", 6),
    "resnet-20 masked": Case("resnet-20", 6, done=(Prune(amount=0.5),)),
    "resnet-20 tied": Case("resnet-20", 6, done=(Cluster(layers=("layer*",), fraction=0.5),)),
    "resnet-20 frozen": Case("resnet-20", 6, done=(Freeze(layers=CONVS_FROZEN),), beside=()),
    "resnet-20 frozen, not augmented": Case(
        "resnet-20", 6, done=(Freeze(layers=CONVS_FROZEN),), augment=False, beside=()
    ),
    "resnet-20 cut": Case("resnet-20", 6, done=(Prune(method="group-magnitude", amount=0.3),)),
    "resnet-56": Case("resnet-56", 2),
    "vgg-16": Case("vgg-16", 1),
    "resnet-18": Case("resnet-18", 1),
}


def state_for(case: Case, done: tuple[Operation, ...]) -> State:
    """The network on as many random images as one round takes, after some operations."""
    generator = torch.Generator().manual_seed(0)
    images = case.steps * BATCH
    x = torch.randint(0, 256, (images, *case.shape), generator=generator, dtype=torch.uint8)
    y = torch.randint(0, 10, (images,), generator=generator)
    splits = {"train": (x, y), "validation": (x[:64], y[:64]), "test": (x[:64], y[:64])}
    channels = case.shape[0]
    found = Images(splits, tuple("0123456789"), mean=(MEAN,) * channels, std=(STD,) * channels)
    torch.manual_seed(0)
    model = MODELS[case.model].build(case.shape, 10)
    return do(state_of(model, Data("random", found, case.shape[0] == 3, case.shape[-1])), *done)


# labbench


def bench_side(operation: Finetune, state: State) -> tuple[Side, str]:
    """An epoch of the bench, as it trains, and how it was chosen to train."""
    run = begun(operation, state, lambda _: None, never)
    keep_features(run)
    epoch = 0

    def train() -> None:
        nonlocal epoch
        epoch += 1
        with interruptible(run, never), random_numbers(run):
            train_epoch(run, epoch, lambda _: None, never)
        run.measured = epoch
        run.totals.zero_()

    return train, how(run)


def how(run: Run) -> str:
    """How a run computes, in words."""
    return " ".join(getattr(run.operation, name) for name in PLAIN)


# the loop that users have


class Pictures(torch.utils.data.Dataset):
    """Images in memory as torchvision's CIFAR10 and MNIST give them: PIL, then transforms, one by one."""

    def __init__(self, state: State, augment: bool) -> None:
        from torchvision import transforms as t

        x, y = state.data.on(torch.device("cpu"))["train"]
        self.array, self.labels = x.permute(0, 2, 3, 1).contiguous().numpy(), y.tolist()
        channels, _, side = x.shape[1:]
        crop, flip = [t.RandomCrop(side, padding=side // 8)], [t.RandomHorizontalFlip()] if channels == 3 else []
        moves = [*crop, *flip] if augment else []
        self.transform = t.Compose([*moves, t.ToTensor(), t.Normalize((MEAN,) * channels, (STD,) * channels)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        array = self.array[index]
        picture = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
        return self.transform(picture), self.labels[index]


def prepared(operation: Finetune, state: State) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A copy of the model with masks by `torch.nn.utils.prune` and frozen layers, and its optimizer."""
    model = copy.deepcopy(state.model).to(state.device).train()
    for name, mask in state.masks.items():
        prune.custom_from_mask(model.get_submodule(name), "weight", mask.float())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not is_frozen(name, state.frozen))
    trained = [p for p in model.parameters() if p.requires_grad]
    how = {"momentum": operation.momentum, "weight_decay": operation.weight_decay}
    return model, torch.optim.SGD(trained, operation.lr, **how)


def ordinary_side(operation: Finetune, state: State) -> Side:
    """An epoch of the loop that tutorials teach."""
    model, optimizer = prepared(operation, state)
    ties = [Tie(weight_of(model, name), labels) for name, labels in state.clusters.items()]
    still = [m for n, m in model.named_modules() if n in state.frozen and isinstance(m, BATCH_NORM)]
    loader = torch.utils.data.DataLoader(Pictures(state, operation.augment), BATCH, shuffle=True, drop_last=True)

    def train() -> None:
        model.train()
        for norm in still:
            norm.eval()
        seen, right = 0.0, 0
        for x, y in loader:
            x, y = x.to(state.device), y.to(state.device)
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            with torch.no_grad():
                for tie in ties:
                    tie.share_gradient()
                optimizer.step()
                for tie in ties:
                    tie.hold()
            seen += loss.item()
            right += (logits.argmax(1) == y).sum().item()

    return train


def lightning_side(operation: Finetune, state: State) -> Side | None:
    """An epoch of Lightning's Trainer over the same loader; None where it is not installed."""
    if not util.find_spec("lightning"):
        return None
    import lightning

    model, optimizer = prepared(operation, state)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            x, y = batch
            logits = self.model(x)
            loss = F.cross_entropy(logits, y)
            self.log_dict({"loss": loss, "accuracy": (logits.argmax(1) == y).float().mean()})
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer

    module = Module()
    loader = torch.utils.data.DataLoader(Pictures(state, operation.augment), BATCH, shuffle=True, drop_last=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}

    def train() -> None:
        trainer = lightning.Trainer(max_epochs=1, **quiet, enable_model_summary=False, accelerator="auto", devices=1)
        trainer.fit(module, loader)

    return train


def measured(name: str, case: Case, rounds: int, way: dict[str, str], clock: Clock) -> Timed:
    """One case, side by side."""
    operation = Finetune(batch_size=BATCH, epochs=EPOCHS, lr=0.01, schedule="constant", augment=case.augment, **way)
    state = state_for(case, case.done)
    sides = {"ordinary loop": ordinary_side(operation, state)}
    if lightning := lightning_side(operation, state):
        sides["Lightning"] = lightning
    train, chosen = bench_side(operation, state)
    sides[f"labbench ({chosen})"] = train
    if case.beside is not None:
        train, chosen = bench_side(operation, state_for(case, case.beside))
        sides[f"labbench without that ({chosen})"] = train
    return side_by_side(name, sides, rounds, case.steps * BATCH, "images", clock)


def cases(names: list[str], rounds: int, way: dict[str, str], clock: Clock) -> Iterator[Timed]:
    """The cases that begin with one of these names, or all."""
    for name, case in CASES.items():
        if not names or name in names or case.model in names:
            yield measured(name, case, rounds, way, clock)


def main() -> None:
    """Measure what was asked for."""
    parser = arguments(__doc__ or "", rounds=5)
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME", help=f"of {', '.join(CASES)}; all if none")
    for name in PLAIN:
        parser.add_argument(f"--{name}", default="auto", help="of the labbench side; else as it chooses")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, for a busy machine: with --threads 1")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    way = {name: getattr(options, name) for name in PLAIN}
    show(options, cases(options.models, options.rounds, way, clock))


if __name__ == "__main__":
    main()
