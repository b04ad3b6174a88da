"""A small catalogue and a small model, made by hand, for the tests of the screens."""

from labbench.session.catalogue import Catalogue, Entry, Knob, operation_entries
from labbench.session.events import Environment
from labbench.session.snapshot import LayerRow, Snapshot, Total


def entry(name, title, *knobs, **facts):
    return Entry(name=name, title=title, knobs=knobs, facts=facts)


SHORTCUT = Knob(name="shortcut", kind="choice", choices=("A", "B"), default="A", help="how a residual sum widens")
NORM = Knob(name="p", kind="choice", choices=(1, 2), default=2, help="which norm of a filter counts")

MODELS = (
    entry("lenet-300-100", "Two hidden layers, without convolutions", parameters=266_610),
    entry("lenet-5", "Two convolutions and three linear layers", parameters=61_706),
    entry("resnet-20", "Residual network for 32×32 images", SHORTCUT, parameters=269_722),
    entry("resnet-18", "The large residual network, with a stem for small images", parameters=11_173_962),
)
DATASETS = (
    entry(
        "digits",
        "Real handwritten digits, shipped with scikit-learn",
        images=1797,
        train=1077,
        shape="1×8×8",
        download=False,
    ),
    entry("shapes", "Generated shapes in three colours", images=12_000, shape="3×32×32", download=False),
    entry("mnist", "Handwritten digits", images=70_000, shape="1×28×28", download=True),
    entry("fashion-mnist", "Pictures of clothes", images=70_000, shape="1×28×28", download=True),
    entry("cifar10", "Photographs of ten things", images=60_000, shape="3×32×32", download=True),
    entry("cifar100", "Photographs of a hundred things", images=60_000, shape="3×32×32", download=True),
)
METHODS = (
    entry("magnitude", "The smallest weights first", granularity="weight"),
    entry("random", "Weights by chance, for comparison", granularity="weight"),
    entry("group-magnitude", "The weakest channels, with all that is coupled to them", NORM, granularity="filter"),
)


REGULARIZERS = (
    entry("l1", "Every weight is pulled at with the same force"),
    entry("hoyer", "Few weights carry all"),
)


def catalogue(*methods):
    return Catalogue(
        models=MODELS,
        datasets=DATASETS,
        methods=(*METHODS, *methods),
        operations=operation_entries(),
        regularizers=REGULARIZERS,
    )


def row(name, kind, shape, **more):
    weights = 1
    for size in shape:
        weights *= size
    known = {
        "parameters": weights + shape[0],
        "weights": weights,
        "weights_loaded": weights,
        "nonzero": weights,
        "channels": shape[0],
        "channels_loaded": shape[0],
        "inputs": shape[1],
        "inputs_loaded": shape[1],
        "filters_unique": shape[0],
    }
    return LayerRow(name=name, kind=kind, shape=shape, **{**known, **more})


ROWS = (
    row("conv1", "conv", (6, 1, 5, 5)),
    row("conv2", "conv", (16, 6, 5, 5)),
    row("fc1", "linear", (120, 400)),
    row("fc2", "linear", (84, 120)),
    row("fc3", "linear", (10, 84)),
)


def snapshot(rows=ROWS, **more):
    loaded = sum(one.weights_loaded for one in rows)
    nonzero = sum(one.nonzero for one in rows)
    now = sum(one.weights for one in rows)
    biases = sum(one.parameters - one.weights for one in rows)
    known = {
        "model": "lenet-5",
        "dataset": "digits",
        "device": "cpu",
        "classes": tuple("0123456789"),
        "rows": rows,
        "prunable": Total(loaded=loaded, now=now, nonzero=nonzero),
        "whole": Total(loaded=loaded + biases, now=now + biases, nonzero=nonzero + biases),
        "unique": nonzero,
        "macs": 416_520,
        "macs_loaded": 416_520,
    }
    return Snapshot(**{**known, **more})


ENVIRONMENT = Environment(
    labbench="0.1.0",
    python="3.12",
    torch="2.9",
    torch_pruning="1.6",
    sklearn="1.7",
    numpy="2.3",
    machine="x86_64 Linux",
    threads=2,
    device="cuda:0",
    devices=("cpu", "cuda:0"),
)
