"""Knobs that several methods share."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

Reduction: TypeAlias = Annotated[
    Literal["mean", "sum", "max", "prod", "first"], Meta(description="how the coupled layers are put together")
]
Normalizer: TypeAlias = Annotated[
    Literal["mean", "sum", "max", "gaussian", "standarization", "none"],
    Meta(description="what makes the scores of different groups comparable"),
]
Batches: TypeAlias = Annotated[
    int, Meta(ge=1, le=10_000, description="batches of 64 training images whose gradients are looked at")
]


def name_of(normalizer: str) -> str | None:
    """As Torch-Pruning calls it."""
    return None if normalizer == "none" else normalizer
