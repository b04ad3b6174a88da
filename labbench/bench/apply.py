"""The one function that makes a new state from an operation. It checks before it acts and never changes the state it
was given; undo and redo are walks over states and belong to the timeline."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch

from labbench.bench import cutting, pruning
from labbench.bench.choice import checked_options, choose, choose_unfrozen, shortened
from labbench.bench.closely import look_closely
from labbench.bench.clustering import cluster
from labbench.bench.errors import BenchError, NothingLeft, listening, never
from labbench.bench.finetune import finetune
from labbench.bench.loading import Find, fresh, load
from labbench.bench.loss_gradients import Gradients, gradients
from labbench.bench.measure import measured
from labbench.bench.methods import needs_gradients
from labbench.bench.own import OwnModels
from labbench.bench.recalibrate import recalibrate
from labbench.bench.rescue import Rescue
from labbench.bench.scan import scan, scan_remarks
from labbench.bench.state import State, weight_of
from labbench.bench.threads import one_thread
from labbench.bench.timing import timed, timing_remarks
from labbench.session.check import listed
from labbench.session.events import Metric, Probed, Progress, Sparsity
from labbench.session.goals import goals_of
from labbench.session.measures import Measures, Scanned, Timing
from labbench.session.operations import (
    AnyOperation,
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Load,
    Measure,
    Name,
    Note,
    Prune,
    Recalibrate,
    Scan,
    Standing,
    Task,
    Time,
    Unfreeze,
    Unprune,
    percent,
)

ROUNDING = 1e-9  # a share that is met exactly is met, whatever floats say


def nobody(_: Progress | Metric | Sparsity | Probed) -> None:
    """The `report` of whoever does not listen."""


@dataclass(frozen=True)
class Tools:
    """What an operation needs beside the state."""

    data: Find
    """A data set by name and checked options, at least so many pixels high and wide."""
    report: Callable[[Progress | Metric | Sparsity | Probed], None] = nobody
    stopped: Callable[[], bool] = never
    own: OwnModels = field(default_factory=OwnModels)
    """Code of the user's own that may be run; none unless somebody asked for it."""
    gradients: Callable[..., Gradients] = gradients
    """As `loss_gradients.gradients`; a worker remembers the last ones, for a preview is asked for at every key."""
    rescue: Rescue = field(default_factory=Rescue)
    """Where a finetuning leaves what it takes to go on, should it be interrupted; nowhere, unless somebody says so."""


class Applied(NamedTuple):
    """What came of an operation."""

    state: State
    operation: AnyOperation
    """As it was done: doing it again gives the same."""
    remarks: tuple[str, ...] = ()
    measures: Measures | None = None
    """What a look found that changes nothing; so are the next two."""
    scanned: Scanned | None = None
    timings: tuple[Timing, ...] = ()


def apply(operation: AnyOperation, state: State | None, tools: Tools) -> Applied:
    """Do an operation. Raises `BenchError` where it cannot be done, `Stopped` where nothing of it is worth keeping."""
    if isinstance(operation, Load):
        return Applied(*load(operation, tools.data, tools.own))
    if state is None:
        raise BenchError("no model is open: load one first")
    with listening(tools.stopped):
        applied = _apply(operation, state, tools)
    made = applied.state
    if isinstance(operation, Prune | Cluster):
        made = replace(made, dense=state.dense or state)
    if not isinstance(operation, Finetune | Standing):
        made = replace(made, paused=None)
    return applied._replace(state=made)


def _apply(operation: AnyOperation, state: State, tools: Tools) -> Applied:
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
                made, remarks = cluster(operation, state, tools.report, tools.stopped)
                return Applied(made, operation, remarks)
        case Finetune():
            return Applied(*finetune(operation, state, tools.report, tools.stopped, tools.rescue))
        case Recalibrate():
            return Applied(recalibrate(operation, state, tools.report, tools.stopped), operation)
        case Evaluate():
            return Applied(measured(state, operation.split, tools.report, tools.stopped), operation)
        case Measure():
            looked = look_closely(operation, state, tools.data, tools.report, tools.stopped)
            return Applied(state, operation, measures=looked)
        case Scan():
            found = scan(operation, state, partial(_attempt, tools=tools), tools.report, tools.stopped)
            return Applied(state, operation, scan_remarks(found), scanned=found)
        case Time():
            loaded = fresh(state.load, tools.data, tools.own).model
            timings = timed(operation, state, loaded, tools.report, tools.stopped)
            return Applied(state, operation, timing_remarks(state, timings), timings=timings)
        case Task():
            try:
                goals_of(operation)
            except ValueError as error:
                raise BenchError(str(error)) from None
            return Applied(state, operation)
        case Name() | Note():
            return Applied(state, operation)
        case _:
            raise BenchError(f"{operation.describe()} walks over the timeline; there is no state to apply it to")


