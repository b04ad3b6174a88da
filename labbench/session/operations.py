"""What a user can do to a model, as plain data. An operation describes itself in one line, and its base says of what
kind it is; its fields carry the range, the explanation and the facts from which forms, recipes and refusals are made.

The facts stand in `Meta(extra=…)` and reach everybody as those of a `labbench.session.catalogue.Knob`, which says what
each of them means."""

import functools
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct, structs

from labbench.session.prose import in_one_line

Value: TypeAlias = bool | int | float | str
LayerNames: TypeAlias = Annotated[
    tuple[str, ...],
    Meta(description="layers by name or glob, such as layer1.*", extra={"once": True, "layers": "prunable"}),
]
AllLayerNames: TypeAlias = Annotated[LayerNames, Meta(extra={"once": True, "layers": "all"})]
"""Norms may be among them."""
Seed: TypeAlias = Annotated[
    int, Meta(ge=0, le=2**31 - 1, description="what is random is the same for the same seed", extra={"rare": True})
]

OWN_TARGET = frozenset({"threshold", "std-ratio", "percentile", "n-m"})
"""Methods that go by a rule of their own: amount and scope mean nothing to them."""
PLAIN: Mapping[str, str] = {"precision": "fp32", "layout": "contiguous", "engine": "plain"}
"""How a finetune computes where nothing is chosen: the fields of which the default is "auto"."""
MARK_LIMIT = 3  # more names than this are counted, not listed, in a description


class Operation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag=str.lower):
    """One thing done at the bench. The subclasses only add fields: this carries how they are written in a file."""

    PREVIEWED: ClassVar[bool] = False
    """Whether what it would do can be shown before it is done."""

    def describe(self) -> str:
        """What was done, in one line of words."""
        return type(self).__name__.lower()


class Change(Operation, frozen=True):
    """Makes a new state, a point of the history."""


class Look(Operation, frozen=True):
    """Looks at the model as it is; changes nothing."""


class Walk(Operation, frozen=True):
    """Goes to a point of the history that is there."""


class Annotation(Operation, frozen=True):
    """Says something of the session or of one of its points; the model stays as it is."""


Standing: TypeAlias = Look | Annotation
"""Those that leave the model and the place in the history as they are."""


class Load(Change, frozen=True):
    """Open a model on a data set"""

    model: Annotated[
        str,
        Meta(
            description="a name of the model catalogue, or code of your own: net.py:build",
            extra={"menus": ("models",), "fills": "options"},
        ),
    ]
    dataset: Annotated[
        str,
        Meta(description="a name of the data set catalogue", extra={"menus": ("datasets",), "fills": "data_options"}),
    ]
    options: Annotated[dict[str, Value], Meta(description="the model's own options, such as depth")] = {}
    data_options: Annotated[dict[str, Value], Meta(description="the data set's own options, such as a folder")] = {}
    weights: Annotated[
        str, Meta(description="file of weights to start from; empty: initialized from the seed", extra={"rare": True})
    ] = ""
    sha256: Annotated[
        str, Meta(description="hash of that file, recorded when it was read; empty: any", extra={"recorded": True})
    ] = ""
    code_sha256: Annotated[
        str,
        Meta(
            description="hash of the file of a model of your own, recorded when it was imported; empty: any",
            extra={"recorded": True},
        ),
    ] = ""
    seed: Seed = 0
    device: Annotated[
        str, Meta(description="auto (cuda, else mps, else cpu) or a name such as cuda:1", extra={"rare": True})
    ] = "auto"

    def describe(self) -> str:
        start = f" from {self.weights}" if self.weights else ""
        return f"open {self.model}{_options(self.options)} on {self.dataset}{_options(self.data_options)}{start}"


