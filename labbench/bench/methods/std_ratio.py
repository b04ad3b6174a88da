"""Weights that are small beside the spread of their layer go."""

from typing import Annotated

from msgspec import Meta
from torch import Tensor

GRANULARITY = "weight"
OWN_TARGET = True


def below(
    weights: dict[str, Tensor],
    alive: dict[str, Tensor],
    *,
    ratio: Annotated[float, Meta(ge=0, description="s: weights with |w| below s times their layer's std go")] = 0.25,
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Std ratio: every weight below s standard deviations of its layer

    |w| < s·std(W), the population standard deviation of each tensor as it is, zeros included (as in DeepHoyer,
    Yang et al., ICLR 2020). Counts for itself: there is no amount.
    """
    thresholds = {name: ratio * float(weight.double().std(correction=0)) for name, weight in weights.items()}
    removed = {name: alive[name] & (weight.double().abs() < thresholds[name]) for name, weight in weights.items()}
    return removed, {"thresholds": [f"{name} {value:.4g}" for name, value in thresholds.items()]}
