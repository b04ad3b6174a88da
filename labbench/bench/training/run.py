"""One finetuning under way: what it needs, from a state or from where a run was stopped. The loop is in finetune.py."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any

import torch
from msgspec.structs import asdict
from msgspec.structs import replace as with_fields
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.states.devices import pick
from labbench.bench.states.paused import Paused, copied
from labbench.bench.states.rescue import Known
from labbench.bench.states.state import Data, State, is_frozen, weight_of
from labbench.bench.training.crops import Crops
from labbench.bench.training.cuda_graph import Captured
from labbench.bench.training.frozen_prefix import parted
from labbench.bench.training.optimizers import optimizer_of
from labbench.bench.training.padded_widths import extras, widen
from labbench.bench.training.penalties import Penalty, penalty_of
from labbench.bench.training.schedules import Plateau
from labbench.bench.training.tied_clusters import Tie, compute_unique
from labbench.bench.training.trial import plain
from labbench.session.operations import Finetune
from labbench.session.snapshot import Accuracy

CROP_PADDING = 8  # a crop moves by at most 1/8 of height and width: 4 pixels of 32, as in He et al. 2015 section 4.2

UNFIT = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What is raised where a run that was kept does not fit: torch's words for other shapes and kinds."""
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass
class Run:
    """One finetuning under way: everything here is a copy that the run may change."""

    operation: Finetune
    state: State
    model: nn.Module
    """What is measured and kept; its parameters are the ones that train."""
    network: nn.Module
    """What a step goes through: the model, or the same put together in a faster way."""
    device: torch.device
    trained: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Keeps small gradients of fp16 from vanishing; does nothing otherwise."""
    teacher: nn.Module | None
    penalty: Penalty | None
    masked: list[Tensor]
    masks: list[Tensor]
    """In the type and layout of each of `masked`."""
    tied: list[Tie]
    generator: torch.Generator
    drawn: Tensor
    """State of `generator` before the epoch under way was shuffled."""
    steps: int
    """In one epoch."""
    plateau: Plateau = field(default_factory=Plateau)
    step: int = 0
    """Done, over all epochs."""
    first_step: int = 0
    """Where this operation began: above 0 where it goes on with a stopped run."""
    here: int = 0
    """Where this process began: above `first_step` where the operation was interrupted."""
    known: Known | None = None
    """The last epoch that was finished before the interruption, where the run was kept earlier than after that."""
    random: tuple[Tensor, ...] = ()
    """What dropout draws from, after the last step."""
    totals: Tensor = field(default_factory=lambda: torch.zeros(3))
    """Sums of loss, accuracy and penalty over the epoch under way."""
    best: tuple[Accuracy, dict[str, Tensor], int] | None = None
    """Validation figures, weights and epoch of what would be kept."""
    measured: int = 0
    """The last epoch whose validation figures are known."""
    features: Tensor | None = None
    """What the frozen beginning gives for each training image, where that is kept; `network` is then the rest."""
    may_capture: bool = False
    """Whether a step may still be tried to be captured."""
    captured: Captured[Tensor] | None = None
    capturing: bool = False
    remarks: list[str] = field(default_factory=list)
    """How it computes, in words, where that was not asked for."""
    note: str = ""
    """What its progress says beside the figures."""
    began: float = 0.0
    reported: float = 0.0

    def again(self, epoch: int) -> int:
        """The last epoch before the interruption while an epoch is one that is only computed again; else 0."""
        return self.known.epoch if self.known and epoch <= self.known.epoch else 0

    @cached_property
    def crops(self) -> Crops:
        """The training images with their borders."""
        return Crops(self.state.data.on(self.device)["train"][0], borders(self.state.data))


def set_up(operation: Finetune, state: State) -> Run:
    """A run at its first step: a copy of the model where it trains, and an optimizer of just what trains.

    What the operation leaves open is done in the plain way.
    """
    operation = plain(operation)
    device = device_of(operation, state)
    model = copy.deepcopy(state.model).to(device).to(memory_format=LAYOUTS[operation.layout])
    held = {p for name, p in model.named_parameters(remove_duplicate=False) if is_frozen(name, state.frozen)}
    trained = [p for p in model.parameters() if p not in held and (p.is_floating_point() or p.is_complex())]
    if not trained:
        raise BenchError("nothing to train: every layer is frozen; unfreeze some first")
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    images = state.data.on(device)["train"][0]
    steps = max(
        1, len(images) // operation.batch_size
    )  # a short last batch would move batch norm too far: it is dropped
    if operation.steps > steps * operation.epochs:
        raise BenchError(f"steps must be at most {steps * operation.epochs} ({operation.epochs} epochs of {steps})")
    scaled = precision_fits(operation, device)
    loose = {name: mask for name, mask in state.masks.items() if name not in state.frozen}
    tied = {n: c.to(device) for n, c in state.clusters.items() if operation.tied and n not in state.frozen}
    generator = torch.Generator().manual_seed(operation.seed)
    train_mode(model, state)
    return Run(
        operation=operation,
        state=state,
        model=model,
        network=network_of(operation, state, model),
        device=device,
        trained=trained,
        optimizer=optimizer_of(operation, trained, device),
        scaler=torch.amp.GradScaler(device.type, enabled=scaled),
        teacher=teacher_of(operation, state, device),
        penalty=penalty_of(operation, state, model),
        masked=[weight_of(model, name) for name in loose],
        masks=[torch.empty_like(weight_of(model, n)).copy_(mask) for n, mask in loose.items()],
        tied=[Tie(weight_of(model, name), labels) for name, labels in tied.items()],
        generator=generator,
        drawn=generator.get_state(),
        steps=steps,
        may_capture=device.type == "cuda" and operation.engine == "fast" and not scaled,
        totals=torch.zeros(3, device=device),
        began=time.perf_counter(),
    )


def train_mode(model: nn.Module, state: State) -> None:
    """Training mode, but frozen layers stand still: their batch norms neither learn nor count."""
    model.train()
    for name, module in model.named_modules():
        if name in state.frozen:
            module.eval()


@contextmanager
def norms_have_enough(batch_size: int) -> Iterator[None]:
    """While it lasts, a batch norm that cannot train on one value per channel is a `BenchError`, not torch's words."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        smallest = "batch_size must be at least 2" if batch_size < 2 else "there must be more than one training image"
        raise BenchError(
            f"{smallest}: batch norm cannot train on a single value per channel, whose variance is 0"
        ) from error


