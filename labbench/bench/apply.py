"""The one function that makes a new state from an operation. It checks before it acts and never changes the state it
was given; undo and redo are walks over states and belong to the timeline."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from labbench.bench import cutting, pruning, surgery
from labbench.bench.choice import checked_options, choose, choose_unfrozen, shortened
from labbench.bench.devices import one_thread
from labbench.bench.errors import BenchError, NothingLeft, Stopped, never
from labbench.bench.finetune import finetune
from labbench.bench.loading import Find, load
from labbench.bench.loss_gradients import Gradients, gradients
from labbench.bench.measure import measured, unique_filters
from labbench.bench.methods import needs_gradients
from labbench.bench.state import State, weight_of
from labbench.session.check import listed
from labbench.session.events import Metric, Progress, Sparsity
from labbench.session.operations import (
    AnyOperation,
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Load,
    Note,
    Prune,
    Redo,
    Undo,
    Unfreeze,
    Unprune,
)


def nobody(_: Progress | Metric | Sparsity) -> None:
    """The `report` of whoever does not listen."""


@dataclass(frozen=True)
class Tools:
    """What an operation needs beside the state."""

    data: Find
    """A data set by name and checked options, at least so many pixels high and wide."""
    report: Callable[[Progress | Metric | Sparsity], None] = nobody
    stopped: Callable[[], bool] = never
    gradients: Callable[..., Gradients] = gradients
    """As `loss_gradients.gradients`; a worker remembers the last ones, for a preview is asked for at every key."""


class Applied(NamedTuple):
    """What came of an operation."""

    state: State
    operation: AnyOperation
    """As it was done: doing it again gives the same."""
    remarks: tuple[str, ...] = ()


def apply(operation: AnyOperation, state: State | None, tools: Tools) -> Applied:
    """Do an operation. Raises `BenchError` where it cannot be done, `Stopped` where nothing of it is worth keeping."""
    if isinstance(operation, Load):
        return Applied(*load(operation, tools.data))
    if state is None:
        raise BenchError("no model is open: load one first")
    match operation:
        case Freeze():
            return freeze(operation, state)
        case Unfreeze():
            return unfreeze(operation, state)
        case Prune():
            return prune(operation, state, tools)
        case Unprune():
            return unprune(operation, state)
        case Cluster():
            with one_thread():
                return cluster(operation, state, tools)
        case Finetune():
            return Applied(*finetune(operation, state, tools.report, tools.stopped))
        case Evaluate():
            return Applied(measured(state, operation.split, tools.report, tools.stopped), operation)
        case Note():
            return Applied(state, operation)
        case Undo() | Redo():
            raise BenchError("undo and redo walk over the timeline; there is no state to apply them to")


def freeze(operation: Freeze, state: State) -> Applied:
    """The state with more names frozen. Norms can be named themselves, too, or by a glob that matches only norms."""
    chosen = choose(state, operation.layers, norms=True)
    names = {name for name in chosen.layers if name in chosen.prunable or name in chosen.literal} or set(chosen.layers)
    if operation.norms:
        names |= {layer.norm for layer in state.layers if layer.name in names and layer.norm}
    if names <= state.frozen:
        raise BenchError(f"already frozen: {shortened(sorted(names))}")
    return Applied(replace(state, frozen=state.frozen | names), operation)


def unfreeze(operation: Unfreeze, state: State) -> Applied:
    """The state with fewer names frozen."""
    chosen = choose(state, operation.layers, norms=True)
    names = set(chosen.layers)
    names |= {layer.norm for layer in state.layers if layer.name in names and layer.norm}
    if not names & state.frozen:
        raise BenchError(f"none of these is frozen: {shortened(chosen.layers)}")
    return Applied(replace(state, frozen=state.frozen - names), operation)


def prune(operation: Prune, state: State, tools: Tools) -> Applied:
    """The state with weights held at zero, or with filters cut out, as the method's granularity says."""
    method = pruning.method_of(operation)
    chosen = choose_unfrozen(state, operation.layers, "prune")
    found = None
    if needs_gradients(method):
        options = checked_options(method.score, operation.options, operation.method)
        found = tools.gradients(state, options["batches"], operation.seed, tools.report, tools.stopped)
    try:
        with one_thread():
            if method.GRANULARITY == "weight":
                made, remarks = pruning.zero(operation, state, chosen)
            else:
                made, remarks = cutting.cut(operation, state, chosen, found)
    except NothingLeft as error:
        if not operation.lenient:
            raise
        return Applied(replace(state), operation, (f"nothing changed: {error}",))
    return Applied(made, operation, remarks)


def unprune(operation: Unprune, state: State) -> Applied:
    """The state without the masks of these layers: their zeros are ordinary values now."""
    chosen = choose(state, operation.layers)
    masked = [name for name in chosen.layers if name in state.masks]
    if not masked:
        raise BenchError(f"no pruned weights in {listed(operation.layers)}: nothing there is held at zero")
    masks = {name: mask for name, mask in state.masks.items() if name not in masked}
    return Applied(replace(state, masks=masks, last={**state.last, **dict.fromkeys(masked, "unpruned")}), operation)


def cluster(operation: Cluster, state: State, tools: Tools) -> Applied:
    """The state with shared filters. Zeros that a whole cluster shares stay held in layers that were pruned."""
    chosen = choose_unfrozen(state, operation.layers, "cluster")
    outputs = [layer.name for layer in state.layers if layer.prunable][-1]
    remarks = list(chosen.remarks)
    model = state.copy_model()
    masks, clusters, last = dict(state.masks), dict(state.clusters), dict(state.last)
    done = 0
    for number, name in enumerate(chosen.layers):
        if tools.stopped():
            raise Stopped
        tools.report(Progress(phase="cluster", fraction=number / len(chosen.layers), note=name))
        if name == outputs and name not in chosen.literal:
            remarks.append(f"left out: the rows of {name} are the classes")
            continue
        weight = weight_of(model, name)
        filters, distinct = len(weight), unique_filters(weight.detach())
        k = operation.k or max(1, round(operation.fraction * filters))
        if k >= distinct:
            why = f"{name} has {distinct} distinct filters of {filters}; k must be below that, not {k}"
            if name in chosen.literal:
                raise BenchError(why)
            remarks.append(f"left as it is: {why}")
            continue
        shared, labels = surgery.share_filters(weight, k, operation.seed)
        with torch.no_grad():
            weight.copy_(shared)
        clusters[name], last[name] = labels, f"k {k} of {filters}"
        if name in masks:
            masks[name] = shared != 0
        done += 1
    if not done:
        raise BenchError(f"nothing to cluster in {listed(operation.layers)}: {'; '.join(remarks)}")
    made = replace(state, model=model, masks=masks, clusters=clusters, last=last, accuracy={})
    return Applied(made, operation, tuple(remarks))
