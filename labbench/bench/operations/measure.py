"""A close look at a model: what costs seconds and is asked for, where a snapshot is made after every operation."""

import zlib
from collections.abc import Callable

import torch
from torch import nn

from labbench.bench.errors import BenchError, Stopped, never
from labbench.bench.measuring.connected_weights import connected
from labbench.bench.measuring.gradient_free import idle
from labbench.bench.states.opened import Find, load
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.events import Progress
from labbench.session.measures import LayerMeasures, Measures
from labbench.session.operations import Measure

GZIP_LEVEL = 6  # what gzip does unless told otherwise
GZIP_WINDOW = 31  # zlib's number for the gzip format with its largest window, 32 kB
PIECE = 2**22  # bytes between two looks whether to stop
SHARES = {"paths": 0.1, "gradients": 0.5, "distinct": 0.6, "stored": 0.8}
"""Where the bar stands after each part."""


def apply(operation: Measure, state: State, tools: Tools) -> Applied:
    """The same state, and what a close look finds."""
    looked = look_closely(operation, state, tools.data, tools.report, tools.stopped)
    return Applied(state, operation, measures=looked)


def look_closely(
    operation: Measure, state: State, data: Find, report: Callable[[Progress], None], stopped: Callable[[], bool]
) -> Measures:
    """The figures of `Measure`. Opens the loaded model again to compare its bytes. Raises `Stopped`."""

    def bar(fraction: float) -> None:
        if stopped():
            raise Stopped
        report(Progress(phase="measure", fraction=fraction))

    reached = connected(state)
    bar(SHARES["paths"])
    span = SHARES["gradients"] - SHARES["paths"]
    untouched = idle(state, operation.batches, operation.seed, lambda done: bar(SHARES["paths"] + span * done), stopped)
    layers = []
    for name, mask in reached.items():
        weight = state.weight(name)
        layers.append(
            LayerMeasures(
                name=name,
                weights=weight.numel(),
                connected=int(mask.sum()),
                idle=int(untouched[name].sum()),
                distinct=len(weight.unique()),
            )
        )
        bar(SHARES["distinct"])
    now = stored(state.model, stopped)
    bar(SHARES["stored"])
    try:
        loaded = stored(load(state.load, data)[0].model, stopped)
    except BenchError:
        loaded = None
    bar(1.0)
    return Measures(layers=tuple(layers), stored=now, stored_loaded=loaded)


def stored(model: nn.Module, stopped: Callable[[], bool] = never) -> int:
    """Bytes of a model's parameters and buffers one after the other, compressed with gzip. Raises `Stopped`.

    Gzip finds repetitions within 32 kB: shared filters only where they lie closer than that.
    """
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    size = 0
    for tensor in model.state_dict().values():
        content = memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        for start in range(0, len(content), PIECE):
            if stopped():
                raise Stopped
            size += len(packer.compress(content[start : start + PIECE]))
    return size + len(packer.flush())