def network_of(operation: Finetune, state: State, model: nn.Module) -> nn.Module:
    """What a step of the run goes through, as its engine wants it."""
    if operation.engine == "plain":
        return model
    device = next(model.parameters()).device
    example = state.data.normalized(state.data.on(device)["train"][0][:2])
    added = extras(state)
    if added:
        widen(model, added, example)
    for name, labels in state.clusters.items() if operation.tied else ():
        if name not in state.frozen and name not in added:
            mask = state.masks.get(name)
            compute_unique(model.get_submodule(name), labels.to(device), mask if mask is None else mask.to(device))
    return (parted(model, example) if state.frozen else None) or model


def device_of(operation: Finetune, state: State) -> torch.device:
    """Where the run computes. Raises `BenchError` for a device that is not here."""
    return pick(operation.device) if operation.device else state.device


def steps_of(operation: Finetune, state: State, device: torch.device) -> int:
    """How many steps an epoch has. A short last batch would move batch norm too far: it is dropped."""
    return max(1, len(state.data.on(device)["train"][0]) // operation.batch_size)


def borders(data: Data) -> tuple[int, int]:
    """By how many rows and columns a crop may move.

    Spectrograms move along their columns, which are time, and not along their rows.
    """
    _, height, width = data.shape
    return height // CROP_PADDING if data.vertical else 0, width // CROP_PADDING


def precision_fits(operation: Finetune, device: torch.device) -> bool:
    """Whether gradients must be scaled. Raises `BenchError` for a precision that this device has no autocast for."""
    works = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}.get(device.type, ("fp32",))
    if operation.precision not in works:
        raise BenchError(f"{operation.precision} does not work on {device.type}; {' and '.join(works)} would")
    return operation.precision == "fp16"


def teacher_of(operation: Finetune, state: State, device: torch.device) -> nn.Module | None:
    """The dense model in eval mode, for distillation. Raises `BenchError` where there is none."""
    if not operation.distill:
        return None
    if state.dense is None:
        raise BenchError(
            "there is no dense model to distill from: nothing was pruned or clustered since the model was opened"
        )
    return copy.deepcopy(state.dense.model).to(device).eval().requires_grad_(False)