class Freeze(Change, frozen=True):
    """Keep layers as they are through finetuning"""

    PREVIEWED: ClassVar[bool] = True

    layers: AllLayerNames = ("*",)
    types: Annotated[Literal["all", "conv", "linear"], Meta(description="only layers of this type")] = "all"
    first: Annotated[
        float, Meta(gt=0, le=1, description="of these layers only the first, in forward order: so much of them")
    ] = 1.0
    of: Annotated[
        Literal["layers", "weights"],
        Meta(description="first counts layers (rounded), or weights (as many layers as hold no more)"),
    ] = "layers"
    norms: Annotated[bool, Meta(description="hold the norm behind each layer too: its scale and its statistics")] = True

    def describe(self) -> str:
        first = f"the first {percent(self.first)} of " if self.first < 1 else ""
        counted = "the weights of " if first and self.of == "weights" else ""
        kind = {"all": "", "conv": " (convolutions)", "linear": " (linear)"}[self.types]
        return f"freeze {first}{counted}{_names(self.layers)}{kind}" + (
            "" if self.norms else " but not the norms behind"
        )


class Unfreeze(Change, frozen=True):
    """Let frozen layers train again, with the norms behind them"""

    PREVIEWED: ClassVar[bool] = True

    layers: AllLayerNames = ("*",)

    def describe(self) -> str:
        return f"unfreeze {_names(self.layers)}"


class Prune(Change, frozen=True):
    """Remove weights or filters, to a target sparsity against the loaded model"""

    PREVIEWED: ClassVar[bool] = True

    layers: LayerNames = ("*",)
    amount: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="target: fraction of the loaded weights (or filters) that shall be gone",
            extra={"idle_for": ("own_target",)},
        ),
    ] = 0.5
    method: Annotated[
        str,
        Meta(
            description="a name of the method catalogue: what is removed first",
            extra={"menus": ("methods",), "fills": "options"},
        ),
    ] = "magnitude"
    scope: Annotated[
        Literal["layer", "global"],
        Meta(
            description="layer: the amount in each layer; global: over the chosen layers together",
            extra={"idle_for": ("own_target", "in_layers")},
        ),
    ] = "layer"
    options: Annotated[dict[str, Value], Meta(description="the method's own options")] = {}
    amounts: Annotated[
        dict[str, Annotated[float, Meta(ge=0, le=1)]],
        Meta(
            description="other amounts by layer or glob, such as layer1.*=0.3; the last that fits counts",
            extra={"rare": True, "once": True, "only_with": {"scope": ("layer",)}, "idle_for": ("own_target",)},
        ),
    ] = {}
    round_to: Annotated[
        int,
        Meta(
            ge=1,
            le=4096,
            description="filters are kept in the nearest multiple of this, at least one of it",
            extra={"rare": True, "idle_for": ("own_target", "weight")},
        ),
    ] = 1
    maximum: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="no layer loses more than this fraction of what it was loaded with",
            extra={"rare": True, "idle_for": ("own_target",)},
        ),
    ] = 1.0
    lenient: Annotated[
        bool,
        Meta(
            description="where everything is gone that shall go, go on instead of refusing: steps of a series",
            extra={"rare": True, "idle_for": ("own_target",)},
        ),
    ] = False
    filters: Annotated[
        dict[str, tuple[int, ...]],
        Meta(
            description="by layer the numbers, in the loaded model, of the filters that went; empty: as chosen",
            extra={"recorded": True},
        ),
    ] = {}
    seed: Seed = 0

    def describe(self) -> str:
        how = f"{self.method}{_options(self.options)}"
        if self.method in OWN_TARGET:
            return f"prune {_names(self.layers)} ({how})"
        limits = ", global" if self.scope == "global" else ""
        limits += f", multiples of {self.round_to}" if self.round_to > 1 else ""
        limits += f", at most {percent(self.maximum)} of a layer" if self.maximum < 1 else ""
        return f"prune {_names(self.layers)} to {percent(self.amount)}{_amounts(self.amounts)} ({how}{limits})"


