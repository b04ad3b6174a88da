"""The smallest absolute values of many tensors together, by partition: exact, and nothing large is sorted or copied.

The bits of a float without its sign, read as a whole number, are in the order of its absolute value. A sample tells
between which two the threshold lies, and only what lies between is looked at closely; in pieces that fit the cache.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bits: TypeAlias = NDArray[Any]
"""Whole numbers in the order of the absolute values; the largest of all where a weight is not alive."""

PIECE = 2**17  # values at a time: half a megabyte
SAMPLE = 2**17  # values
DOUBT = 5.0  # standard deviations of a rank in the sample; if the threshold lies farther off, all values are looked at


def smallest(weights: Mapping[str, Tensor], alive: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Where the `count` smallest |w| of those alive are, in the shape of the weights; of equal ones the first.

    Everything lies on the CPU; `count` is at least 1 and at most as many as are alive.
    """
    kind = functools.reduce(torch.promote_types, (weight.dtype for weight in weights.values()), torch.float32)
    values = [weight.detach().to(kind).flatten().numpy() for weight in weights.values()]
    flat = [mask.flatten().numpy() for mask in alive.values()]
    masks = [None if np.count_nonzero(mask) == len(mask) else mask for mask in flat]
    threshold, ties = _threshold(values, masks, count)
    gone = {name: torch.empty(mask.shape, dtype=torch.bool) for name, mask in alive.items()}
    found = [mask.view(-1).numpy() for mask in gone.values()]
    for (number, begin), bits in _pieces(values, masks):
        part = found[number][begin : begin + len(bits)]
        np.less(bits, threshold, out=part)
        if ties:
            equal = np.flatnonzero(bits == threshold)[:ties]
            part[equal] = True
            ties -= len(equal)
    return gone


def _threshold(values: list[Bits], masks: list[Bits | None], count: int) -> tuple[int, int]:
    """The bits of the weight of that rank, counted from 1, and how many that equal it are to be taken."""
    low, high = _guess(values, masks, count)
    below, near = _between(values, masks, low, high)
    if not below < count <= below + len(near):
        below, near = _between(values, masks, 0, np.iinfo(near.dtype).max)
    rank = count - below
    near.partition(rank - 1)
    threshold = near[rank - 1]
    return int(threshold), rank - int(np.count_nonzero(near < threshold))


def _guess(values: list[Bits], masks: list[Bits | None], count: int) -> tuple[int, int]:
    """Two weights in bits between which that of a rank lies, all but certainly."""
    step = -(-sum(len(part) for part in values) // SAMPLE)
    sample = np.concatenate([bits for _, bits in _pieces(values, masks, step)])
    sample.sort()
    alive = sum(
        len(part) if mask is None else int(np.count_nonzero(mask)) for part, mask in zip(values, masks, strict=True)
    )
    drawn = alive / step
    share = count / alive
    doubt = 0 if step == 1 else DOUBT * np.sqrt(drawn * share * (1 - share)) + len(values)
    last = len(sample) - 1
    low, high = (min(max(int(share * drawn + side * doubt) - 1, 0), last) for side in (-1, 1))
    return int(sample[low]), int(sample[high])


def _between(values: list[Bits], masks: list[Bits | None], low: int, high: int) -> tuple[int, Bits]:
    """How many lie below `low`, and those from there to `high`."""
    below, near = 0, []
    for _, bits in _pieces(values, masks):
        less = bits < low
        below += int(np.count_nonzero(less))
        near.append(bits[(bits <= high) & ~less])
    return below, np.concatenate(near)


def _pieces(values: list[Bits], masks: list[Bits | None], step: int = 1) -> Iterator[tuple[tuple[int, int], Bits]]:
    """Every `step`-th weight in bits, piece by piece, with its tensor's number and where the piece begins there."""
    for number, (part, mask) in enumerate(zip(values, masks, strict=True)):
        whole = np.dtype(f"i{part.itemsize}")
        sign = np.iinfo(whole).max
        for begin in range(0, len(part), PIECE * step):
            end = begin + PIECE * step
            bits = part.view(whole)[begin:end:step] & sign
            if mask is not None:
                bits |= (mask[begin:end:step].astype(whole) - 1) & sign
            yield (number, begin), bits