def _attempt(operation: Prune | Cluster, state: State, tools: Tools) -> State:
    """What one step of a scan makes of a state, told to nobody."""
    return _apply(operation, state, replace(tools, report=nobody)).state


def freeze(operation: Freeze, state: State) -> Applied:
    """The state with more names frozen. Norms can be named themselves, too, or by a glob that matches only norms."""
    chosen = choose(state, operation.layers, norms=True)
    remarks: tuple[str, ...] = ()
    if operation.types != "all" or operation.first < 1:
        names = set(first_of(operation, state, chosen.layers))
        remarks = (f"that is {shortened([name for name in chosen.layers if name in names])}",)
    else:
        named = {name for name in chosen.layers if name in chosen.prunable or name in chosen.literal}
        names = named or set(chosen.layers)
    if operation.norms:
        names |= {layer.norm for layer in state.layers if layer.name in names and layer.norm}
    if names <= state.frozen:
        raise BenchError(f"already frozen: {shortened(sorted(names))}")
    return Applied(replace(state, frozen=state.frozen | names), operation, remarks)


def first_of(operation: Freeze, state: State, names: tuple[str, ...]) -> tuple[str, ...]:
    """Of these, the conv and linear layers that `types`, `first` and `of` leave, in forward order.

    The first x of L layers are round(x·L). The first x of the weights are the most layers from the first on that
    together hold no more than that share: never more is frozen than was asked. Raises `BenchError` where that is none.
    """
    wanted = ("conv", "linear") if operation.types == "all" else (operation.types,)
    layers = [layer for layer in state.layers if layer.name in names and layer.kind in wanted]
    if not layers:
        raise BenchError(f"no {' or '.join(wanted)} layer is named by {listed(operation.layers)}")
    if operation.of == "layers":
        count, least = round(operation.first * len(layers)), 0.5 / len(layers)
    else:
        whole = sum(layer.weights for layer in layers)
        shares = [total / whole for total in itertools.accumulate(layer.weights for layer in layers)]
        count, least = sum(share <= operation.first + ROUNDING for share in shares), shares[0]
    if not count:
        raise BenchError(
            f"the first {percent(operation.first)} of {len(layers)} layers' {operation.of} is no layer at all; "
            f"{layers[0].name} alone needs {percent(math.ceil(1000 * least + 1) / 1000)}"
        )
    return tuple(layer.name for layer in layers[:count])


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
    if operation.filters and method.GRANULARITY == "weight":
        raise BenchError(f"filters names whole filters: {operation.method} takes single weights, so leave it out")
    if needs_gradients(method) and not operation.filters:
        options = checked_options(method.score, operation.options, operation.method)
        found = tools.gradients(state, options["batches"], operation.seed, tools.report, tools.stopped)
    try:
        with one_thread():
            if method.GRANULARITY == "weight":
                made, remarks = pruning.zero(operation, state, chosen)
            else:
                made, operation, remarks = cutting.cut(operation, state, chosen, found, tools.report, tools.stopped)
    except NothingLeft as error:
        if not operation.lenient:
            raise
        return Applied(replace(state), operation, (f"nothing changed: {error}",))
    return Applied(made, operation, remarks)


def unprune(operation: Unprune, state: State) -> Applied:
    """The state without the masks of these layers: their zeros are ordinary values, or what they last were."""
    chosen = choose(state, operation.layers)
    masked = [name for name in chosen.layers if name in state.masks]
    if not masked:
        raise BenchError(f"no pruned weights in {listed(operation.layers)}: nothing there is held at zero")
    masks = {name: mask for name, mask in state.masks.items() if name not in masked}
    values = {name: value for name, value in state.values.items() if name not in masked}
    made = replace(state, masks=masks, values=values, last={**state.last, **dict.fromkeys(masked, "unpruned")})
    if operation.begin == "zero":
        return Applied(made, operation)
    lost = [name for name in masked if name not in state.values]
    if lost:
        raise BenchError(f"the last values of {shortened(lost)} are not known: the mask came with the weights")
    frozen = [name for name in masked if name in state.frozen]
    if frozen:
        raise BenchError(f"cannot change the weights of {shortened(frozen)}: frozen; unfreeze first, or leave it out")
    model = state.copy_model()
    with torch.no_grad():
        for name in masked:
            weight_of(model, name).copy_(torch.where(state.masks[name], state.weight(name), state.values[name]))
    clusters = {name: labels for name, labels in state.clusters.items() if name not in masked}
    untied = [name for name in masked if name in state.clusters]
    remarks = (f"no longer clustered, because single weights came back: {shortened(untied)}",) if untied else ()
    return Applied(replace(made, model=model, clusters=clusters, accuracy={}), operation, remarks)