class Unprune(Change, frozen=True):
    """Let pruned weights train again: their zeros become ordinary values"""

    PREVIEWED: ClassVar[bool] = True

    layers: LayerNames = ("*",)
    begin: Annotated[
        Literal["zero", "last"], Meta(description="from zero, or from the last values before they were pruned")
    ] = "zero"

    def describe(self) -> str:
        return f"unprune {_names(self.layers)}" + (" to the last values" if self.begin == "last" else "")


class Cluster(Change, frozen=True):
    """Share filters: in each layer every filter becomes its cluster's centroid"""

    PREVIEWED: ClassVar[bool] = True

    layers: LayerNames = ("*",)
    k: Annotated[int, Meta(ge=0, description="distinct filters that remain in each layer; 0: use the fraction")] = 0
    fraction: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="distinct filters that remain, as a fraction of a layer's filters",
            extra={"only_with": {"k": (0,)}},
        ),
    ] = 0.5
    ks: Annotated[
        dict[str, Annotated[int, Meta(ge=0)]],
        Meta(
            description="k for some of the layers, such as layer1.*=8; the last that fits counts",
            extra={"rare": True, "once": True},
        ),
    ] = {}
    method: Annotated[
        str,
        Meta(
            description="a name of the clustering catalogue: what makes filters alike",
            extra={"menus": ("clusterings",), "fills": "options"},
        ),
    ] = "k-means"
    options: Annotated[dict[str, Value], Meta(description="the clustering's own options")] = {}
    seed: Seed = 0

    def describe(self) -> str:
        kept = f"{self.k}" if self.k else f"{percent(self.fraction)} of the"
        mixed = f", {', '.join(f'{name} {k}' for name, k in self.ks.items())}" if self.ks else ""
        how = "" if self.method == "k-means" and not self.options else f" ({self.method}{_options(self.options)})"
        return f"cluster {_names(self.layers)} to {kept} filters{mixed}{how}"


