"""Sensitivity: each layer alone is pruned or clustered by one amount after the other, and measured. Changes nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from labbench.bench.choice import choose_unfrozen
from labbench.bench.errors import BenchError, Stopped, never
from labbench.bench.measure import evaluate
from labbench.bench.state import State, weight_of
from labbench.bench.threads import one_thread
from labbench.session.events import Probed, Progress
from labbench.session.measures import LayerScan, Scanned
from labbench.session.operations import Cluster, Prune, Scan

Try = Callable[[Prune | Cluster, State], State]
"""What an operation makes of a state. Raises `BenchError` where it cannot."""
SPLIT = "validation"


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
        for place, amount in enumerate(operation.amounts):
            done = (number + place / len(operation.amounts)) / len(chosen.layers)
            report(Progress(phase="scan", fraction=done, note=f"{name} at {100 * amount:.0f} %"))
            try:
                tried = _tried(operation, state, name, amount, attempt)
            except BenchError as error:
                made = LayerScan(layers=made.layers, amounts=made.amounts, top1=made.top1, refused=str(error))
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
        raise BenchError(f"no layer can be tried: {found[0].refused}")
    return Scanned(layers=tuple(found), top1=dense)


def _tried(operation: Scan, state: State, name: str, amount: float, attempt: Try) -> State:
    if operation.by == "cluster":
        kept = max(1, round(len(state.weight(name)) * (1 - amount)))
        options, method = operation.options, operation.method
        if method == Scan().method:
            method = Cluster(layers=()).method
        return attempt(Cluster(layers=(name,), k=kept, method=method, options=options, seed=operation.seed), state)
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
