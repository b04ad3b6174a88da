"""The events of a session in which everything happens that a session can tell, for tests of what is shown of it."""

from msgspec.structs import replace
from session_examples import HERE, OPERATIONS, row

from labbench.session.events import Closed, Died, Failed, Finished, Metric, Probed, Progress, Ready, Restored, Started
from labbench.session.measures import LayerMeasures, LayerScan, Measures, Scanned, Timing
from labbench.session.operations import (
    Finetune,
    Jump,
    Load,
    Measure,
    Name,
    Note,
    Prune,
    Redo,
    Scan,
    Time,
    Undo,
)
from labbench.session.snapshot import Accuracy, Snapshot, Total

NAMES = ("conv1", "fc1")


def everything(end=True):
    """Timed events: every operation that there is, with remarks and whatever it can find; at the end it breaks."""
    yield 0.0, Ready(environment=HERE)
    for number, operation in enumerate(_in_order(), 1):
        time = 2.0 * number
        if isinstance(operation, Name):
            operation = replace(operation, name=f"point {number}", at="1")
        yield time, Started(operation=operation)
        yield from _during(operation, time)
        found = {"operation": operation, "remarks": (f"a remark on {operation.describe()}",), "seconds": 1.0}
        match operation:
            case Measure():
                layers = tuple(LayerMeasures(name=name, weights=9, connected=4, idle=1, distinct=3) for name in NAMES)
                found["measures"] = Measures(layers=layers, stored=100, stored_loaded=200)
            case Scan():
                layers = (
                    LayerScan(layers=NAMES, amounts=(0.5, 0.9), top1=(0.9, 0.5)),
                    LayerScan(layers=("fc2",), refused="its channels meet others"),
                )
                found["scanned"] = Scanned(layers=layers, top1=0.95)
            case Time():
                found["timings"] = (
                    Timing(batch=1, loaded=2.0, loaded_quartiles=(1, 3), now=1.0, now_quartiles=(1, 2)),
                )
            case Note():
                pass
            case _:
                found["snapshot"] = _snapshot(number)
        yield time + 1, Finished(**found)
    if end:
        yield time + 2, Failed(error="cannot be cut: conv1", operation=Prune(layers=("conv1",)), bug=True)
        yield time + 3, Restored(snapshot=_snapshot(1), recomputed=1, remarks=("other code",))
        yield time + 4, Died(error="the worker was ended")
        yield time + 5, Closed()


def _in_order():
    yield Load(model="lenet-5", dataset="digits", weights="a.pt", options={"width": "b"}, device="cpu")
    yield Note(text="# Begin\n\n- with **zeros**\n\n| a | b |\n|---|---|\n| 1 | `2` |", chapter="Zeros")
    yield Note(text="What now?", chapter="More", ask="What will the accuracy be?")
    for operation in OPERATIONS:
        if not isinstance(operation, Jump | Name | Load | Undo | Redo):
            yield operation
    yield Undo()
    yield Redo()
    yield Name(name="dense")
    yield Jump(to="1")
    yield Jump(to="5")


def _during(operation, time):
    match operation:
        case Scan():
            yield time + 0.1, Probed(layers=NAMES, amount=0.5, top1=0.9)
        case Finetune():
            for epoch in (1, 2, 3):
                yield time + epoch / 10, Progress(phase="train", fraction=0.3 * epoch, note="slow", rate=3.0)
                for kind in ("train/loss", "validation/loss", "validation/accuracy", "sparsity"):
                    yield time + epoch / 10, Metric(name=kind, x=epoch, y=0.5 / epoch)


def _snapshot(number):
    rows = (
        row("conv1", 100 - number),
        row("fc1", 50, kind="linear", frozen=True, masked=True, last="magnitude 50 %"),
        row("bn", kind="norm", prunable=False),
    )
    seen = Accuracy(
        images=180,
        top1=0.9 + number / 1000,
        macro=0.9,
        worst=0.5,
        worst_class="cat",
        loss=0.1,
        confusion=((5, 1), (2, 9)),
    )
    loaded = sum(one.weights_loaded for one in rows)
    return Snapshot(
        model="lenet-5",
        dataset="digits",
        device="cpu",
        classes=("cat", "dog"),
        rows=rows,
        prunable=Total(loaded=loaded, now=loaded, nonzero=loaded - number),
        whole=Total(loaded=loaded, now=loaded, nonzero=loaded - number),
        unique=loaded - number,
        macs=1000,
        macs_loaded=1000,
        accuracy={"validation": seen, "test": seen},
        fingerprint=f"f00d{number}",
    )
