"""Sessions made by hand, as realistic as recorded ones: LeNet-5 trained, pruned, trained again; ResNet-20's rows."""

from bench_data import row
from fake_worker import ENVIRONMENT
from msgspec.structs import replace

from labbench.session.events import Finished, Metric, Progress, Ready, Sparsity, Started
from labbench.session.operations import Cluster, Evaluate, Finetune, Freeze, Load, Note, Prune, Undo
from labbench.session.session import Session
from labbench.session.snapshot import Accuracy, Snapshot, Total

HISTOGRAM = (1, 2, 4, 9, 18, 31, 44, 52, 44, 31, 18, 9, 4, 2, 1)


def snapshot(rows, accuracy=None, model="lenet-5", dataset="digits"):
    """A snapshot whose totals follow from its rows."""
    counted = [one for one in rows if one.prunable]
    loaded = sum(one.weights_loaded for one in counted)
    rest = sum(one.parameters for one in rows) - sum(one.weights for one in counted)
    nonzero = sum(one.nonzero for one in counted)
    return Snapshot(
        model=model,
        dataset=dataset,
        device="cpu",
        classes=tuple("0123456789"),
        rows=tuple(rows),
        prunable=Total(loaded=loaded, now=sum(one.weights for one in counted), nonzero=nonzero),
        whole=Total(loaded=loaded + rest, now=loaded + rest, nonzero=nonzero + rest),
        unique=nonzero,
        macs=sum(one.macs for one in rows),
        macs_loaded=sum(one.macs for one in rows),
        accuracy=accuracy or {},
        fingerprint="made up",
    )


def accuracy(top1, worst=0.9, images=180):
    return Accuracy(
        images=images, top1=top1, macro=top1 - 0.001, worst=worst, worst_class="8", loss=0.1, confusion=((1, 0), (0, 1))
    )


def lenet_rows():
    known = {"histogram": HISTOGRAM, "limit": 0.31, "norm": 2.5}
    return (
        row("conv1", "conv", (20, 1, 5, 5), macs=288_000, **known),
        row("conv2", "conv", (50, 20, 5, 5), macs=1_600_000, **known),
        row("fc1", "linear", (500, 800), macs=400_000, **known),
        row("fc2", "linear", (10, 500), macs=5_000, **known),
    )


def pruned(rows, amount):
    return tuple(
        replace(one, nonzero=round(one.weights_loaded * (1 - amount)), masked=True, last=f"magnitude {amount:.0%}")
        for one in rows
    )


