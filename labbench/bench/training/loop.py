"""Training of a state that may be frozen, masked, clustered and cut. Reads top to bottom: the run, data, one step, an
epoch, the end. Frozen layers do not move by one bit, pruned weights stay exactly zero, clusters stay equal."""

import copy
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from msgspec.structs import replace as with_fields
from torch import Tensor, nn

from labbench.bench.errors import BenchError, Stopped, never
from labbench.bench.measuring.accuracy import evaluate
from labbench.bench.measuring.snapshot import sparsity, unique_filters, values_at_places
from labbench.bench.states.rescue import Found, Known, Report, Rescue, Told
from labbench.bench.states.state import State, is_frozen, trainable, weight_of
from labbench.bench.training.cuda_graph import Captured, Pick, put_back
from labbench.bench.training.diverged import Diverged, advice, is_overflow
from labbench.bench.training.forwards import as_written
from labbench.bench.training.frozen_prefix import Parted, features_of
from labbench.bench.training.interrupted import compared, report_going_on
from labbench.bench.training.losses import data_loss
from labbench.bench.training.optimizers import set_lr
from labbench.bench.training.run import (
    LAYOUTS,
    UNFIT,
    Run,
    borders,
    device_of,
    norms_have_enough,
    pause,
    random_numbers,
    random_state,
    resumed,
    set_up,
    steps_of,
    take_up,
    train_mode,
)
from labbench.bench.training.schedules import lr_factor
from labbench.bench.training.trial import MOST_TRIED, choose, undecided
from labbench.session.events import Metric, Progress, Sparsity
from labbench.session.operations import Finetune
from labbench.session.snapshot import Accuracy

REPORT_INTERVAL = 0.12  # seconds between two looks at the loss: a look waits for the device
FEATURES_LIMIT = 2**30  # bytes that the features of a frozen beginning may take
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

NOWHERE = Rescue()
NOTHING = Found()


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
    told = Told(report)
    with norms_have_enough(operation.batch_size):
        run = begun(operation, state, told, stopped, rescue.begin())
        try:
            return run_to_its_end(run, told, stopped, rescue)
        except Diverged as error:
            said = str(error)
        except (RuntimeError, OverflowError) as error:
            if not is_overflow(error):
                raise
            said = f"a number became too large to compute with at step {run.step + 1}"
        way = advice(run.operation, lambda way: (loss for _, loss in tried_steps(way, state, stopped)))
        raise BenchError(f"{said}: the run is stopped and the model is as before; {way}")


def run_to_its_end(
    run: Run, report: Told, stopped: Callable[[], bool], rescue: Rescue
) -> tuple[State, Finetune, tuple[str, ...]]:
    """What `finetune` gives, of a run that was begun. Raises `Diverged`, and `Stopped`."""
    operation, state = run.operation, run.state
    epoch, broken = run.measured, False
    try:
        with random_numbers(run):
            with interruptible(run, stopped):
                keep_features(run)
            with interruptible(run, stopped):
                for epoch in range(run.measured + 1, operation.epochs + 1):
                    train_epoch(run, epoch, report, stopped)
                    trained = time.perf_counter()
                    validation = measure_epoch(run, epoch, stopped)
                    known = Known(operation, epoch, validation.top1, validation.loss or 0.0)  # finite, or it had failed
                    run.remarks += compared(run, known)
                    rescue.note(known)  # before anybody hears of it
                    report_epoch(run, validation, report)
                    run.began += time.perf_counter() - trained  # the rate counts training alone
                    if operation.steps and run.step >= operation.steps:
                        raise Stopped
                    rescue.keep(lambda: replace(pause(run, operation), told=tuple(report.events)))
                    run.note = rescue.trouble
    except Stopped:
        if run.step == run.first_step and not (operation.resume and run.step == operation.steps):
            raise  # nothing was learned
        broken = True
    done = as_stopped(run, epoch) if broken else operation
    paused = pause(run, done) if broken else None
    if paused and run.step != operation.steps:
        rescue.keep(lambda: replace(paused, operation=operation, told=tuple(report.events)), last=True)
    weights, kept = chosen(run, broken)
    run.model.load_state_dict(weights)
    finished = replace(finish(run, kept), paused=paused)
    if broken:
        return finished, done, (*run.remarks, stop_remark(run, epoch, kept))
    try:
        test = evaluate(finished.model, state.data, finished.device, "test", lambda _: None, stopped)
        finished = replace(finished, accuracy={**finished.accuracy, "test": test})
    except Stopped:
        return finished, operation, (*run.remarks, "stopped while it measured the test split: e measures it")
    remark = f"kept epoch {kept} of {operation.epochs}: best on validation"
    return finished, operation, (*run.remarks, remark) if operation.keep == "best" else tuple(run.remarks)


