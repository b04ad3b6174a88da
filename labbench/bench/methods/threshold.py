"""Small weights go, however many they are."""

from typing import Annotated

from msgspec import Meta
from torch import Tensor

GRANULARITY = "weight"
OWN_TARGET = True


def below(
    weights: dict[str, Tensor],
    alive: dict[str, Tensor],
    *,
    threshold: Annotated[float, Meta(ge=0, description="weights with |w| below this go")] = 0.01,
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Threshold: every weight below an absolute value, however many

    |w| < T, the same T in every layer (Han et al. 2015). Counts for itself: there is no amount.
    """
    return {name: alive[name] & (weight.abs() < threshold) for name, weight in weights.items()}, {}
