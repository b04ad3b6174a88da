"""A scan as a table: a line for each layer, a column for each amount, accuracies in percent."""

from collections.abc import Sequence

from labbench.cells import cells, head, left, tail
from labbench.printable import printable
from labbench.session.measures import LayerScan, Scanned
from labbench.session.operations import Scan
from labbench.session.session import Session, Step

CELL = 6  # "[97.8]"
NAME = 12  # a name is never given less


def latest(session: Session) -> Scanned | None:
    """What the scan under way or the last one found; None before there was one."""
    if isinstance(session.running, Scan):
        validation = session.snapshot.accuracy.get("validation") if session.snapshot else None
        layers: dict[str, LayerScan] = {}
        for point in session.probed:
            known = layers.get(point.layers[0], LayerScan(layers=point.layers)) if point.layers else None
            if known:
                layers[known.name] = LayerScan(
                    layers=point.layers, amounts=(*known.amounts, point.amount), top1=(*known.top1, point.top1)
                )
        return Scanned(layers=tuple(layers.values()), top1=validation.top1 if validation else 0.0)
    last = _last(session)
    return last.event.scanned if last else None


def of_another(session: Session) -> str:
    """Which model the latest scan is of, where that is not the one now; "" where it is."""
    last, now = _last(session), session.snapshot
    if isinstance(session.running, Scan) or last is None or last.snapshot is None or now is None:
        return ""
    return "" if last.snapshot.fingerprint == now.fingerprint else f"of the model as it was at step {last.number}"


def _last(session: Session) -> Step | None:
    return next((step for step in reversed(session.steps) if step.event.scanned), None)


def table(found: Scanned, drop: float | None = None, width: int = 80) -> list[str]:
    """The head and a line for each layer. With `drop` the amount of `plan(drop)` is set in brackets.

    Where not all amounts fit the width, some between the first and the last are left out.
    """
    amounts = sorted({amount for layer in found.layers for amount in layer.amounts})
    shown = _thinned(amounts, max((width - NAME - 1) // CELL, 1))
    room = max(width - 1 - CELL * len(shown), NAME)
    names = [_name(layer, room) for layer in found.layers]
    room = min(room, max(map(cells, names), default=NAME))
    plan = found.plan(drop) if drop is not None else {}
    top = " " * room + "".join(f"{100 * amount:.0f}% ".rjust(CELL) for amount in shown)
    return [top.rstrip()] + [
        (left(name, room) + _cells(layer, shown, plan.get(layer.name))).rstrip()
        for name, layer in zip(names, found.layers, strict=True)
    ]


def _cells(layer: LayerScan, shown: Sequence[float], planned: float | None) -> str:
    if not layer.amounts:
        return head(printable(f"  {layer.refused}"), CELL * len(shown))
    top1 = dict(zip(layer.amounts, layer.top1, strict=True))
    found = []
    for amount in shown:
        figure = f"{100 * top1[amount]:.1f}".replace("100.0", "100") if amount in top1 else "–"
        found.append((f"[{figure}]" if amount == planned else f"{figure} ").rjust(CELL))
    return "".join(found)


def _name(layer: LayerScan, room: int) -> str:
    more = f" +{len(layer.layers) - 1}" if len(layer.layers) > 1 else ""
    name, space = printable(layer.name), room - len(more)
    return (name if cells(name) <= space else f"…{tail(name, space - 1)}") + more


def _thinned(amounts: Sequence[float], most: int) -> list[float]:
    if len(amounts) <= most:
        return list(amounts)
    if most == 1:
        return [amounts[-1]]
    return [amounts[round(n * (len(amounts) - 1) / (most - 1))] for n in range(most)]