class Finetune(Change, frozen=True):
    """Train on the training split; keep the best state by validation"""

    resume: Annotated[
        bool,
        Meta(
            description="go on with the run that was stopped, with its settings and its optimizer",
            extra={"offered": True},
        ),
    ] = False
    epochs: Annotated[int, Meta(ge=1, le=100_000, description="passes over the training split")] = 10
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Meta(description="what turns gradients into steps")] = "sgd"
    lr: Annotated[float, Meta(gt=0, description="learning rate: SGD about 0.05, Adam about 0.001")] = 0.05
    momentum: Annotated[
        float, Meta(ge=0, lt=1, description="of SGD, or the first beta of Adam", extra={"rare": True})
    ] = 0.9
    nesterov: Annotated[
        bool,
        Meta(
            description="SGD looks ahead along its momentum", extra={"rare": True, "only_with": {"optimizer": ("sgd",)}}
        ),
    ] = False
    weight_decay: Annotated[
        float, Meta(ge=0, description="pull of every trained weight towards zero", extra={"rare": True})
    ] = 5e-4
    schedule: Annotated[
        Literal["constant", "cosine", "multi-step", "one-cycle", "plateau", "ramp"],
        Meta(description="how the learning rate moves over the epochs"),
    ] = "cosine"
    milestones: Annotated[
        tuple[int, ...],
        Meta(
            description="epochs at which multi-step multiplies lr by gamma; none: 50 % and 75 %",
            extra={"only_with": {"schedule": ("multi-step",)}},
        ),
    ] = ()
    gamma: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="factor of the learning rate at each milestone, or on each plateau",
            extra={"only_with": {"schedule": ("multi-step", "plateau")}},
        ),
    ] = 0.1
    watch: Annotated[
        Literal["loss", "accuracy"],
        Meta(
            description="the validation figure that plateau waits for, never of test",
            extra={"only_with": {"schedule": ("plateau",)}},
        ),
    ] = "loss"
    patience: Annotated[
        int,
        Meta(
            ge=0,
            description="epochs without a better figure that plateau lets pass before lr falls",
            extra={"only_with": {"schedule": ("plateau",)}},
        ),
    ] = 3
    last: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="part of lr at which ramp ends: up in 6 epochs, down from 20 to 30",
            extra={"only_with": {"schedule": ("ramp",)}},
        ),
    ] = 0.001
    warmup: Annotated[
        int,
        Meta(
            ge=0,
            description="epochs in which lr rises to what the schedule says; 0: none",
            extra={"rare": True, "only_with": {"schedule": ("constant", "cosine", "multi-step", "plateau")}},
        ),
    ] = 0
    regularizer: Annotated[
        str, Meta(description="a name of the regularizer catalogue; empty: none", extra={"menus": ("regularizers",)})
    ] = ""
    strength: Annotated[
        float,
        Meta(
            ge=0,
            description="the penalty counts so much in what is minimized",
            extra={"only_with": {"regularizer": ()}},
        ),
    ] = 1e-4
    penalized: Annotated[
        tuple[str, ...],
        Meta(
            description="layers of the penalty by name or glob; frozen ones are left out",
            extra={"rare": True, "layers": "all", "only_with": {"regularizer": ()}},
        ),
    ] = ("*",)
    loss: Annotated[
        Literal["cross-entropy", "softmax", "scaled-softmax"],
        Meta(
            description="cross entropy on logits; the others feed it softmax outputs, to see it fail",
            extra={"rare": True},
        ),
    ] = "cross-entropy"
    scale: Annotated[
        float,
        Meta(
            gt=0,
            description="factor of the softmax output in scaled-softmax",
            extra={"rare": True, "only_with": {"loss": ("scaled-softmax",)}},
        ),
    ] = 10.0
    label_smoothing: Annotated[
        float, Meta(ge=0, lt=1, description="part of each label given to all classes", extra={"rare": True})
    ] = 0.0
    distill: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="weight of the dense model's answers against the labels; 0: none",
            extra={"rare": True},
        ),
    ] = 0.0
    temperature: Annotated[
        float,
        Meta(
            gt=0, description="softens both answers in distillation", extra={"rare": True, "only_with": {"distill": ()}}
        ),
    ] = 4.0
    batch_size: Annotated[int, Meta(ge=1, description="images in one step", extra={"rare": True})] = 64
    augment: Annotated[
        bool, Meta(description="random crops, and flips where the data set allows them", extra={"rare": True})
    ] = True
    clip: Annotated[
        float, Meta(ge=0, description="largest norm of all gradients together; 0: any", extra={"rare": True})
    ] = 0.0
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Meta(
            description="of the training step; auto: the faster in a short trial; figures are measured in fp32",
            extra={"rare": True},
        ),
    ] = "auto"
    layout: Annotated[
        Literal["auto", "contiguous", "channels_last"],
        Meta(
            description="how images lie in memory while it trains; auto: the faster in a short trial",
            extra={"rare": True},
        ),
    ] = "auto"
    engine: Annotated[
        Literal["auto", "plain", "fast"],
        Meta(
            description="fast computes the same in fewer operations, rounded otherwise; auto: the faster in a trial",
            extra={"rare": True},
        ),
    ] = "auto"
    tied: Annotated[
        bool, Meta(description="filters of one cluster train as one and stay equal", extra={"rare": True})
    ] = True
    keep: Annotated[
        Literal["best", "last"],
        Meta(description="which epoch's weights remain: best on validation, or the last", extra={"rare": True}),
    ] = "best"
    device: Annotated[
        str, Meta(description="empty: where the model was loaded; else auto, cpu, cuda, mps", extra={"rare": True})
    ] = ""
    steps: Annotated[
        int,
        Meta(
            ge=0,
            description="stop after so many steps, as a stopped run did; 0: all epochs",
            extra={"rare": True, "once": True},
        ),
    ] = 0
    seed: Seed = 0

    def describe(self) -> str:
        if self == Finetune(resume=True, steps=self.steps):  # the settings are those of the run that was stopped
            return "finetune, going on with the stopped run" + (f", to step {self.steps}" if self.steps else "")
        parts = [self.optimizer, f"lr {self.lr:g}", self.schedule]
        parts += [f"{self.regularizer} {self.strength:g}"] if self.regularizer else []
        parts += [f"distilled {percent(self.distill)}"] if self.distill else []
        parts += [self.loss] if self.loss != "cross-entropy" else []
        parts += ["resumed"] if self.resume else []
        parts += [f"stopped at step {self.steps}"] if self.steps else []
        return f"finetune {self.epochs} epoch{'s' if self.epochs > 1 else ''} ({', '.join(parts)})"


