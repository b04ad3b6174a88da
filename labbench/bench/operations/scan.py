"""Sensitivity: each layer alone is pruned or clustered by one amount after the other, and measured. Changes nothing."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from labbench.bench.clusterings import CLUSTERINGS
from labbench.bench.errors import BenchError, Stopped, never
from labbench.bench.measuring.accuracy import evaluate
from labbench.bench.operations import cluster, prune
from labbench.bench.pruning.graph import Uncuttable
from labbench.bench.states.chosen_layers import choose_unfrozen, shortened
from labbench.bench.states.state import State, weight_of
from labbench.bench.threads import one_thread
from labbench.bench.tools import Applied, Tools, nobody
from labbench.session.events import Probed, Progress
from labbench.session.measures import LayerScan, Scanned
from labbench.session.operations import Cluster, Prune, Scan, percent

Try = Callable[[Prune | Cluster, State], State]
"""What an operation makes of a state. Raises `BenchError` where it cannot."""
SPLIT = "validation"


def apply(operation: Scan, state: State, tools: Tools) -> Applied:
    """The same state, and how each layer bears being pruned."""
    silent = replace(tools, report=nobody)

    def attempt(step: Prune | Cluster, tried: State) -> State:
        doer = prune.apply(step, tried, silent) if isinstance(step, Prune) else cluster.apply(step, tried, silent)
        return doer.state

    found = scan(operation, state, attempt, tools.report, tools.stopped)
    return Applied(state, operation, scan_remarks(found), scanned=found)


def scan(
    operation: Scan,
    state: State,
    attempt: Try,
    report: Callable[[Progress | Probed], None],
    stopped: Callable[[], bool] = never,
) -> Scanned:
    """The accuracy of each layer's trials. Raises `BenchError` if no layer can be tried at all, `Stopped`."""
    chosen = choose_unfrozen(state, operation.layers, "scan")
    dense = _top1(state, state, stopped)
    found: list[LayerScan] = []
    for number, name in enumerate(chosen.layers):
        if any(name in done.layers for done in found):
            continue
        made = LayerScan(layers=(name,))
        for place, amount in enumerate(operation.at):
            done = (number + place / len(operation.at)) / len(chosen.layers)
            report(Progress(phase="scan", fraction=done, note=f"{name} at {100 * amount:.0f} %"))
            try:
                tried = _tried(operation, state, name, amount, attempt)
            except BenchError as error:
                why = error.why if isinstance(error, Uncuttable) else str(error)
                made = LayerScan(layers=made.layers, amounts=made.amounts, top1=made.top1, refused=why)
                break
            layers = _changed(state, tried, chosen.layers) if operation.coupled else (name,)
            top1 = _top1(tried, state, stopped)
            made = LayerScan(
                layers=layers if len(layers) > len(made.layers) else made.layers,
                amounts=(*made.amounts, amount),
                top1=(*made.top1, top1),
            )
            report(Probed(layers=made.layers, amount=amount, top1=top1))
        found.append(made)
    if not any(made.amounts for made in found):
        raise BenchError(f"no layer can be tried: {'; '.join(_untried(found))}")
    return Scanned(layers=tuple(found), top1=dense)


def scan_remarks(found: Scanned) -> tuple[str, ...]:
    """Who bears most and who bears least, and who could not be tried: a line for each reason."""
    tried = [layer for layer in found.layers if layer.amounts]
    amount = max(set.intersection(*(set(layer.amounts) for layer in tried)), default=0.0)
    at = {layer.name: layer.top1[layer.amounts.index(amount)] for layer in tried} if amount else {}
    said = []
    if len(at) > 1:
        least, most = min(at, key=lambda name: at[name]), max(at, key=lambda name: at[name])
        said.append(
            f"at {percent(amount)}: most sensitive {least} ({100 * at[least]:.1f} %), least {most} "
            f"({100 * at[most]:.1f} %); as it stands {100 * found.top1:.1f} %"
        )
    return (*said, *_untried(found.layers))


def _untried(layers: Iterable[LayerScan]) -> list[str]:
    """One line for each reason."""
    refused: dict[str, list[str]] = {}
    for layer in layers:
        if not layer.amounts:
            refused.setdefault(layer.refused, []).append(layer.name)
    return [f"not tried: {shortened(names)}, because {reason}" for reason, names in refused.items()]


def _tried(operation: Scan, state: State, name: str, amount: float, attempt: Try) -> State:
    if operation.method in CLUSTERINGS:
        kept = max(1, round(len(state.weight(name)) * (1 - amount)))
        shared = Cluster(
            layers=(name,), k=kept, method=operation.method, options=operation.options, seed=operation.seed
        )
        return attempt(shared, state)
    if operation.coupled:
        step = Prune(
            layers=(name,), amount=amount, method=operation.method, options=operation.options, seed=operation.seed
        )
        return attempt(step, state)
    return _zeroed(state, name, amount)


def _zeroed(state: State, name: str, amount: float) -> State:
    """The state with the smallest filters of one layer (by their L2 norm) and their biases set to zero."""
    model = state.copy_model()
    with one_thread(), torch.no_grad():
        weight = weight_of(model, name)
        gone = weight.flatten(1).norm(dim=1).argsort(stable=True)[: int(amount * len(weight))]
        weight[gone] = 0
        bias = model.get_submodule(name).bias
        if isinstance(bias, torch.Tensor):
            bias[gone] = 0
    return replace(state, model=model)


def _changed(before: State, after: State, names: tuple[str, ...]) -> tuple[str, ...]:
    """The layers whose filters are fewer, or whose masks or clusters are others."""
    return tuple(_differing(before, after, names))


def _differing(before: State, after: State, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        fewer = len(after.weight(name)) != len(before.weight(name))
        if fewer or after.last.get(name) != before.last.get(name):
            yield name


def _top1(state: State, owner: State, stopped: Callable[[], bool]) -> float:
    if stopped():
        raise Stopped
    return evaluate(state.model, owner.data, owner.device, SPLIT, lambda _: None, stopped).top1