def resumed(operation: Finetune, state: State) -> Run:
    """The run that was stopped, at the step after its last one. Raises `BenchError` where this state is not its end."""
    paused = state.paused
    if paused is None:
        raise BenchError("nothing to resume: only right after a run that was stopped can a finetune go on with it")
    settings, steps = paused.operation, operation.steps
    default = Finetune()
    for name, value in asdict(operation).items():
        if name not in ("resume", "steps") and value not in (getattr(default, name), getattr(settings, name)):
            raise BenchError(
                f"a resumed run goes on with its settings: {name} must be {getattr(settings, name)} or left out, "
                f"not {value}"
            )
    if steps and steps < settings.steps:
        raise BenchError(f"steps must be at least {settings.steps}: the run was stopped there")
    run = set_up(with_fields(settings, resume=True, steps=steps), state)
    try:
        take_up(run, paused)
    except UNFIT as error:
        raise BenchError(
            "what was kept of the stopped run does not fit this model: undo the run and do it again"
        ) from error
    run.first_step = paused.step
    return run


def take_up(run: Run, paused: Paused) -> None:
    """Make a run that was set up stand where another was paused. Raises one of `UNFIT` if that is no such run."""
    if not 0 <= paused.measured * run.steps <= paused.step <= (paused.measured + 1) * run.steps:
        raise ValueError(f"step {paused.step} does not lie in epoch {paused.measured + 1}")
    if paused.totals.shape != run.totals.shape:
        raise ValueError(f"{paused.totals.shape} is not the shape of three sums")
    for numbers in paused.random[:1]:
        torch.Generator().set_state(numbers)
    run.model.load_state_dict(paused.weights)
    rates = [group["lr"] for group in run.optimizer.param_groups]
    run.optimizer.load_state_dict(copied(paused.optimizer))  # it takes tensors as they are and moves them in place
    for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # each step sets its own, where it lies
    for parameter, state in run.optimizer.state.items():
        run.optimizer.state[parameter] = lying_as(parameter, state)
    run.scaler.load_state_dict(dict(paused.scaler))
    run.plateau = Plateau(*paused.plateau)
    run.generator.set_state(paused.drawn)
    run.drawn = paused.drawn
    run.random, run.totals = paused.random, paused.totals.to(run.device, copy=True)
    run.step = run.here = paused.step
    run.best, run.measured = paused.best, paused.measured


def lying_as(parameter: Tensor, value: Any) -> Any:
    """A nest of what an optimizer remembers of a parameter, with its tensors in the layout of the parameter.

    Fused optimizers walk through both side by side; files hold tensors in the order of their indices.
    """
    match value:
        case Tensor() if value.shape == parameter.shape and value.stride() != parameter.stride():
            return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        case dict():
            return {key: lying_as(parameter, item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(lying_as(parameter, item) for item in value)
    return value


def pause(run: Run, done: Finetune) -> Paused:
    """What it takes to go on with a run after its last step; `done` is the operation as it is recorded."""
    weights = copied(run.model.state_dict())
    newest = run.best is not None and run.best[2] * run.steps == run.step
    return Paused(
        operation=done,
        step=run.step,
        measured=run.measured,
        weights=weights,
        optimizer=copied(run.optimizer.state_dict()),
        scaler=copied(run.scaler.state_dict()),
        plateau=astuple(run.plateau),
        drawn=run.drawn,
        random=run.random,
        totals=copied(run.totals),
        best=run.best and (run.best[0], weights if newest else copied(run.best[1]), run.best[2]),
    )


@contextmanager
def random_numbers(run: Run) -> Iterator[None]:
    """While it lasts, dropout draws from the seed of the run, or goes on where the run was stopped."""
    gpu = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpu):
        torch.manual_seed(run.operation.seed)
        if run.random:
            torch.set_rng_state(run.random[0])
            for numbers in run.random[1:]:
                torch.cuda.set_rng_state(numbers, run.device)
        run.random = random_state(run.device)
        yield


def random_state(device: torch.device) -> tuple[Tensor, ...]:
    """Where the random numbers that a model draws from are: of the CPU and of the GPU if there is one."""
    gpu = (torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()
    return torch.get_rng_state(), *gpu