class Recalibrate(Change, frozen=True):
    """Measure the statistics of batch norms anew; no weight moves"""

    batches: Annotated[int, Meta(ge=10, le=100_000, description="training batches that are averaged over")] = 20
    batch_size: Annotated[int, Meta(ge=2, description="images in one batch")] = 64
    seed: Seed = 0

    def describe(self) -> str:
        return f"recalibrate batch norms ({self.batches} batches of {self.batch_size})"


class Evaluate(Look, frozen=True):
    """Measure accuracy on a split"""

    split: Annotated[
        Literal["validation", "test"], Meta(description="validation while you choose; test for the final figure")
    ] = "test"

    def describe(self) -> str:
        return f"evaluate on {self.split}"


class Measure(Look, frozen=True):
    """Look closely: paths, gradients, distinct values, stored bytes

    Changes nothing. The weights that lie on no path from input to output, those that never get a gradient from a few
    training batches (half of them with random labels), the distinct values, and the bytes of a compressed file.
    """

    batches: Annotated[int, Meta(ge=2, le=1000, description="training batches of 64 whose gradients are looked at")] = 8
    seed: Seed = 0

    def describe(self) -> str:
        return f"look closely ({self.batches} batches)"


class Scan(Look, frozen=True):
    """Try each layer alone: how accuracy falls as it is pruned

    Changes nothing. Each of the layers is pruned (or its filters are shared) by each amount, with all others as they
    are, and measured on the validation split: its sensitivity (Li et al. 2017, "Pruning Filters", section 3.2). Layers
    that are cut together are tried together, unless `coupled` is off: then a layer's own filters become zero, as in
    that paper, which ranks layers of a residual stream as far more robust than they are when really cut.
    """

    layers: LayerNames = ("*",)
    at: Annotated[
        tuple[Annotated[float, Meta(gt=0, lt=1)], ...],
        Meta(min_length=1, max_length=50, description="parts that shall be gone, such as 0.3 0.5 0.7"),
    ] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    method: Annotated[
        str,
        Meta(
            description="what removes: of the methods; or what shares: of the clusterings",
            extra={"menus": ("methods", "clusterings"), "fills": "options"},
        ),
    ] = "group-magnitude"
    options: Annotated[dict[str, Value], Meta(description="the method's own options")] = {}
    coupled: Annotated[
        bool, Meta(description="cut what must be cut together; off: only zero the layer's own filters, by their norm")
    ] = True
    seed: Seed = 0

    def describe(self) -> str:
        naive = "" if self.coupled else ", each layer's own filters zeroed"
        return f"scan {_names(self.layers)} ({self.method}{_options(self.options)}{naive})"


class Time(Look, frozen=True):
    """Time the forward pass against the model as it was opened

    Changes nothing. The two run in turn in one process, so that whatever else the machine does slows both.
    """

    batches: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=4096)], ...],
        Meta(min_length=1, max_length=8, description="images at once, such as 1 64"),
    ] = (1, 64)
    rounds: Annotated[int, Meta(ge=3, le=10_000, description="times that each of the two runs, after warming up")] = 30

    def describe(self) -> str:
        return f"time batches of {' and '.join(str(size) for size in self.batches)}"


