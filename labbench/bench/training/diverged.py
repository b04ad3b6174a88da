"""A run whose loss is no longer finite: which of its settings is to blame is tried, not guessed."""

import math
import time
from collections.abc import Callable, Generator
from itertools import islice
from typing import TypeAlias

from msgspec.structs import replace as with_fields

from labbench.bench.errors import BenchError, Stopped
from labbench.session.operations import Finetune

MOST_STEPS = 60  # of each trial: settings that are far off fail within a few
LONGER = 3  # a milder run must hold out so many times as long as the one that failed
PATIENCE = 5.0  # seconds for all trials
OVERFLOW = "without overflow"  # in torch's words for a number that float32 cannot hold

Losses: TypeAlias = Callable[[Finetune], Generator[float, None, None]]
"""The loss and penalty before each step of a run that is thrown away, from the weights that the failed one had."""

Milder: TypeAlias = tuple[str, dict[str, object]]
"""A change in words, and the fields that make it."""


class Diverged(BenchError):
    """The loss of a run is no longer finite. The message does not yet say which setting is to blame."""


def is_overflow(error: Exception) -> bool:
    """Whether a step failed because a setting is a number too large to compute with."""
    return isinstance(error, OverflowError) or (isinstance(error, RuntimeError) and OVERFLOW in str(error))


def advice(operation: Finetune, losses: Losses) -> str:
    """What to change, in words: the first setting with a milder value of which alone the same steps stay finite; the
    learning rate where that cannot be found out."""
    try:
        found = _blamed(operation, losses, time.perf_counter() + PATIENCE)
    except Stopped:
        found = None
    return found or f"try {_milder(operation)[-1][0]}"


def _blamed(operation: Finetune, losses: Losses, deadline: float) -> str | None:
    milder = _milder(operation)
    failed = _finite_steps(operation, MOST_STEPS, losses, deadline)
    if failed is None:
        return None
    steps = min(MOST_STEPS, LONGER * (failed + 1) + 2)

    def finite(changes: list[Milder], steps: int = steps) -> bool:
        taken = {name: value for _, fields in changes for name, value in fields.items()}
        return _finite_steps(with_fields(operation, **taken), steps, losses, deadline) is None

    for one in milder:
        if finite([one]):
            return f"try {one[0]}"
    if finite(milder):
        needed = [one for one in milder if not finite([other for other in milder if other is not one])]
        return f"try {' and '.join(words for words, _ in needed or milder)}"
    if not finite(milder, 1):
        return "no setting is to blame: the model's own answers are not finite before any step"
    return None


def _milder(operation: Finetune) -> list[Milder]:
    """What may be to blame: a change in words, and the fields that take it out of the run. lr is last."""
    usual = Finetune()
    found: list[Milder] = []
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
    """After how many steps the loss is no longer finite; None if it is so all the time. Raises `Stopped`, also
    where the time is over.
    """
    made = losses(operation)
    try:
        for step, loss in enumerate(islice(made, steps)):
            if not math.isfinite(loss):
                return step
            if time.perf_counter() > deadline:
                raise Stopped
    except (RuntimeError, OverflowError) as error:
        if not is_overflow(error):
            raise
        return 0
    finally:
        made.close()
    return None
