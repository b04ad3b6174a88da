"""The weights below a percentile of all that are not zero go."""

from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

GRANULARITY = "weight"
OWN_TARGET = True


def below(
    weights: dict[str, Tensor],
    alive: dict[str, Tensor],
    *,
    q: Annotated[float, Meta(ge=0, le=100, description="in percent, of the |w| that are not zero now")] = 50.0,
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Percentile: every weight below a percentile of those that are not zero

    |w| < T, where T is the q-th percentile of |w| over the weights that are not zero in all chosen layers together
    (linear interpolation, as numpy's). It counts by what is there now: done again, it takes more (Han et al. 2015).
    """
    sizes = torch.cat([weight.abs()[alive[name] & (weight != 0)] for name, weight in weights.items()]).double()
    found = float(np.percentile(sizes.numpy(), q)) if len(sizes) else 0.0
    removed = {name: alive[name] & (weight.double().abs() < found) for name, weight in weights.items()}
    return removed, {"threshold of all": [f"{found:.4g}"]}
