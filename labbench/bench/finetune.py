"""Training of a state that may be frozen, masked, clustered and cut. Reads top to bottom: the run, data, one step, an
epoch, the end. Frozen layers do not move by one bit, pruned weights stay exactly zero, clusters stay equal."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from msgspec.structs import replace as with_fields
from torch import Tensor, nn

from labbench.bench.errors import BenchError, Stopped, never
from labbench.bench.losses import data_loss
from labbench.bench.measure import evaluate, sparsity, unique_filters, values_at_places
from labbench.bench.rescue import Rescue
from labbench.bench.run import Run, begun, pause, random_numbers, random_state
from labbench.bench.schedules import lr_factor
from labbench.bench.state import BATCH_NORM, State, is_frozen, weight_of
from labbench.session.events import Metric, Progress, Sparsity
from labbench.session.operations import Finetune

REPORT_INTERVAL = 0.12  # seconds between two looks at the loss: a look waits for the device
CROP_PADDING = 8  # a crop moves by at most 1/8 of height and width: 4 pixels of 32, as in He et al. 2015 section 4.2
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Report = Callable[[Progress | Metric | Sparsity], None]
NOWHERE = Rescue()


def finetune(
    operation: Finetune,
    state: State,
    report: Report,
    stopped: Callable[[], bool] = never,
    rescue: Rescue = NOWHERE,
) -> tuple[State, Finetune, tuple[str, ...]]:
    """The state after training, the operation as it was done (with `steps` if it was stopped) and remarks.

    The best epoch on validation is kept (or the last); the test split is measured once, at the end, and not after a
    stop. Raises `BenchError` if there is nothing to train or to resume, or the loss is no longer finite; `Stopped`
    before any step. A run that was interrupted before and left something with `rescue` goes on from there.
    """
    run = begun(operation, state, rescue.begin())
    operation = run.operation
    epoch, broken, before = run.measured, False, report_rescue(run, report)
    try:
        with interruptible(run, stopped), random_numbers(run):
            for epoch in range(run.measured + 1, operation.epochs + 1):
                train_epoch(run, epoch, report, stopped)
                measure_epoch(run, epoch, report, stopped)
                if operation.steps and run.step >= operation.steps:
                    raise Stopped
                rescue.keep(lambda: pause(run, operation))
    except Stopped:
        if run.step == run.first_step and not (operation.resume and run.step == operation.steps):
            raise  # nothing was learned
        broken = True
    done = as_stopped(run, epoch) if broken else operation
    paused = pause(run, done) if broken else None
    if paused and run.step != operation.steps:
        rescue.keep(lambda: replace(paused, operation=operation), last=True)
    weights, kept = chosen(run, broken)
    run.model.load_state_dict(weights)
    finished = replace(finish(run, kept), paused=paused)
    if broken:
        return finished, done, (*before, stop_remark(run, epoch, kept))
    try:
        test = evaluate(finished.model, state.data, finished.device, "test", lambda _: None, stopped)
        finished = replace(finished, accuracy={**finished.accuracy, "test": test})
    except Stopped:
        return finished, operation, (*before, "stopped while it measured the test split: e measures it")
    remark = f"kept epoch {kept} of {operation.epochs}: best on validation"
    return finished, operation, (*before, remark) if operation.keep == "best" else before


def batches(run: Run) -> Iterator[tuple[Tensor, Tensor]]:
    """The shuffled batches of one epoch, normalized, cropped and flipped where that is asked for.

    Spectrograms move along their columns, which are time, and not along their rows.
    """
    data = run.state.data
    x, y = data.on(run.device)["train"]
    height, width = x.shape[-2:]
    borders = height // CROP_PADDING if data.vertical else 0, width // CROP_PADDING
    size = min(run.operation.batch_size, len(x))
    order = torch.randperm(len(x), generator=run.generator).to(run.device)
    moves = [torch.randint(0, 2 * border + 1, (len(x),), generator=run.generator) for border in borders]
    offsets = torch.stack(moves)
    mirrored = torch.rand(len(x), generator=run.generator) < 0.5 if data.flip else torch.zeros(len(x)).bool()
    offsets, mirrored = offsets.to(run.device), mirrored.to(run.device)
    done = run.step - run.measured * run.steps  # before the run was stopped
    for start in range(done * size, run.steps * size, size):
        chosen = order[start : start + size]
        images = x[chosen]
        if run.operation.augment:
            images = cropped(images, borders, offsets[:, start : start + size], mirrored[start : start + size])
        yield data.normalized(images), y[chosen]


def cropped(images: Tensor, borders: tuple[int, int], offsets: Tensor, mirrored: Tensor) -> Tensor:
    """Each image N×C×H×W, with zero borders (rows, columns), from its own offset (2×N) on; mirrored where it says so.

    One gather.
    """
    count, channels, height, width = images.shape
    above, beside = borders
    padded = F.pad(images, (beside, beside, above, above))
    rows = torch.arange(height, device=images.device) + offsets[0, :, None]
    columns = torch.arange(width, device=images.device).repeat(count, 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) + offsets[1, :, None]
    number = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    return padded[number, channel, rows[:, None, :, None], columns[:, None, None, :]]


def report_rescue(run: Run, report: Report) -> tuple[str, ...]:
    """Where a run goes on that was interrupted, at once, and as a remark for its end."""
    if run.here == run.first_step:
        return ()
    within = run.step > run.measured * run.steps
    where = f"in epoch {run.measured + 1}" if within else f"after epoch {run.measured}"
    report(
        Progress(
            phase="train",
            fraction=run.step / (run.steps * run.operation.epochs),
            epoch=min(run.measured + 1, run.operation.epochs),
            epochs=run.operation.epochs,
            note=f"goes on {where}, where it was interrupted",
        )
    )
    return (f"went on {where}, where it was interrupted",)


def train_mode(run: Run) -> None:
    """Training mode, but frozen layers stand still: their batch norms neither learn nor count."""
    run.model.train()
    for name, module in run.model.named_modules():
        if name in run.state.frozen:
            module.eval()


def train_step(run: Run, x: Tensor, y: Tensor) -> Tensor:
    """One step of the optimizer; zeros and clusters hold after it. Returns loss, accuracy, penalty, on the device."""
    operation = run.operation
    factor = lr_factor(operation, run.steps, run.step, run.plateau.factor)
    for group in run.optimizer.param_groups:
        group["lr"] = operation.lr * factor
    with torch.autocast(run.device.type, PRECISIONS[operation.precision], enabled=operation.precision != "fp32"):
        logits = run.model(x).float()
        with torch.no_grad():
            teacher = run.teacher(x).float() if run.teacher else None
    loss = data_loss(operation, logits, y, teacher)
    penalty = run.penalty() if run.penalty else torch.zeros_like(loss)
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(loss + penalty).backward()
    with torch.no_grad():
        run.scaler.unscale_(run.optimizer)
        for tie in run.tied:
            tie.share_gradient()
        if operation.clip:
            clip_gradients(run)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        for tie in run.tied:
            tie.hold()
        if run.masked:
            torch._foreach_mul_(run.masked, run.masks)
        figures = torch.stack([loss, (logits.argmax(1) == y).float().mean(), penalty])
    run.step += 1
    run.random = random_state(run.device)
    return figures


def clip_gradients(run: Run) -> None:
    """Shorten all gradients together to the norm `clip`. Those of pruned weights do not count."""
    gradients = [weight.grad for weight in run.masked if weight.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, run.masks)
    nn.utils.clip_grad_norm_(run.trained, run.operation.clip)


def train_epoch(run: Run, epoch: int, report: Report, stopped: Callable[[], bool]) -> None:
    """One pass over the training split. Raises `Stopped`, or `BenchError` when the loss is no longer finite."""
    train_mode(run)
    recent = torch.zeros_like(run.totals)
    recent_steps = 0
    for x, y in batches(run):
        if stopped() or (run.operation.steps and run.step >= run.operation.steps):
            raise Stopped
        figures = train_step(run, x, y)
        run.totals += figures
        recent += figures
        recent_steps += 1
        if time.perf_counter() - run.reported >= REPORT_INTERVAL:
            report_progress(run, epoch, float(recent[0]) / recent_steps, report)
            recent.zero_()
            recent_steps = 0
    loss, accuracy, penalty = (run.totals / run.steps).tolist()
    check_finite(run, epoch, loss + penalty)
    means = {"train/loss": loss, "train/accuracy": accuracy} | ({"train/penalty": penalty} if run.penalty else {})
    for name, value in means.items():
        report(Metric(name=name, x=on_axis(run, epoch), y=value))


def report_progress(run: Run, epoch: int, loss: float, report: Report) -> None:
    """Say how far the run is, at most every `REPORT_INTERVAL` seconds."""
    check_finite(run, epoch, loss)
    run.reported = time.perf_counter()
    spent, total = run.reported - run.began, run.steps * run.operation.epochs
    done = run.step - run.here
    report(
        Progress(
            phase="train",
            fraction=run.step / total,
            epoch=epoch,
            epochs=run.operation.epochs,
            step=run.step,
            steps=total,
            loss=loss,
            rate=done * min(run.operation.batch_size, len(run.state.data.on(run.device)["train"][0])) / spent,
            eta=spent / done * (total - run.step),
        )
    )
    report(Metric(name="step/loss", x=on_axis(run, run.step / run.steps), y=loss))


def on_axis(run: Run, epoch: float) -> float:
    """An epoch of the run as a place on the axis of this operation, which begins where a stopped run had ended."""
    return epoch - run.first_step / run.steps


def check_finite(run: Run, epoch: int, loss: float) -> None:
    """Raise `BenchError` if the loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise BenchError(
            f"the loss became {loss} in epoch {epoch}, at about step {run.step}: the run is stopped and the model is "
            f"as before; try a smaller lr than {run.operation.lr:g}"
        )


