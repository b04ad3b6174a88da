"""Whether a copy of a model is a model of its own. The bench works on copies; one that still computes with the
original's weights, or in another way than the original, would give wrong figures without a word."""

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from labbench.bench.errors import BenchError

SEED = 3
TOLERANCE = 1e-4  # of the largest answer: a GPU sums in any order
ADVICE = (
    "a hook, a closure or a global still knows the original (write it so that it goes by the module that it is given, "
    "or compute in forward)"
)


def copied(name: str, model: nn.Module) -> nn.Module:
    """A copy. Raises `BenchError` where there can be none, or where it would lose something."""
    hooked = [key for key, p in model.named_parameters() if p._backward_hooks or p._post_accumulate_grad_hooks]
    if hooked:
        raise BenchError(f"{name} hooks into the gradient of {hooked[0]}, and a copy loses such hooks: leave them out")
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever a foreign attribute raises
        raise BenchError(f"{name} cannot be copied, and the bench works on copies: {_reason(error)}") from error


def check_copies(name: str, model: nn.Module, images: Tensor, *, training: bool) -> None:
    """Raise `BenchError` unless a copy of a copy answers as the model does with the same weights, and only by its own.

    `images` are N×C×H×W with N of 4 or more. The model is left as it was, in eval mode.
    """
    twin = copied(name, copied(name, model))
    old = {key: value.clone() for key, value in _tensors(model).items()}
    new = {key: _moved(value, number) for number, (key, value) in enumerate(old.items())}
    others = images.flip(0)[:2]
    try:
        _answer(model, images[:2], training, old)  # what it keeps of these must not come back in the answers below
        before = _answer(model, others, training, old)
        if not _alike(_answer(model, others, training, old), before):
            return  # random beyond the seeds, or it counts its calls: no two answers can be compared
        after = _answer(model, others, training, new)
        _set(model, old)
        changed = _answer(twin, others, training, new)
        kept = _answer(model, others, training, old)
        _set(model, new)
        alone = _answer(twin, others, training, old)
    finally:
        _set(model, old)
        model.eval()
    when = "in training" if training else "in eval mode"
    if not (_alike(changed, after) and _alike(alone, before)):
        raise BenchError(f"a copy of {name} does not answer as the original does, {when}: {ADVICE}")
    if not _alike(kept, before):
        raise BenchError(f"{name} answers otherwise, {when}, when a copy of it is changed: {ADVICE}")


def is_random(model: nn.Module, images: Tensor) -> bool:
    """Whether a model in eval mode gives the same images other answers, depending on the random numbers."""
    with torch.no_grad(), seeded(images.device, SEED):
        one = model(images)
        return not _alike(model(images), one)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers of torch, numpy and Python from a seed; afterwards everybody's are as they were."""
    state, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numbers)


def _answer(model: nn.Module, images: Tensor, training: bool, values: Mapping[str, Tensor]) -> Tensor:
    """What a model gives in this mode with these values; no graph is kept, so that it can be copied afterwards."""
    _set(model, values)
    model.train(training)
    with torch.no_grad(), seeded(images.device, SEED):
        answer: Tensor = model(images.clone())
    return answer.detach().clone()


def _set(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, tensor in _tensors(model).items():
            tensor.copy_(values[key])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, but for those whose entries share a place in memory: nothing can be written there."""
    every = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        key: tensor.detach()
        for key, tensor in every.items()
        if all(stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1)
    }


def _moved(value: Tensor, number: int) -> Tensor:
    """Other values of the same kind: none is negative that was not, for it may be a variance."""
    if not (value.is_floating_point() or value.is_complex()):
        return value
    generator = torch.Generator().manual_seed(SEED + number)
    noise = torch.rand(value.shape, generator=generator).to(value.device)
    return (value * (1 + noise / 2) + noise / 20).to(value.dtype)


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    size = float(other.nan_to_num(0.0, 0.0, 0.0).abs().max())
    return torch.allclose(one, other, rtol=0.0, atol=TOLERANCE * size, equal_nan=True)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