def begun(
    operation: Finetune,
    state: State,
    report: Report,
    stopped: Callable[[], bool],
    found: Found = NOTHING,
) -> Run:
    """The run at its first step, computing as it was asked to or as a few steps of each way show; or where it stopped;
    or where the same run was interrupted before.

    What cannot be used of `found` is left alone. Raises `Stopped`.
    """
    remarks: tuple[str, ...] = ()
    told: tuple[Metric | Sparsity, ...] = ()
    if operation.resume:
        run = resumed(operation, state)
    else:
        done = [before.operation for before in found if before and is_same(operation, before.operation)]
        if done:
            chosen = done[0]
        else:
            chosen, remarks = chosen_way(operation, state, report, stopped)
        run = set_up(chosen, state)
    run.remarks += remarks
    if found.paused and found.paused.operation == run.operation:
        try:
            take_up(run, found.paused)
            told = found.paused.told
        except UNFIT:
            return begun(operation, state, report, stopped, Found(known=found.known))
    if found.known and found.known.operation == run.operation and found.known.epoch > run.measured:
        run.known = found.known
    run.remarks += report_going_on(run, report)
    for event in told:
        report(event)
    return run


def is_same(asked: Finetune, done: Finetune) -> bool:
    """Whether a run is what was asked for, however it computes where that was left open."""
    return with_fields(done, **{name: getattr(asked, name) for name in undecided(asked)}) == asked


def chosen_way(
    operation: Finetune, state: State, report: Report, stopped: Callable[[], bool]
) -> tuple[Finetune, tuple[str, ...]]:
    """The operation with nothing left open how it computes, and why, in words. Raises `Stopped`."""
    device = device_of(operation, state)
    steps = operation.steps or steps_of(operation, state, device) * operation.epochs
    tried = itertools.count(1)

    def timed(way: Finetune) -> Iterator[float]:
        for seconds, _ in tried_steps(way, state, stopped):
            report(Progress(phase="try", fraction=next(tried) / MOST_TRIED))
            yield seconds

    return choose(operation, steps, device, timed)


def tried_steps(
    operation: Finetune, state: State, stopped: Callable[[], bool]
) -> Generator[tuple[float, float], None, None]:
    """The seconds of one step after the other of a run that is thrown away, and its loss with the penalty, before it.

    Raises `Stopped`.
    """
    run = set_up(operation, state)
    images = len(state.data.on(run.device)["train"][0])
    pick = Pick(torch.arange(min(operation.batch_size, images), device=run.device))
    try:
        while True:
            began = time.perf_counter()
            with interruptible(run, stopped), random_numbers(run):
                if stopped():
                    raise Stopped
                loss, _, penalty = train_step(run, pick).tolist()
            yield time.perf_counter() - began, loss + penalty
    finally:
        as_written(run.model)  # a layer that computes in another way knows its model, which would stay in memory


