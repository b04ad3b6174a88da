"""The statistics of batch norms, measured anew over training images."""

from collections.abc import Callable
from dataclasses import replace

import torch

from labbench.bench.errors import BenchError, Stopped
from labbench.bench.states.state import BATCH_NORM, State
from labbench.bench.tools import Applied, Tools
from labbench.bench.training.run import norms_have_enough
from labbench.session.events import Progress
from labbench.session.operations import Recalibrate


def apply(operation: Recalibrate, state: State, tools: Tools) -> Applied:
    """The state with statistics that fit it."""
    return Applied(recalibrate(operation, state, tools.report, tools.stopped), operation)


def recalibrate(
    operation: Recalibrate, state: State, report: Callable[[Progress], None], stopped: Callable[[], bool]
) -> State:
    """The state with new running means and variances: the plain average over batches, without augmentation.

    What was removed or shared moved the activations, and the old statistics no longer fit them (Li et al., EagleEye,
    ECCV 2020, section 3). No parameter moves; frozen norms stand still. Raises `BenchError` where there is no batch
    norm to measure, `Stopped`.
    """
    model = state.copy_model().requires_grad_(False)
    modules = {name: module for name, module in model.named_modules() if isinstance(module, BATCH_NORM)}
    norms = {name: module for name, module in modules.items() if module.track_running_stats}
    if not norms:
        raise BenchError(f"{state.load.model} has no batch norm: there are no statistics to measure anew")
    free = {name: module for name, module in norms.items() if name not in state.frozen}
    if not free:
        raise BenchError("every batch norm is frozen and keeps its statistics; unfreeze some first")
    momenta = {module: module.momentum for module in free.values()}
    for module in momenta:
        module.reset_running_stats()
        module.momentum = None  # torch then averages over all batches
        module.train()
    images = state.data.on(state.device)["train"][0]
    size = min(operation.batch_size, len(images))
    generator = torch.Generator().manual_seed(operation.seed)
    passes = -(-operation.batches // (len(images) // size))
    orders = [torch.randperm(len(images), generator=generator)[: len(images) // size * size] for _ in range(passes)]
    order = torch.cat(orders).to(state.device)
    with torch.no_grad(), norms_have_enough(operation.batch_size):
        for batch in range(operation.batches):
            if stopped():
                raise Stopped
            report(Progress(phase="recalibrate", fraction=batch / operation.batches))
            model(state.data.normalized(images[order[batch * size : (batch + 1) * size]]))
    for module, momentum in momenta.items():
        module.momentum = momentum
    last = {**state.last, **dict.fromkeys(free, "recalibrated")}
    return replace(state, model=model.eval().requires_grad_(True), last=last, accuracy={})
