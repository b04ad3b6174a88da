"""What the bench answers. The pipe, the session file and the test fixtures carry these, one a line."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from labbench.session.catalogue import Catalogue
from labbench.session.measures import Measures, Scanned, Timing
from labbench.session.operations import AnyOperation
from labbench.session.snapshot import Snapshot


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="event", tag=str.lower):
    """Something that happened at the bench. The subclasses only add fields."""


class Environment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What figures depend on: they are equal only where this is equal."""

    labbench: str
    python: str
    torch: str
    torch_pruning: str
    sklearn: str
    numpy: str
    machine: str
    """Processor and system."""
    threads: int
    device: str
    """What device "auto" means here."""
    devices: tuple[str, ...] = ("cpu",)
    """Every device a model can be loaded on here."""


class Ready(Event, frozen=True):
    """The bench is there. In a file it marks where the session was opened, without the catalogue."""

    environment: Environment
    catalogue: Catalogue | None = None


class Started(Event, frozen=True):
    """An operation was understood and is being done."""

    operation: AnyOperation


class Progress(Event, frozen=True):
    """How far the running operation is. At most ten a second."""

    phase: str
    """try, train, measure, cut, cluster, recalibrate, download, convert, check, restore: one word for the bar."""
    fraction: float
    """Of the whole operation, 0 to 1."""
    epoch: int = 0
    epochs: int = 0
    again: int = 0
    """The last epoch that was finished before an interruption, while those up to it are computed again; else 0."""
    step: int = 0
    steps: int = 0
    """Over all epochs of the run."""
    loss: float | None = None
    """Mean training loss since the last report."""
    rate: float = 0.0
    """Images a second."""
    eta: float | None = None
    """Seconds left."""
    note: str = ""


class Metric(Event, frozen=True):
    """One point of a curve, such as "train/loss" at epoch 3 of the running operation."""

    name: str
    x: Annotated[float, Meta(ge=0, le=1e9)]
    """Epochs since the operation began: a resumed run goes on where it was stopped."""
    y: Annotated[float, Meta(ge=-1e39, le=1e39)] | None
    """null when it is not finite, in float32."""


class Sparsity(Event, frozen=True):
    """The layers after an epoch: what is not zero and how many filters differ, by layer name."""

    epoch: int
    nonzero: dict[str, int]
    unique: dict[str, int] = {}


class Probed(Event, frozen=True):
    """One point of a scan under way."""

    layers: tuple[str, ...]
    """Cut together."""
    amount: float
    top1: float


class Finished(Event, frozen=True):
    """An operation is done; `operation` is what was done in the end, so that doing it again gives the same."""

    operation: AnyOperation
    snapshot: Snapshot | None = None
    """None where the model did not change."""
    remarks: tuple[str, ...] = ()
    """What the user should know: layers left out and why, asked against achieved."""
    seconds: float = 0.0
    measures: Measures | None = None
    """What `Measure` found."""
    scanned: Scanned | None = None
    """What `Scan` found."""
    timings: tuple[Timing, ...] = ()
    """What `Time` found; never compared."""


class Failed(Event, frozen=True):
    """An operation was refused or broke; the state stands as before."""

    error: str
    operation: AnyOperation | None = None
    """None where not even the operation could be read."""
    bug: bool = False
    """Whether labbench is to blame: the traceback is in the log."""


class Previewed(Event, frozen=True):
    """What an operation would do. Never recorded."""

    operation: AnyOperation
    snapshot: Snapshot | None = None
    error: str = ""
    remarks: tuple[str, ...] = ()


class Restored(Event, frozen=True):
    """The bench stands again where a session had left it."""

    snapshot: Snapshot | None
    recomputed: int = 0
    """Operations that had to be done again because no checkpoint was there."""
    remarks: tuple[str, ...] = ()
    """What the user should know: code that is not that of the recording."""


EXPORT_FORMATS = {
    ".safetensors": "weights with labbench's record",
    ".pth": "a state_dict of torch, with labbench's record",
    ".pt": "a state_dict of torch, with labbench's record",
    ".pt2": "a program of torch.export",
    ".onnx": "an ONNX graph",
}
"""How the current model can be written: ending of the file, and what it then is."""