def batches(run: Run) -> Iterator[Pick]:
    """The shuffled batches of one epoch: which images, and how they are cropped and flipped where that is asked for."""
    data = run.state.data
    images = len(data.on(run.device)["train"][0])
    size = min(run.operation.batch_size, images)
    order = torch.randperm(images, generator=run.generator).to(run.device)
    moves = [torch.randint(0, 2 * border + 1, (images,), generator=run.generator) for border in borders(data)]
    offsets = torch.stack(moves).to(run.device)
    mirrored = (torch.rand(images, generator=run.generator) < 0.5).to(run.device) if data.flip else None
    done = run.step - run.measured * run.steps  # before the run was stopped
    for start in range(done * size, run.steps * size, size):
        batch = slice(start, start + size)
        if run.operation.augment:
            yield Pick(order[batch], offsets[:, batch], None if mirrored is None else mirrored[batch])
        else:
            yield Pick(order[batch])


def gathered(run: Run, pick: Pick) -> tuple[Tensor, Tensor]:
    """The images of a batch as the network takes them, or their features where those are kept; and their labels."""
    x, y = run.state.data.on(run.device)["train"]
    if run.features is not None:
        return run.features[pick.numbers], y[pick.numbers]
    if pick.offsets is None:
        return shown(run, x[pick.numbers]), y[pick.numbers]
    return shown(run, run.crops.take(pick.numbers, pick.offsets, pick.mirrored)), y[pick.numbers]


def keep_features(run: Run) -> None:
    """Take what a frozen beginning gives for every image once, where no image moves and `FEATURES_LIMIT` allows."""
    network, operation = run.network, run.operation
    if not isinstance(network, Parted) or operation.augment or operation.epochs == 1 or run.teacher:
        return
    images = run.state.data.on(run.device)["train"][0]
    with computing(run):
        run.features = features_of(network.prefix, images, partial(shown, run), FEATURES_LIMIT)
    if run.features is not None:
        run.network = network.rest


def shown(run: Run, images: Tensor) -> Tensor:
    """Images as the model takes them."""
    return run.state.data.normalized(images.contiguous(memory_format=LAYOUTS[run.operation.layout]))


def train_step(run: Run, pick: Pick) -> Tensor:
    """One step of the optimizer; zeros and clusters hold after it. Returns loss, accuracy, penalty, on the device."""
    operation = run.operation
    set_lr(run.optimizer, operation.lr * lr_factor(operation, run.steps, run.step, run.plateau.factor))
    if run.captured is None and run.may_capture:
        capture(run, pick)
    figures = run.captured(pick) if run.captured else computed_step(run, pick)
    run.step += 1
    run.random = random_state(run.device)
    return figures


def computed_step(run: Run, pick: Pick) -> Tensor:
    """What the device does in a step: from the images to the new weights, without a look at any value."""
    x, y = gathered(run, pick)
    with computing(run):
        logits = at_least_fp32(run.network(x))
        with torch.no_grad():
            teacher = at_least_fp32(run.teacher(x)) if run.teacher else None
    loss = data_loss(run.operation, logits, y, teacher)
    penalty = run.penalty() if run.penalty else torch.zeros_like(loss)
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(loss + penalty).backward()
    with torch.no_grad():
        run.scaler.unscale_(run.optimizer)
        for tie in run.tied:
            tie.share_gradient()
        if run.operation.clip:
            clip_gradients(run)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        for tie in run.tied:
            tie.hold()
        if run.masked:
            torch._foreach_mul_(run.masked, run.masks)
        return torch.stack([loss.detach(), (logits.argmax(1) == y).float().mean(), penalty.detach()])


def capture(run: Run, pick: Pick) -> None:
    """Record the step as a graph, and leave the run as it was; where that cannot be, say so and go on without."""
    run.may_capture = False  # neither again nor within itself
    run.capturing = True
    try:
        with put_back(run.model, run.optimizer, run.device):
            run.captured = Captured(partial(computed_step, run), pick, run.device)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        run.remarks.append(f"the step cannot be captured as a CUDA graph, it is done kernel by kernel: {reason}")
    finally:
        run.capturing = False


def computing(run: Run) -> torch.autocast:
    """While it lasts, a pass through the network is computed in the precision of the run."""
    precision = run.operation.precision
    cached = run.device.type != "cuda"  # a weight that was cast once would stay as it was in a graph
    enabled = precision != "fp32"
    return torch.autocast(run.device.type, PRECISIONS[precision], enabled=enabled, cache_enabled=cached)


