"""How a run computes, where nobody said it: precision, layout of the tensors, engine. A few steps of each are timed,
because no rule by name holds: the same network is faster in bf16 on one machine and slower on the next."""

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from msgspec.structs import replace as with_fields

from labbench.bench.shortage import give_back, is_shortage
from labbench.session.operations import PLAIN, Finetune

TIMED_STEPS = 3  # of each way, after one to warm up
WAYS = 5  # that are tried at most
MOST_TRIED = WAYS * (1 + TIMED_STEPS)
LEAST_STEPS = 50 * MOST_TRIED  # so that trying costs at most 2 % of a run
HOPELESS = 3.0  # a way whose first step takes so many times the best is not tried further
NEVER = float("inf")
MARGIN = 1.05  # a way must be so many times as fast as a plainer one

FAILED = (RuntimeError, TypeError, OverflowError, MemoryError)
"""What is raised where a layer has no such precision or layout, or where numbers or memory do not suffice."""

PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16")}
"""That are tried, by device; elsewhere fp32 alone. fp16 needs scaled gradients: only who asks for it gets it."""

Timed = Callable[[Finetune], Iterator[float]]
"""The seconds of one step after the other, on a copy of everything."""


def plain(operation: Finetune) -> Finetune:
    """The operation with what it leaves open done as every run was before there was a choice."""
    return with_fields(operation, **{name: PLAIN[name] for name in undecided(operation)})


def undecided(operation: Finetune) -> list[str]:
    """The fields that the operation leaves open."""
    return [name for name in PLAIN if getattr(operation, name) == "auto"]


def choose(operation: Finetune, steps: int, device: torch.device, timed: Timed) -> tuple[Finetune, tuple[str, ...]]:
    """The operation with nothing left open, and what was found, in words.

    Under `LEAST_STEPS` steps it is plain. Else precision and layout are tried together, and then, with the best of
    them, the plain engine against the fast one. Where no way works because memory does not suffice, that is raised.
    """
    if not undecided(operation) or steps < LEAST_STEPS:
        return plain(operation), ()
    open_to = {
        "precision": PRECISIONS.get(device.type, ("fp32",)),
        "layout": ("contiguous", "channels_last"),
        "engine": ("fast", "plain"),
    }
    precisions, layouts, engines = (
        values if getattr(operation, name) == "auto" else (getattr(operation, name),)
        for name, values in open_to.items()
    )
    found: dict[Finetune, float] = {}
    short: list[Exception] = []

    def attempt(**way: str) -> None:
        one = with_fields(operation, **way)
        least = min(found.values(), default=NEVER) if device.type == "cpu" else NEVER  # elsewhere a first step compiles
        seconds = timed(one)
        try:
            warm = next(seconds)
            found[one] = warm if warm > HOPELESS * least else min(islice(seconds, TIMED_STEPS))
        except FAILED as error:
            found[one] = NEVER
            if is_shortage(error):
                short.append(error)
                give_back(error)

    for precision in precisions:
        for layout in layouts:
            attempt(precision=precision, layout=layout, engine=engines[0])
    chosen = _best(found)
    for engine in engines[1:]:
        attempt(precision=chosen.precision, layout=chosen.layout, engine=engine)
        slower = found[chosen] * MARGIN > found[with_fields(chosen, engine=engine)]
        chosen = with_fields(chosen, engine=engine) if slower else chosen
    if found[chosen] == NEVER and short:
        raise short[0]
    return chosen, (_words(operation, chosen, found),)


def _best(found: dict[Finetune, float]) -> Finetune:
    """The fastest way; an earlier one, which is plainer, unless a later one is faster by the margin."""
    best, *others = found
    for way in others:
        if found[way] * MARGIN < found[best]:
            best = way
    return best


def _words(operation: Finetune, chosen: Finetune, found: dict[Finetune, float]) -> str:
    asked = undecided(operation)
    tried = []
    for way, seconds in found.items():
        figure = "not possible" if seconds == NEVER else f"{1000 * seconds:.3g} ms"
        tried.append(f"{' '.join(getattr(way, name) for name in asked)} {figure}")
    words = ", ".join(f"{name} {getattr(chosen, name)}" for name in asked)
    return f"{words}: the fastest of a few steps each ({'; '.join(tried)}); figures are measured in fp32"
