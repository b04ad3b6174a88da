"""A recording of a recipe that did not come to its end: what is left to do of it."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from labbench.session.operations import PLAIN, AnyOperation, Finetune

RECORDED = (*PLAIN, "filters", "sha256", "code_sha256", "steps")
"""Fields that a recording fills in where they were left open."""


def rest_of(asked: Sequence[AnyOperation], done: Iterable[AnyOperation]) -> tuple[AnyOperation, ...]:
    """What is left of the operations that were asked for, when the first of them are done. A training that was stopped
    goes on first. Raises `ValueError`, for the user, where something else was done."""
    place, stopped = 0, False
    for number, operation in enumerate(done, 1):
        if not (stopped and isinstance(operation, Finetune) and operation.resume):
            if place == len(asked) or _as(asked[place], operation) != asked[place]:
                raise ValueError(f"its step {number} is {operation.describe()}")
            place += 1
        stopped = isinstance(operation, Finetune) and operation.steps > 0 and operation != asked[place - 1]
    return (*((Finetune(resume=True),) if stopped else ()), *asked[place:])


def _as(asked: AnyOperation, done: AnyOperation) -> AnyOperation:
    """What was done, with the fields that were left open as they were asked for."""
    if type(asked) is not type(done):
        return done
    left_open = {name: getattr(asked, name) for name in RECORDED if hasattr(asked, name)}
    return replace(done, **{name: value for name, value in left_open.items() if value in ("auto", "", 0, {})})