def resnet_rows():
    """Every kind of row at once: frozen, masked, cut and clustered layers, and norms."""
    rows = [row("conv1", "conv", (16, 3, 3, 3), frozen=True, macs=442_368, norm=5.2)]
    width = 16
    for stage in (1, 2, 3):
        for block in range(3):
            for conv in (1, 2):
                out = 16 * 2 ** (stage - 1)
                name = f"layer{stage}.{block}.conv{conv}"
                made = row(name, "conv", (out, width, 3, 3), macs=out * width * 9 * 1024, norm=3.3)
                if stage == 2 and conv == 1:
                    made = replace(
                        made, shape=(out // 2, width, 3, 3), channels=out // 2, weights=made.weights // 2,
                        nonzero=made.weights // 2, last="group-magnitude 50 %",
                    )  # fmt: skip
                if stage == 3 and block == 0:
                    made = replace(made, filters_unique=8, clusters=8, last="k 8 of 64")
                if stage == 1:
                    made = replace(made, nonzero=round(made.weights * 0.7), masked=True, last="magnitude 30 %")
                rows.append(made)
                norm = row(f"layer{stage}.{block}.bn{conv}", "norm", (out, 1), prunable=False, norm=None)
                rows.append(replace(norm, shape=(out,)))
                width = out
    return (*rows, row("fc", "linear", (10, 64), macs=640, norm=1.1))


def finetune_events(operation, start, epochs, before):
    """The events of a run; `start` is the time, `before` the loss it begins with."""
    yield start, Started(operation=operation)
    for epoch in range(1, epochs + 1):
        now = start + 2 * epoch
        for part in range(1, 5):
            yield (
                now - 1 + part / 5,
                Progress(
                    phase="train", fraction=(epoch - 1 + part / 4) / operation.epochs, epoch=epoch,
                    epochs=operation.epochs, loss=before / epoch, rate=1380.0, eta=2.0 * (operation.epochs - epoch),
                ),
            )  # fmt: skip
            yield now - 1 + part / 5, Metric(name="step/loss", x=epoch - 1 + part / 4, y=before / (epoch + part / 4))
        yield now, Metric(name="train/loss", x=epoch, y=before / epoch)
        yield now, Sparsity(epoch=epoch, nonzero={"conv1": 400, "conv2": 20_000}, unique={"conv1": 20})
        yield now, Metric(name="validation/loss", x=epoch, y=before / epoch + 0.05)
        yield now, Metric(name="validation/accuracy", x=epoch, y=1 - 0.5 / (epoch + 1))
        yield now, Metric(name="sparsity", x=epoch, y=0.1)


LOAD = Load(model="lenet-5", dataset="digits")
NOTE = Note(text="Half of the weights are gone and nobody misses them.\nWatch the loss while it trains again.")


def lenet_events():
    """A lesson: open, train, freeze, prune, undo, prune less, note, train, cluster, measure."""
    rows = lenet_rows()
    before = {"validation": accuracy(0.1, worst=0.0)}
    after = {"validation": accuracy(0.983)}
    time = 0.0

    def done(operation, made=None, seconds=1.0, remarks=()):
        nonlocal time
        time += seconds
        return (time, Started(operation=operation)), (
            time + 0.1,
            Finished(operation=operation, snapshot=made, remarks=remarks, seconds=0.1),
        )

    yield 0.0, Ready(environment=ENVIRONMENT)
    yield from done(LOAD, snapshot(rows, before))
    train = Finetune(epochs=5)
    yield from finetune_events(train, time + 1, 5, 2.3)
    time += 12
    remark = "kept epoch 5 of 5: best on validation"
    yield time, Finished(operation=train, snapshot=snapshot(rows, after), remarks=(remark,), seconds=10.0)
    frozen = (replace(rows[0], frozen=True), *rows[1:])
    yield from done(Freeze(layers=("conv1",)), snapshot(frozen, after))
    deep = (frozen[0], *pruned(frozen[1:], 0.9))
    yield from done(Prune(layers=("conv2", "fc*"), amount=0.9), snapshot(deep, {"validation": accuracy(0.42)}))
    yield from done(Undo(), snapshot(frozen, after))
    half = (frozen[0], *pruned(frozen[1:], 0.5))
    yield from done(Prune(layers=("conv2", "fc*"), amount=0.5), snapshot(half, {"validation": accuracy(0.978)}))
    yield from done(NOTE)
    again = Finetune(epochs=5, lr=0.01)
    yield from finetune_events(again, time + 1, 5, 0.4)
    time += 12
    yield time, Finished(operation=again, snapshot=snapshot(half, after), seconds=10.0)
    shared = (*half[:2], replace(half[2], filters_unique=100, clusters=100, last="k 100 of 500"), half[3])
    yield from done(Cluster(layers=("fc1",), k=100), snapshot(shared, after))
    yield from done(Evaluate(), snapshot(shared, {**after, "test": accuracy(0.972, 0.92, 360)}))


OPENING = Note(
    text="# Zeros and time\n\nHalf of it goes. **Nothing** gets faster:\n\n- zeros are *stored*\n- and `multiplied`",
    chapter="Zeros",
)
QUESTION = Note(
    text="Now [90 %](https://example.org) of `fc1` and [@click=app.quit]x go.",
    chapter="Too much",
    ask="What will the accuracy be?",
)
CLOSING = Note(text="The end.", chapter="What remains")


def taught_events():
    """A lesson with chapters and a question: open, prune by half, ask, prune by 90 %, undo, finetune."""
    rows = lenet_rows()
    whole = snapshot(rows, {"validation": accuracy(0.983)})
    half = snapshot(pruned(rows, 0.5), {"validation": accuracy(0.978)})
    tenth = snapshot(pruned(rows, 0.9), {"validation": accuracy(0.42)})
    yield 0.0, Ready(environment=ENVIRONMENT)
    done = (
        (LOAD, whole),
        (OPENING, None),
        (Prune(amount=0.5), half),
        (QUESTION, None),
        (Prune(amount=0.9), tenth),
        (CLOSING, None),
        (Undo(), half),
    )
    for number, (operation, made) in enumerate(done):
        yield 2.0 * number + 1, Started(operation=operation)
        yield 2.0 * number + 2, Finished(operation=operation, snapshot=made, seconds=1.0)
    train = Finetune(epochs=5)
    yield from finetune_events(train, 16.0, 5, 0.4)
    yield 28.0, Finished(operation=train, snapshot=half, seconds=10.0)


def taught_session(events=None):
    """The lesson for a class, or what these events are."""
    session = Session("a lesson for a class")
    for seconds, event in taught_events() if events is None else events:
        session.append(seconds, event)
    return session


def lenet_session(until=None):
    """The lesson as a session, or only its first events."""
    session = Session("a lesson")
    for seconds, event in list(lenet_events())[:until]:
        session.append(seconds, event)
    return session


def running_session():
    """The lesson in the middle of its second finetuning."""
    events = list(lenet_events())
    last = max(number for number, (_, event) in enumerate(events) if isinstance(event, Sparsity))
    return lenet_session(last - 6)


def resnet_session():
    """ResNet-20 with everything done to it."""
    session = Session("resnet")
    load = Load(model="resnet-20", dataset="cifar10")
    made = snapshot(resnet_rows(), {"validation": accuracy(0.882)}, "resnet-20", "cifar10")
    session.append(0.0, Ready(environment=ENVIRONMENT))
    session.append(1.0, Started(operation=load))
    session.append(2.0, Finished(operation=load, snapshot=made))
    return session
