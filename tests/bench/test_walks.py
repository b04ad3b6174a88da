"""Random sessions: whatever is done in whatever order, what holds for every state holds."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_examples import Small, answers, doing, picture

from labbench.bench.apply import Tools
from labbench.bench.checkpoints import fill, read, save
from labbench.bench.errors import BenchError
from labbench.bench.measure import fingerprint, snapshot
from labbench.bench.methods import METHODS
from labbench.bench.regularizers import REGULARIZERS
from labbench.bench.state import State, trace_layers
from labbench.bench.surgery import sliced
from labbench.session.operations import (
    AnyOperation,
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Prune,
    Recalibrate,
    Unfreeze,
    Unprune,
)

GLOBS = ("*", "layer1", "layer2", "conv1", "fc", "*.conv1", "*.conv2", "layer2.0.shortcut", "layer2.0.conv2", "*bn1")
STEPS = 14


def any_operation(dice: random.Random) -> AnyOperation:
    """An operation as a student at random might do it."""
    layers = tuple(dice.sample(GLOBS, dice.choice((1, 1, 2))))
    kinds: list[tuple[type[AnyOperation], dict[str, Any]]] = [
        (Freeze, {"layers": layers[:1], "norms": dice.random() < 0.7}),
        (Unfreeze, {"layers": layers}),
        (Unprune, {"layers": layers}),
        (Evaluate, {}),
        (Recalibrate, {"batches": 10, "seed": dice.randrange(9)}),
        (Cluster, {"layers": layers, "fraction": dice.choice((0.2, 0.5, 0.8)), "seed": dice.randrange(9)}),
        (
            Finetune,
            {
                "epochs": dice.choice((1, 2)),
                "batch_size": 64,
                "optimizer": dice.choice(("sgd", "adam", "adamw")),
                "lr": 0.01,
                "weight_decay": 0.01,
                "tied": dice.random() < 0.8,
                "keep": dice.choice(("best", "last")),
                "steps": dice.choice((0, 0, 2)),
                "schedule": dice.choice(("cosine", "one-cycle", "plateau", "ramp")),
                "regularizer": dice.choice(("", *REGULARIZERS)),
                "distill": dice.choice((0.0, 0.0, 0.5)),
                "precision": dice.choice(("fp32", "fp32", "bf16")),
                "resume": dice.random() < 0.2,
            },
        ),
    ]
    prune = {
        "layers": layers,
        "amount": round(dice.random(), 2),
        "method": dice.choice(list(METHODS)),
        "scope": dice.choice(("layer", "global")),
        "seed": dice.randrange(9),
    }
    kind, fields = dice.choice([*kinds, *[(Prune, prune)] * 5])
    return kind(**fields)


def holds(state: State, loaded: State) -> None:
    """Fails unless everything that is remembered of a model is true of it."""
    names = [name for name, _ in loaded.model.named_parameters()]
    assert [name for name, _ in state.model.named_parameters()] == names
    assert all(p.requires_grad and p.grad is None and p.isfinite().all() for p in state.model.parameters())
    for name, mask in state.masks.items():
        assert mask.shape == state.weight(name).shape
        assert not state.weight(name)[~mask].any()
    for name, labels in state.clusters.items():
        weight = state.weight(name)
        assert labels.shape == (len(weight),)
        assert all((weight[labels == label] == weight[labels == label][0]).all() for label in labels.unique())
    for name in names:
        owner, _, key = name.rpartition(".")
        tensor = state.model.get_parameter(name)
        if owner in state.kept:
            assert tensor.shape == sliced(loaded.module(owner).get_parameter(key), state.kept[owner]).shape
        else:
            assert tensor.shape == loaded.model.get_parameter(name).shape
    figures = snapshot(state)
    assert [layer.name for layer in trace_layers(state.model, state.data.shape, state.device)] == [
        layer.name for layer in loaded.layers
    ]
    for row in figures.rows:
        if row.prunable:
            assert 0 <= row.sparsity <= 1
            assert 1 <= row.filters_unique <= row.channels <= row.channels_loaded
            assert row.frozen == (row.name in state.frozen)
            assert row.clusters == 0 or row.filters_unique <= row.clusters
    assert figures.macs <= figures.macs_loaded
    assert figures.unique <= figures.prunable.now <= figures.prunable.loaded
    assert answers(state, images=2).shape == (2, 10)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_whatever_is_done_in_whatever_order_holds_together(
    small: Small, tmp_path: Path, seed: int, shortcut: str
) -> None:
    dice = random.Random(f"{shortcut} {seed}")
    loaded = small(shortcut)
    state, done = loaded, 0
    for _ in range(STEPS):
        operation, before = any_operation(dice), picture(state)
        try:
            made = doing(state, operation, Tools(lambda name, options, side: loaded.data)).state
        except BenchError as error:
            assert str(error), operation
            assert picture(state) == before
            continue
        assert picture(state) == before
        done += 1
        for name in state.frozen & made.frozen:
            old, new = state.module(name).state_dict(), made.module(name).state_dict()
            assert all(torch.equal(old[key], new[key]) for key in old), f"{operation} moved {name}"
        if isinstance(operation, Prune):
            assert snapshot(made).prunable.nonzero < snapshot(state).prunable.now
        holds(made, loaded)
        state = made
    assert done
    save(state, tmp_path / "walk.safetensors")
    tensors, record = read(tmp_path / "walk.safetensors")
    assert record is not None
    back = fill(loaded, tensors, record, tmp_path)
    assert fingerprint(State(**{**vars(back), "frozen": state.frozen})) == fingerprint(state)
    holds(back, loaded)