def at_least_fp32(logits: Tensor) -> Tensor:
    """Losses are taken in fp32, whatever the step computes in."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def clip_gradients(run: Run) -> None:
    """Shorten all gradients together to the norm `clip`. Those of pruned weights do not count."""
    gradients = [weight.grad for weight in run.masked if weight.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, run.masks)
    nn.utils.clip_grad_norm_(run.trained, run.operation.clip)


def train_epoch(run: Run, epoch: int, report: Report, stopped: Callable[[], bool]) -> None:
    """One pass over the training split. Raises `Stopped`, or `BenchError` when the loss is no longer finite."""
    train_mode(run.model, run.state)
    recent = torch.zeros_like(run.totals)
    recent_steps = 0
    for pick in batches(run):
        if stopped() or (run.operation.steps and run.step >= run.operation.steps):
            raise Stopped
        figures = train_step(run, pick)
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
            again=run.again(epoch),
            step=run.step,
            steps=total,
            loss=loss,
            rate=done * min(run.operation.batch_size, len(run.state.data.on(run.device)["train"][0])) / spent,
            eta=spent / done * (total - run.step),
            note=run.note,
        )
    )
    report(Metric(name="step/loss", x=on_axis(run, run.step / run.steps), y=loss))


def on_axis(run: Run, epoch: float) -> float:
    """An epoch of the run as a place on the axis of this operation, which begins where a stopped run had ended."""
    return epoch - run.first_step / run.steps


def check_finite(run: Run, epoch: int, loss: float) -> None:
    """Raise `Diverged` if the loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise Diverged(f"the loss became {loss} in epoch {epoch}, at about step {run.step}")


def measure_epoch(run: Run, epoch: int, stopped: Callable[[], bool]) -> Accuracy:
    """Validation figures after an epoch, and whether it is the best one. Raises `Stopped`."""
    validation = evaluate(run.model, run.state.data, run.device, "validation", lambda _: None, stopped)
    if validation.loss is None:
        check_finite(run, epoch, math.nan)
    run.measured = epoch
    run.totals.zero_()
    run.drawn = run.generator.get_state()
    run.plateau.see(run.operation, validation)
    if run.operation.keep == "last" or run.best is None or validation.top1 >= run.best[0].top1:  # of equals the later
        run.best = validation, copy.deepcopy(run.model.state_dict()), epoch
    return validation


def report_epoch(run: Run, validation: Accuracy, report: Report) -> None:
    """Say what the epoch that was measured last came to."""
    layers = sparsity(run.state, run.model, run.measured)
    report(layers)
    loaded = sum(layer.weights for layer in run.state.layers if layer.prunable)
    for name, value in (
        ("validation/loss", validation.loss),
        ("validation/accuracy", validation.top1),
        ("sparsity", 1 - sum(layers.nonzero.values()) / loaded),
    ):
        report(Metric(name=name, x=on_axis(run, run.measured), y=value))


@contextmanager
def interruptible(run: Run, stopped: Callable[[], bool]) -> Iterator[None]:
    """While it lasts, a stop ends even a long step, at the next layer; the step then has not happened.

    A forward pass moves buffers, such as the statistics of batch norm, so a broken step puts them back.
    """
    buffers = list(run.model.buffers())
    before = [buffer.clone() for buffer in buffers]

    def remember(*_: object) -> None:
        if run.model.training and buffers and not run.capturing:
            torch._foreach_copy_(before, buffers)

    def look(*_: object) -> None:
        if run.model.training and not run.capturing and stopped():
            if buffers:
                torch._foreach_copy_(buffers, before)
            raise Stopped

    modules = dict.fromkeys(m for m in (*run.model.modules(), *run.network.modules()) if not any(m.children()))
    hooks = [run.network.register_forward_pre_hook(remember)]
    hooks += [module.register_forward_pre_hook(look) for module in modules]
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
    model = trainable(run.model.to(run.state.device).to(memory_format=torch.contiguous_format).eval())
    as_written(model)
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
