"""A run whose loss is no longer finite: which of its settings is to blame is tried, not guessed."""

import math
import time
from collections.abc import Callable, Generator
from itertools import islice

from msgspec.structs import replace as with_fields

from labbench.bench.errors import BenchError, Stopped
from labbench.session.operations import Finetune

MOST_STEPS = 60  # of each trial: settings that are far off fail within a few
LONGER = 3  # a milder run must hold out so many times as long as the one that failed
PATIENCE = 3.0  # seconds for all trials
OVERFLOW = "without overflow"  # in torch's words for a number that float32 cannot hold

Losses = Callable[[Finetune], Generator[float, None, None]]
"""The loss and penalty before each step of a run that is thrown away, from the weights that the failed one had."""


class Diverged(BenchError):
    """The loss of a run is no longer finite. The message does not yet say which setting is to blame."""


def is_overflow(error: Exception) -> bool:
    """Whether a step failed because a setting is a number too large to compute with."""
    return isinstance(error, OverflowError) or (isinstance(error, RuntimeError) and OVERFLOW in str(error))


def advice(operation: Finetune, losses: Losses) -> str:
    """What to change, in words: the first setting with a milder value of which alone the same steps stay finite."""
    milder = _milder(operation)
    smaller_lr, _ = milder[-1]
    deadline = time.perf_counter() + PATIENCE
    failed = _finite_steps(operation, MOST_STEPS, losses, deadline)
    if failed is None:
        return f"try {smaller_lr}"
    steps = min(MOST_STEPS, LONGER * (failed + 1) + 2)
    for words, changes in milder:
        if _finite_steps(with_fields(operation, **changes), steps, losses, deadline) is None:
            return f"try {words}"
    together = {name: value for _, changes in milder for name, value in changes.items()}
    if len(milder) > 1 and _finite_steps(with_fields(operation, **together), steps, losses, deadline) is None:
        return f"try {' and '.join(words for words, _ in milder)}"
    if _finite_steps(with_fields(operation, **together), 1, losses, deadline) == 0:
        return "no setting is to blame: the model's own answers are not finite before any step"
    return f"try {smaller_lr}"


def _milder(operation: Finetune) -> list[tuple[str, dict[str, object]]]:
    """What may be to blame: a change in words, and the fields that take it out of the run. lr is last."""
    usual = Finetune()
    found: list[tuple[str, dict[str, object]]] = []
    if operation.regularizer and operation.strength:
        found.append((f"a smaller strength than {operation.strength:g}", {"regularizer": ""}))
    if operation.weight_decay:
        found.append((f"a smaller weight_decay than {operation.weight_decay:g}", {"weight_decay": 0.0}))
    if operation.distill and operation.temperature != usual.temperature:
        words = f"a temperature nearer to {usual.temperature:g} than {operation.temperature:g}"
        found.append((words, {"temperature": usual.temperature}))
    if operation.loss == "scaled-softmax" and operation.scale != usual.scale:
        found.append((f"a scale nearer to {usual.scale:g} than {operation.scale:g}", {"scale": usual.scale}))
    if operation.precision in ("bf16", "fp16"):
        found.append((f"precision fp32 instead of {operation.precision}", {"precision": "fp32"}))
    if operation.momentum > usual.momentum:
        words = f"a smaller momentum than {operation.momentum:g}"
        found.append((words, {"momentum": usual.momentum}))
    found.append((f"a smaller lr than {operation.lr:g}", {"lr": min(operation.lr / 1000, usual.lr)}))
    return found


def _finite_steps(operation: Finetune, steps: int, losses: Losses, deadline: float) -> int | None:
    """After how many steps the loss is no longer finite; None if it is finite all the time, or time is over."""
    made = losses(operation)
    try:
        for step, loss in enumerate(islice(made, steps)):
            if not math.isfinite(loss):
                return step
            if time.perf_counter() > deadline:
                return None
    except Stopped:
        return None
    except (RuntimeError, OverflowError) as error:
        if not is_overflow(error):
            raise
        return 0
    finally:
        made.close()
    return None