class Coupled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Layers that can only be cut together."""

    layers: tuple[str, ...]
    """They lose the same filters; in forward order."""
    readers: tuple[str, ...] = ()
    """They read those channels, and lose the inputs."""
    norms: tuple[str, ...] = ()
    channels: int = 0
    blocks: int = 1
    """From each of so many groups the same places go."""
    why: str = ""
    """What couples the layers; empty for a layer alone."""
    refused: str = ""
    """Why they cannot be cut, or ""."""


class Grouped(Event, frozen=True):
    """Which layers change together. Never recorded."""

    groups: tuple[Coupled, ...]


class Exported(Event, frozen=True):
    """The current model was written to a file. Never recorded."""

    path: str
    size: int
    """Bytes."""
    gzipped: int = 0
    """Bytes after gzip at level 6; 0: not measured."""
    loaded: int = 0
    """Bytes of the parameters of the model as it was loaded, in float32; 0: not told."""
    deviation: float | None = None
    """Of a program's answers from the bench's model: the largest difference of a logit, as a part of the largest logit
    or of 1. None for files of weights."""
    remarks: tuple[str, ...] = ()
    """What the user should know, such as how images are normalized."""


class Died(Event, frozen=True):
    """The worker is gone; the session has everything up to here."""

    error: str


class Closed(Event, frozen=True):
    """The recording ends here in order. A file without it at its end was cut off, or is being written."""


AnyEvent: TypeAlias = (
    Ready
    | Started
    | Progress
    | Metric
    | Sparsity
    | Probed
    | Finished
    | Failed
    | Previewed
    | Restored
    | Grouped
    | Exported
    | Died
    | Closed
)


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag=str.lower):
    """What a front end asks of the bench beside operations; nothing of it is recorded. Subclasses only add fields."""


class Stop(Request, frozen=True):
    """End the running operation within a second, keeping what was learned"""


class Preview(Request, frozen=True):
    """Try an operation and throw the result away"""

    operation: AnyOperation


class Point(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A point of the history: a change of the model, and what it was made from."""

    number: int
    """Of the operation that made it, from 1."""
    parent: int
    """The point before it; 0 for none."""
    operation: AnyOperation
    fingerprint: str = ""
    """Of the state after it, to find its checkpoint; empty: recompute."""


class Restore(Request, frozen=True):
    """Stand where a session had left it, from checkpoints where they are there"""

    points: tuple[Point, ...] = ()
    """In the order of time."""
    now: int = 0
    """The point to stand at; 0 for none."""
    count: int = 0
    """Operations that were finished so far."""
    latest: dict[int, int] = {}
    """Where redo leads, point by point."""
    names: dict[str, int] = {}


def restore_along(
    operations: Sequence[AnyOperation], fingerprints: Sequence[str] = (), now: int | None = None
) -> Restore:
    """The request to stand at the end of these changes, one made from the other, or after the first `now` of them."""
    marks = fingerprints or ("",) * len(operations)
    points = tuple(
        Point(number=number, parent=number - 1, operation=operation, fingerprint=mark)
        for number, (operation, mark) in enumerate(zip(operations, marks, strict=True), 1)
    )
    count = len(points)
    latest = {number: number + 1 for number in range(1, count)}
    return Restore(points=points, now=count if now is None else now, count=count, latest=latest)


class Groups(Request, frozen=True):
    """Say which layers change together when filters are cut, and why"""


class Export(Request, frozen=True):
    """Write the current model to a file"""

    path: str
    """Its ending says the format: `EXPORT_FORMATS`."""


class Trust(Request, frozen=True):
    """Allow the code of a model of the user's own, by its name, until the bench ends

    Sent only when the person at this machine asked for it in this call. It has no answer, and no file can hold it.
    """

    model: str


AnyRequest: TypeAlias = AnyOperation | Stop | Preview | Restore | Groups | Export | Trust
