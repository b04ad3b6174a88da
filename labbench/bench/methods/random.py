"""Any weights go, all with the same chance."""

import torch
from torch import Tensor

GRANULARITY = "weight"


def select(
    weights: dict[str, Tensor], alive: dict[str, Tensor], count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Random: any weights, as many as asked; the control of every study

    Uniform over the weights that are still there, from the seed (Blalock et al. 2020, section 6).
    """
    places = {name: alive[name].flatten().nonzero().flatten() for name in weights}
    total = sum(len(place) for place in places.values())
    gone = torch.zeros(total, dtype=torch.bool)
    gone[torch.randperm(total, generator=generator)[:count]] = True
    parts = gone.split([len(place) for place in places.values()])
    removed = {name: torch.zeros_like(alive[name]) for name in weights}
    for name, part in zip(weights, parts, strict=True):
        place = places[name]
        removed[name].view(-1)[place[part.to(place.device)]] = True
    return removed
