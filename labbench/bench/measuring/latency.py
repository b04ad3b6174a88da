"""How long the forward pass takes, against the model as it was opened. Zeros take as long as other weights."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from labbench.bench.errors import Stopped
from labbench.bench.states.state import State
from labbench.session.events import Progress
from labbench.session.measures import Timing
from labbench.session.operations import Time

WARM_UP = 3  # runs of each that do not count


def timed(
    operation: Time, state: State, loaded: nn.Module, report: Callable[[Progress], None], stopped: Callable[[], bool]
) -> tuple[Timing, ...]:
    """For each batch size the medians over `rounds` runs of each model, taken in turn. Raises `Stopped`.

    `loaded` is the model as it was opened, on the state's device; its weights do not matter.
    """
    models = loaded.eval(), state.copy_model()
    found = []
    with torch.inference_mode():
        for number, batch in enumerate(operation.batches):
            images = torch.zeros(batch, *state.data.shape, device=state.device)
            spent: tuple[list[float], list[float]] = [], []
            for turn in range(WARM_UP + operation.rounds):
                if stopped():
                    raise Stopped
                order = (0, 1) if turn % 2 else (1, 0)  # whoever runs second finds a warmer cache
                for which in order:
                    took = _once(models[which], images)
                    if turn >= WARM_UP:
                        spent[which].append(took)
                done = (number + turn / (WARM_UP + operation.rounds)) / len(operation.batches)
                report(Progress(phase="time", fraction=done, note=f"batch of {batch}"))
            found.append(_timing(batch, *spent))
    return tuple(found)


def _once(model: nn.Module, images: torch.Tensor) -> float:
    """Milliseconds of one forward pass."""
    cuda = images.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(images.device)
    began = time.perf_counter()
    model(images)
    if cuda:
        torch.cuda.synchronize(images.device)
    return 1000 * (time.perf_counter() - began)


def _timing(batch: int, loaded: list[float], now: list[float]) -> Timing:
    (low, middle, high), (low_now, middle_now, high_now) = (statistics.quantiles(found, n=4) for found in (loaded, now))
    return Timing(
        batch=batch,
        loaded=round(middle, 4),
        loaded_quartiles=(round(low, 4), round(high, 4)),
        now=round(middle_now, 4),
        now_quartiles=(round(low_now, 4), round(high_now, 4)),
    )


def timing_remarks(state: State, timings: tuple[Timing, ...]) -> tuple[str, ...]:
    """The figures in words, and what zeros have to do with them."""
    said = [
        f"{'one image' if one.batch == 1 else f'{one.batch} images'}: {one.loaded:.3g} ms as opened, {one.now:.3g} ms "
        f"now, ×{one.faster:.2f}"
        for one in timings
    ]
    weights = [state.weight(layer.name) for layer in state.layers if layer.prunable]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    if zeros and (share := zeros / sum(weight.numel() for weight in weights)) >= 0.01:
        said.append(
            f"{100 * share:.0f} % of the weights that are multiplied are zero, which saves no time: cut filters do"
        )
    return tuple(said)