def measure_epoch(run: Run, epoch: int, report: Report, stopped: Callable[[], bool]) -> None:
    """Validation figures after an epoch, and whether it is the best one. Raises `Stopped`."""
    data, began = run.state.data, time.perf_counter()
    validation = evaluate(run.model, data, run.device, "validation", lambda _: None, stopped)
    if validation.loss is None:
        check_finite(run, epoch, math.nan)
    layers = sparsity(run.state, run.model, epoch)
    report(layers)
    loaded = sum(layer.weights for layer in run.state.layers if layer.prunable)
    for name, value in (
        ("validation/loss", validation.loss),
        ("validation/accuracy", validation.top1),
        ("sparsity", 1 - sum(layers.nonzero.values()) / loaded),
    ):
        report(Metric(name=name, x=on_axis(run, epoch), y=value))
    run.measured = epoch
    run.totals.zero_()
    run.drawn = run.generator.get_state()
    run.plateau.see(run.operation, validation)
    if run.operation.keep == "last" or run.best is None or validation.top1 >= run.best[0].top1:  # of equals the later
        run.best = validation, copy.deepcopy(run.model.state_dict()), epoch
    run.began += time.perf_counter() - began  # the rate counts training alone


@contextmanager
def interruptible(run: Run, stopped: Callable[[], bool]) -> Iterator[None]:
    """While it lasts, a stop ends even a long step, at the next layer; the step then has not happened.

    A forward pass moves the statistics of batch norm, so a broken step puts them back.
    """
    norms = [module for module in run.model.modules() if isinstance(module, BATCH_NORM)]
    buffers = [buffer for module in norms for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]

    def remember(module: nn.Module, _: object) -> None:
        if module.training:
            for kept, buffer in zip(before, buffers, strict=True):
                kept.copy_(buffer)

    def look(*_: object) -> None:
        if run.model.training and stopped():
            for kept, buffer in zip(before, buffers, strict=True):
                buffer.copy_(kept)
            raise Stopped

    hooks = [run.model.register_forward_pre_hook(remember)]
    hooks += [m.register_forward_pre_hook(look) for m in run.model.modules() if not any(m.children())]
    hooks += [p.register_post_accumulate_grad_hook(look) for p in run.model.parameters() if p.requires_grad]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def chosen(run: Run, broken: bool) -> tuple[dict[str, Tensor], int]:
    """The weights to keep and the epoch they are of; 0 is the last step of a run that was stopped.

    A stopped run keeps its best measured epoch, or, with none (or with keep = "last"), what the last step left.
    """
    if run.best and not (broken and run.operation.keep == "last"):
        return run.best[1], run.best[2]
    return run.model.state_dict(), 0


