"""A worker that computes nothing: speaks the lines of the real one, with made-up figures, and misbehaves when told to.

A note whose text is a key of `TRICKS` is not answered: the trick happens instead.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

import msgspec

from labbench.session.check import BadInput
from labbench.session.events import (
    AnyEvent,
    Environment,
    Export,
    Exported,
    Failed,
    Finished,
    Metric,
    Preview,
    Progress,
    Ready,
    Restore,
    Restored,
    Started,
    Stop,
    Trust,
)
from labbench.session.jsonl import decode_request, encode
from labbench.session.operations import AnyOperation, Cluster, Evaluate, Finetune, Load, Note, Prune
from labbench.session.own import is_own
from labbench.session.reading import path_of
from labbench.session.snapshot import Accuracy, LayerRow, Snapshot, Total
from labbench.session.tree import Tree

WEIGHTS = 1000
ENVIRONMENT = Environment(
    labbench="0",
    python="3",
    torch="2",
    torch_pruning="1",
    sklearn="1",
    numpy="2",
    machine="made up",
    threads=1,
    device="cpu",
)


def say(event: AnyEvent) -> None:
    sys.stdout.buffer.write(encode(event))
    sys.stdout.buffer.flush()


def garbage() -> None:
    sys.stdout.buffer.write(b"Epoch 1: \xff[bold]loss[/bold]\n")
    sys.stdout.buffer.flush()


def die() -> None:
    sys.stderr.write("out of memory\n")
    sys.stderr.flush()
    os._exit(7)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(Progress(phase="hang", fraction=0.0))
    while True:
        time.sleep(60)


TRICKS: dict[str, Callable[[], None]] = {"garbage": garbage, "die": die, "killed": killed, "hang": hang}


def accuracy(top1: float) -> Accuracy:
    return Accuracy(
        images=400, top1=top1, macro=top1, worst=top1, worst_class="8", loss=0.1, confusion=((9, 1), (0, 10))
    )


def snapshot(done: tuple[AnyOperation, ...], measured: tuple[str, ...] = ("validation",)) -> Snapshot:
    """Figures that follow from the operations in effect alone."""
    load = next(operation for operation in done if isinstance(operation, Load))
    amount = max((operation.amount for operation in done if isinstance(operation, Prune)), default=0.0)
    epochs = sum(operation.epochs for operation in done if isinstance(operation, Finetune))
    nonzero = round(WEIGHTS * (1 - amount))
    clusters = max((operation.k for operation in done if isinstance(operation, Cluster)), default=0)
    row = LayerRow(
        name="conv1",
        kind="conv",
        shape=(10, 4, 5, 5),
        parameters=WEIGHTS + 10,
        weights=WEIGHTS,
        weights_loaded=WEIGHTS,
        nonzero=nonzero,
        filters_unique=clusters or 10,
        clusters=clusters,
        channels=10,
        channels_loaded=10,
        inputs=4,
        inputs_loaded=4,
        last=done[-1].describe(),
    )
    return Snapshot(
        model=load.model,
        dataset=load.dataset,
        device="cpu",
        classes=("0", "1"),
        rows=(row,),
        prunable=Total(loaded=WEIGHTS, now=WEIGHTS, nonzero=nonzero),
        whole=Total(loaded=WEIGHTS + 10, now=WEIGHTS + 10, nonzero=nonzero + 10),
        unique=nonzero,
        macs=5000,
        macs_loaded=5000,
        accuracy={split: accuracy(min(0.5 + 0.04 * epochs, 1.0)) for split in measured},
        fingerprint=f"{nonzero}-{clusters}-{epochs}",
    )


def finetune(operation: Finetune) -> None:
    for epoch in range(1, operation.epochs + 1):
        say(Progress(phase="train", fraction=epoch / operation.epochs, epoch=epoch, epochs=operation.epochs))
        say(Metric(name="train/loss", x=epoch, y=1 / epoch))


def wait_for_stop() -> None:
    say(Progress(phase="train", fraction=0.0))
    while decode_request(sys.stdin.buffer.readline()) != Stop():
        pass


def stand_still() -> None:
    """As one that was alive, and that somebody has stopped."""
    say(Progress(phase="train", fraction=0.0))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    os.kill(os.getpid(), signal.SIGSTOP)


def main() -> None:
    say(Ready(environment=ENVIRONMENT))
    tree: Tree[AnyOperation] = Tree()
    while line := sys.stdin.buffer.readline():
        try:
            request = decode_request(line)
        except BadInput as error:
            say(Failed(error=str(error)))
            continue
        match request:
            case Stop() | Preview() | Trust():
                pass
            case Restore():
                items = {point.number: point.operation for point in request.points}
                parents = {point.number: point.parent for point in request.points}
                tree = Tree(items, parents, request.latest, request.names, request.now, request.count)
                done = tree.path()
                say(Restored(snapshot=snapshot(done), recomputed=len(done)))
            case Export():
                path_of(request.path).write_bytes(b"made up")
                say(Exported(path=request.path, size=7, gzipped=5, loaded=50, deviation=2e-7, remarks=("made up",)))
            case Note() if request.text in TRICKS:
                TRICKS[request.text]()
            case Load() if request.model == "nope":
                say(Failed(error="no such model: nope", operation=request))
            case Prune() if request.layers == ("nope",):
                say(Failed(error="no such layer: nope; the layers are conv1", operation=request))
            case _:
                if isinstance(request, Load) and is_own(request.model):
                    request = msgspec.structs.replace(request, code_sha256="that of the file")
                say(Started(operation=request))
                if isinstance(request, Finetune):
                    if request.seed == 13:  # a run that only ends when it is told to
                        wait_for_stop()
                    elif request.seed == 14:  # one that hangs
                        stand_still()
                        wait_for_stop()
                    else:
                        finetune(request)
                try:
                    tree.take(request, request)
                except ValueError as error:
                    say(Failed(error=str(error), operation=request))
                    continue
                done = tree.path()
                measured = ("validation", "test") if isinstance(request, Evaluate) else ("validation",)
                found = None if isinstance(request, Note) else snapshot(done, measured)
                say(Finished(operation=request, snapshot=found, seconds=0.1))


if __name__ == "__main__":
    main()