class Undo(Walk, frozen=True):
    """Take back the last change of the model"""


class Redo(Walk, frozen=True):
    """Do again what was undone"""


class Jump(Walk, frozen=True):
    """Go to another point of the history; nothing is lost"""

    to: Annotated[str, Meta(min_length=1, max_length=60, description="number of the step that made it, or its name")]

    def describe(self) -> str:
        return f"jump to {'step ' if self.to.isdecimal() else ''}{self.to}"


class Name(Annotation, frozen=True):
    """Give a point of the history a name"""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=40,
            pattern=r"^[^\W\d][\w .-]*$",
            description="begins with a letter; one point each",
        ),
    ]
    at: Annotated[str, Meta(max_length=60, description="number or name of the point; empty: the model now")] = ""

    def describe(self) -> str:
        where = f"step {self.at} " if self.at.isdecimal() else f"{self.at} " if self.at else "this point "
        return f"name {where}{self.name}"


class Task(Annotation, frozen=True):
    """Set a task: goals that the bench checks as one works"""

    name: Annotated[
        str, Meta(min_length=1, max_length=60, description="a few words; a task of the same name replaces it")
    ]
    goals: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=80)], ...],
        Meta(
            min_length=1, max_length=12, description="such as parameters < 25 % or accuracy > 92.5 %; all must be met"
        ),
    ]
    text: Annotated[str, Meta(max_length=20_000, description="what to do, in words", extra={"once": True})] = ""

    def describe(self) -> str:
        more = f" and {len(self.goals) - 2} more" if len(self.goals) > MARK_LIMIT else ""
        return f"task {self.name}: {', '.join(self.goals[: 2 if more else MARK_LIMIT])}{more}"


class Note(Annotation, frozen=True):
    """Write a remark into the session"""

    text: Annotated[
        str,
        Meta(min_length=1, max_length=20_000, description="words for whoever plays this session", extra={"once": True}),
    ]
    chapter: Annotated[str, Meta(max_length=60, description="title of the chapter that begins here; empty: none")] = ""
    ask: Annotated[
        str, Meta(max_length=200, description="question whose answer the audience predicts first; empty: none")
    ] = ""
    figure: Annotated[
        Literal["accuracy", "sparsity", "parameters", "macs"],
        Meta(description="what answers it: this figure after the next step"),
    ] = "accuracy"

    def describe(self) -> str:
        line = in_one_line(self.text)
        return f"note: {line if len(line) <= 72 else line[:71] + '…'}"


OPERATIONS: dict[str, type[Operation]] = {
    kind.__name__.lower(): kind for base in (Change, Look, Walk, Annotation) for kind in base.__subclasses__()
}
"""By the name in a file."""

if TYPE_CHECKING:
    AnyOperation: TypeAlias = Operation
else:
    AnyOperation = functools.reduce(operator.or_, OPERATIONS.values())  # what is read of a file is one of these


def as_asked(operation: AnyOperation) -> AnyOperation:
    """The operation without the filters that the bench recorded: its method chooses them again."""
    return structs.replace(operation, filters={}) if isinstance(operation, Prune) else operation


def percent(fraction: float) -> str:
    """A fraction as a person reads it: 0.3 → "30 %", 0.125 → "12.5 %"."""
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"


def _names(layers: tuple[str, ...]) -> str:
    if layers == ("*",):
        return "all layers"
    return ", ".join(layers) if len(layers) <= MARK_LIMIT else f"{', '.join(layers[:2])} and {len(layers) - 2} more"


def _amounts(amounts: Mapping[str, float]) -> str:
    named = [f"{name} {percent(amount)}" for name, amount in amounts.items()]
    if len(named) > MARK_LIMIT:
        named = [*named[:2], f"{len(named) - 2} more"]
    return f", {', '.join(named)}" if named else ""


def _options(options: Mapping[str, Value]) -> str:
    return f" [{', '.join(f'{name} {value}' for name, value in options.items())}]" if options else ""
