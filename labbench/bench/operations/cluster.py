"""Clustering by an entry of the catalogue: which layers, how many clusters in each, and the state afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from labbench.bench.clusterings import CLUSTERINGS
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.measuring.snapshot import unique_filters
from labbench.bench.states import surgery
from labbench.bench.states.chosen_layers import (
    Chosen,
    checked_options,
    choose_unfrozen,
    matching,
    refuse_endless,
    shortened,
)
from labbench.bench.states.state import State, weight_of
from labbench.bench.threads import one_thread
from labbench.bench.tools import Applied, Tools
from labbench.session.check import listed, meant
from labbench.session.events import Progress
from labbench.session.operations import Cluster, percent


def apply(operation: Cluster, state: State, tools: Tools) -> Applied:
    """The state with shared filters."""
    with one_thread():
        made, remarks = cluster(operation, state, tools.report, tools.stopped)
    return Applied(made, operation, remarks)


def cluster(
    operation: Cluster, state: State, report: Callable[[Progress], None], stopped: Callable[[], bool]
) -> tuple[State, tuple[str, ...]]:
    """The state with shared filters, and remarks. In a layer that was pruned, zeros that a cluster shares stay held."""
    method = _method_of(operation)
    options = checked_options(method.share, operation.options, operation.method)
    chosen = choose_unfrozen(state, operation.layers, "cluster")
    wanted = _wanted(operation, state, chosen)
    answers = [layer.name for layer in state.layers if layer.prunable][-1]
    remarks, untied, shared_away = list(chosen.remarks), list[str](), list[str]()
    model = state.copy_model()
    masks, values, clusters, last = dict(state.masks), dict(state.values), dict(state.clusters), dict(state.last)
    done = 0
    for number, name in enumerate(chosen.layers):
        if stopped():
            raise Stopped
        report(Progress(phase="cluster", fraction=number / len(chosen.layers), note=name))
        if name == answers and name not in chosen.literal:
            remarks.append(f"left out: the rows of {name} are the classes")
            continue
        weight = weight_of(model, name)
        refuse_endless({f"{name}.weight": weight}, "nothing is near to them")
        filters, distinct = len(weight), unique_filters(weight.detach())
        k = wanted[name] or max(1, round(operation.fraction * filters))
        if k >= distinct:
            why = f"{name} has {distinct} distinct filters of {filters}; k must be below that, not {k}"
            if name in chosen.literal and not operation.ks:  # in a map, as many as there are leaves a layer whole
                raise BenchError(why)
            remarks.append(f"left as it is: {why}")
            continue
        shared, labels = surgery.share_filters(weight, method.share, k, operation.seed, options)
        zeros, left = (int((values == 0).count_nonzero()) for values in (weight, shared))
        if left < zeros:
            shared_away.append(f"{name} {percent(zeros / weight.numel())} → {percent(left / weight.numel())}")
        with torch.no_grad():
            weight.copy_(shared)
        clusters.pop(name, None)
        if labels is None:
            untied.append(name)
        else:
            clusters[name] = labels
        last[name] = _words(operation, k, filters, labels)
        if name in masks:
            masks[name] = shared != 0
            if name in values:
                values[name] = values[name].masked_fill(masks[name], 0)
        done += 1
    if not done:
        raise BenchError(f"nothing to cluster in {listed(operation.layers)}: {'; '.join(remarks)}")
    if shared_away:
        lost = "zeros are lost where the mean of a cluster is not zero; held are those that are left"
        remarks.append(f"{lost}: {shortened(shared_away)}")
    if untied:
        remarks.append(f"not equal, so finetuning does not tie them: {shortened(untied)}; freeze what shall stay")
    made = replace(state, model=model, masks=masks, values=values, clusters=clusters, last=last, accuracy={})
    return made, tuple(remarks)


def _method_of(operation: Cluster) -> ModuleType:
    if operation.method not in CLUSTERINGS:
        known = f"they are {listed(CLUSTERINGS)}{meant(operation.method, CLUSTERINGS)}"
        raise BenchError(f"no such clustering: {operation.method}; {known}")
    return CLUSTERINGS[operation.method]


def _wanted(operation: Cluster, state: State, chosen: Chosen) -> Mapping[str, int]:
    """The number of clusters for each layer, 0 where the fraction says it. Of several patterns the last counts."""
    wanted = dict.fromkeys(chosen.layers, operation.k)
    names = [layer.name for layer in state.layers if layer.prunable]
    for pattern, k in operation.ks.items():
        wanted |= {name: k for name in matching(pattern, names, state) if name in wanted}
    return wanted


def _words(operation: Cluster, k: int, filters: int, labels: Tensor | None) -> str:
    """What was done to a layer, in a few words."""
    if labels is not None and labels.dim() > 1:
        return f"k {k} at each place"
    alone = "" if labels is None or int(labels.max()) + 1 == k else f" + {int(labels.max()) + 1 - k} alone"
    kind = "" if operation.method == "k-means" else f" {operation.method}"
    return f"k {k}{alone} of {filters}{kind}"