def finish(run: Run, kept: int) -> State:
    """The new state. Checks what was promised: zeros are zero, frozen layers are equal to the last bit."""
    model = run.model.to(run.state.device).eval().requires_grad_(True)
    for parameter in model.parameters():
        if not parameter.isfinite().all():
            check_finite(run, run.step // run.steps, math.nan)
        parameter.grad = None
    for name, mask in run.state.masks.items():
        if weight_of(model, name)[~mask].any():
            raise AssertionError(f"pruned weights of {name} moved")
    after = model.state_dict()
    for name, tensor in run.state.model.state_dict().items():
        if is_frozen(name, run.state.frozen) and not torch.equal(tensor, after[name]):
            raise AssertionError(f"{name} is frozen, and moved")
    for name, labels in run.state.clusters.items() if run.operation.tied else ():
        count = values_at_places if labels.dim() > 1 else unique_filters
        if count(weight_of(model, name).detach()) > count(run.state.weight(name)):
            raise AssertionError(f"clustered filters of {name} came apart")
    accuracy = {"validation": run.best[0]} if run.best and kept else {}
    clusters = run.state.clusters
    if not run.operation.tied:
        clusters = {name: labels for name, labels in clusters.items() if name in run.state.frozen}
    return replace(run.state, model=model, accuracy=accuracy, clusters=clusters)


def as_stopped(run: Run, epoch: int) -> Finetune:
    """The operation that gives the same weights again: with the steps that were done, over all epochs.

    Stopped while the last epoch was being measured, the run keeps an earlier epoch as its best; one step less says so.
    """
    earlier = run.operation.keep == "best" and 0 < run.measured < epoch
    unmeasured = earlier and run.step == epoch * run.steps
    return with_fields(run.operation, steps=run.step - unmeasured)


def stop_remark(run: Run, epoch: int, kept: int) -> str:
    """What a stop kept, in words."""
    where = f"stopped in epoch {epoch} of {run.operation.epochs}"
    return f"{where}: kept epoch {kept}, the best on validation" if kept else f"{where}: kept step {run.step}"
