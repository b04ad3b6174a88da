"""One of each operation and event with every field off its default, and small sessions made of them."""

from labbench.session.events import (
    AnyEvent,
    Closed,
    Died,
    Environment,
    Failed,
    Finished,
    Metric,
    Progress,
    Ready,
    Restored,
    Sparsity,
    Started,
)
from labbench.session.operations import (
    AnyOperation,
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Jump,
    Load,
    Measure,
    Name,
    Note,
    Prune,
    Recalibrate,
    Redo,
    Scan,
    Task,
    Time,
    Undo,
    Unfreeze,
    Unprune,
)
from labbench.session.snapshot import Accuracy, LayerRow, Snapshot, Total

LOAD = Load(model="lenet-5", dataset="digits")

OPERATIONS: tuple[AnyOperation, ...] = (
    LOAD,
    Load(
        model="resnet-20",
        dataset="shapes",
        options={"shortcut": "B"},
        weights="a b.pt",
        sha256="abc",
        seed=7,
        device="cuda:1",
    ),
    Freeze(layers=("conv1", "layer1.*"), norms=False),
    Unfreeze(layers=("fc*",)),
    Unfreeze(),
    Prune(),
    Prune(layers=("conv*",), amount=0.125, method="group_magnitude", scope="global", options={"p": 1}, seed=3),
    Prune(method="group-magnitude", amounts={"layer1.*": 0.3, "fc": 0.0}, round_to=8, maximum=0.75, lenient=True),
    Prune(layers=("conv1",), method="n-m", options={"n": 1}),
    Unprune(layers=("a", "b", "c", "d", "e")),
    Cluster(layers=("conv1",), k=4, seed=2**31 - 1),
    Cluster(layers=("conv1",), fraction=0.25),
    Finetune(),
    Finetune(resume=True, steps=7),
    Recalibrate(batches=30, batch_size=32, seed=1),
    Name(name="dense model"),
    Jump(to="3"),
    Jump(to="dense model"),
    Name(name="thirty percent", at="12"),
    Task(name="small", goals=("parameters < 25 %", "accuracy > 92.5 %"), text="Make it **small**."),
    Note(text="Watch.", chapter="Zeros", ask="What will the accuracy be?", figure="sparsity"),
    Finetune(
        epochs=3,
        resume=True,
        optimizer="adamw",
        lr=1e-3,
        momentum=0.5,
        nesterov=True,
        watch="accuracy",
        patience=1,
        last=0.5,
        warmup=2,
        regularizer="l1",
        strength=0.25,
        penalized=("conv*",),
        loss="scaled-softmax",
        scale=5.0,
        label_smoothing=0.1,
        distill=0.5,
        temperature=2.0,
        clip=1.0,
        precision="bf16",
        layout="channels_last",
        engine="fast",
        weight_decay=0.0,
        schedule="multi-step",
        milestones=(1, 2),
        gamma=0.3,
        batch_size=7,
        augment=True,
        tied=False,
        keep="last",
        device="cpu",
        steps=12,
        seed=5,
    ),
    Evaluate(split="validation"),
    Freeze(types="conv", first=0.1, of="weights"),
    Measure(batches=3, seed=1),
    Scan(layers=("layer1",), at=(0.5, 0.9), coupled=False),
    Time(batches=(1, 2, 256), rounds=5),
    Undo(),
    Redo(),
    Note(text='two\nlines, "quotes" \\ and """three""" – [b]é[/b] 🙂\r\n\ttab \x1b[31m'),
    Note(text="\r"),
)

HERE = Environment(
    labbench="0.1.0",
    python="3.11",
    torch="2.8",
    torch_pruning="1.6",
    sklearn="1.5",
    numpy="2.0",
    machine="x86_64 Linux",
    threads=2,
    device="cpu",
)


def accuracy(top1: float = 0.9, images: int = 1000) -> Accuracy:
    return Accuracy(
        images=images, top1=top1, macro=top1, worst=0.5, worst_class="8", loss=0.3, confusion=((4, 1), (0, 5))
    )


def row(name: str = "conv1", nonzero: int = 100, **fields: object) -> LayerRow:
    known: dict[str, object] = {
        "kind": "conv",
        "shape": (10, 1, 5, 2),
        "parameters": 110,
        "weights": 100,
        "weights_loaded": 100,
        "filters_unique": 10,
        "channels": 10,
        "channels_loaded": 10,
        "inputs": 1,
        "inputs_loaded": 1,
        "norm": 1.5,
        "histogram": (1, 2, 3),
        "limit": 0.5,
    }
    return LayerRow(name=name, nonzero=nonzero, **(known | fields))  # type: ignore[arg-type]


def snapshot(*rows: LayerRow, fingerprint: str = "f00d", device: str = "cpu", **top1: float) -> Snapshot:
    rows = rows or (row(),)
    loaded, nonzero = sum(r.weights_loaded for r in rows), sum(r.nonzero for r in rows)
    return Snapshot(
        model="lenet-5",
        dataset="digits",
        device=device,
        classes=("0", "1"),
        rows=rows,
        prunable=Total(loaded=loaded, now=loaded, nonzero=nonzero),
        whole=Total(loaded=loaded + 10, now=loaded + 10, nonzero=nonzero + 10),
        unique=nonzero,
        macs=1000,
        macs_loaded=1000,
        accuracy={split: accuracy(value) for split, value in top1.items()},
        fingerprint=fingerprint,
    )


EVENTS: tuple[AnyEvent, ...] = (
    Ready(environment=HERE),
    Started(operation=LOAD),
    Progress(phase="train", fraction=0.5, epoch=1, epochs=2, step=3, steps=6, loss=0.1, rate=9.5, eta=1.0, note="x"),
    Metric(name="train/loss", x=1.0, y=None),
    Sparsity(epoch=1, nonzero={"conv1": 5}, unique={"conv1": 2}),
    Finished(operation=LOAD, snapshot=snapshot(validation=0.9), remarks=("left out: fc2",), seconds=0.5),
    Failed(error="no such layer: nope", operation=Prune(layers=("nope",)), bug=False),
    Restored(snapshot=snapshot(), recomputed=2),
    Died(error="the worker was ended by SIGKILL"),
    Closed(),
)


def finished(operation: AnyOperation, found: Snapshot | None = None) -> list[AnyEvent]:
    """What the bench says for an operation that goes well."""
    changes = not isinstance(operation, Note)
    return [
        Started(operation=operation),
        Finished(operation=operation, snapshot=found or (snapshot() if changes else None)),
    ]
