"""One whole training step as a CUDA graph: the GPU is given it at once, not kernel by kernel. A graph belongs to one
run, and so to one structure, batch size, precision, set of masks and of frozen layers; their values may change."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

WARM_UPS = 3  # libraries choose and allocate in their first calls, which no graph may hold
FRESH = {"momentum_buffer": -0.0}
"""What SGD has none of before its first step: from -0 that step is the same to the last bit, -0 + ±0 is ±0."""

Result = TypeVar("Result")


class Pick(NamedTuple):
    """The images of one batch, and how each is moved: all that differs between two steps, beside the learning rate."""

    numbers: Tensor
    """Of the images in the training split: int64 B."""
    offsets: Tensor | None = None
    """Of the crops, rows and columns: int64 2×B; None where images are taken as they are."""
    mirrored: Tensor | None = None
    """Which ones are mirrored: bool B; None where none may be."""


class Captured(Generic[Result]):
    """A step that was recorded, to be done again with other images."""

    def __init__(self, step: Callable[[Pick], Result], example: Pick, device: torch.device) -> None:
        """`step` is called a few times: whatever it changes must be put back. Raises `RuntimeError` if it cannot be."""
        self._pick = Pick(*(None if tensor is None else tensor.clone() for tensor in example))  # type: ignore[arg-type]
        self._replay, self._result = record(lambda: step(self._pick), device)

    def __call__(self, pick: Pick) -> Result:
        """Do the step with these images. What it gives is overwritten by the next one."""
        for kept, new in zip(self._pick, pick, strict=True):
            if kept is not None and new is not None:
                kept.copy_(new)
        self._replay()
        return self._result


def record(work: Callable[[], Result], device: torch.device) -> tuple[Callable[[], object], Result]:
    """What does the work again, and where its result then lies. Only CUDA can; work is done a few times before."""
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()
    return graph.replay, result


@contextmanager
def put_back(model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> Iterator[None]:
    """Whatever steps are done meanwhile: weights, statistics, momentum and random numbers are as before in the end.

    All in place, so that a graph that was recorded meanwhile goes on with them. Momentum that was not there is zero.
    """
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    moments = {
        (parameter, key): value.clone()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }
    gpu = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=gpu):
            yield
    finally:
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                tensor.copy_(before[key])
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    if isinstance(value, Tensor):
                        earlier = moments.get((parameter, key))
                        value.fill_(FRESH.get(key, 0.0)) if earlier is None else value.copy_(earlier)
