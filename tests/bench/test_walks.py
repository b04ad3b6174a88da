"""Random sessions: whatever is done in whatever order, what holds for every state holds. Hypothesis draws the walks;
`METHODS` is read, so a new method takes part by being there."""

import math
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from bench_examples import answers, picture, restore_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from walked import NETWORKS

from labbench.bench.apply import apply
from labbench.bench.clusterings import CLUSTERINGS
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.methods import METHODS
from labbench.bench.models import Model
from labbench.bench.regularizers import REGULARIZERS
from labbench.bench.states import opened
from labbench.bench.states.checkpoints import Cache, fill, read, save
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State, trace_layers
from labbench.bench.states.surgery import sliced
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Tools
from labbench.session.operations import (
    AnyOperation,
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Load,
    Measure,
    Prune,
    Recalibrate,
    Redo,
    Undo,
    Unfreeze,
    Unprune,
)
from labbench.session.snapshot import LayerRow

GLOBS = ("*", "layer1", "layer2", "conv1", "fc", "*.conv1", "*.conv2", "layer2.0.shortcut", "layer2.0.conv2")
FROZEN = ("conv1", "fc", "layer1.0.conv1", "layer2.0.conv2", "*bn1")  # few: most operations must find something to do
WALKS = 28
LONGEST = 14  # operations

globs = st.lists(st.sampled_from(GLOBS), min_size=1, max_size=2, unique=True).map(tuple)
seeds = st.integers(0, 8)


class Reopen:
    """The app is closed and opened again."""


KINDS: dict[st.SearchStrategy[AnyOperation | Reopen], int] = {
    st.builds(
        Prune,
        layers=globs,
        amount=st.integers(1, 18).map(lambda n: n / 20),
        method=st.sampled_from(sorted(METHODS)),
        scope=st.sampled_from(["layer", "global"]),
        seed=seeds,
    ): 8,
    st.builds(
        Finetune,
        epochs=st.just(1),
        optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
        lr=st.just(0.01),
        weight_decay=st.just(0.01),
        tied=st.booleans(),
        keep=st.sampled_from(["best", "last"]),
        steps=st.sampled_from([1, 2]),
        augment=st.booleans(),
        schedule=st.sampled_from(["cosine", "one-cycle", "plateau", "ramp"]),
        regularizer=st.sampled_from(["", *REGULARIZERS]),
        distill=st.sampled_from([0.0, 0.0, 0.5]),
        precision=st.sampled_from(["fp32", "bf16"]),
        layout=st.sampled_from(["contiguous", "channels_last"]),
        engine=st.sampled_from(["plain", "fast"]),
    ): 6,
    st.builds(Recalibrate, batches=st.just(10), seed=seeds): 1,
    st.builds(
        Cluster,
        layers=globs,
        fraction=st.sampled_from([0.2, 0.5, 0.8]),
        method=st.sampled_from(sorted(CLUSTERINGS)),
        seed=seeds,
    ): 3,
    (freezes := st.builds(Freeze, layers=st.sampled_from(FROZEN).map(lambda name: (name,)), norms=st.booleans())): 2,
    st.builds(
        Freeze,
        types=st.sampled_from(["all", "conv", "linear"]),
        first=st.sampled_from([0.2, 0.4]),
        of=st.sampled_from(["layers", "weights"]),
    ): 1,
    st.builds(Unfreeze): 1,
    st.builds(Unprune, layers=globs): 1,
    st.sampled_from([Undo(), Redo()]): 3,
    st.just(Finetune(resume=True)): 2,
    st.just(Reopen()): 2,
    st.sampled_from([Evaluate(), Measure(batches=2)]): 1,
}
"""How an operation is drawn, and how often against the others."""
DEALT = [kind for kind, often in KINDS.items() for _ in range(often)]
walks = st.lists(
    st.integers(0, len(DEALT) - 1).flatmap(lambda number: DEALT[number]), min_size=LONGEST // 2, max_size=LONGEST
)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Residual networks of two blocks (8 and 16 filters), and other small ones, as if they were in the catalogue."""

    def build(shape: tuple[int, int, int], classes: int, *, network: str = "B") -> nn.Module:
        return NETWORKS[network](classes)

    monkeypatch.setitem(opened.MODELS, "small", Model(build, 8))
    return Load(model="small", dataset="digits", device="cpu")


folders = count()


@settings(
    max_examples=WALKS,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # shrinking a walk of training runs takes minutes; one as long as this can be read
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=st.none() | freezes, walk=walks, network=st.sampled_from(["A", "B", *NETWORKS]))
def test_whatever_is_done_in_whatever_order_holds_together(
    load: Load, tools: Tools, tmp_path: Path, first: Freeze | None, walk: list[AnyOperation | Reopen], network: str
) -> None:
    folder = tmp_path / str(next(folders))
    timeline = Timeline(Cache(folder, 2**30))
    opening = Load(model=load.model, dataset=load.dataset, device=load.device, options={"network": network})
    loaded = timeline.do(opening, tools, lambda state: state).state
    done, undone = [everything(loaded)], list[object]()
    for operation in [*([first] if first else []), *walk]:
        if isinstance(operation, Reopen):
            timeline = reopened(timeline, tools)
            assert everything(timeline.state) == done[-1], "another state came back from the store"
            continue
        before, was = timeline.state, picture(timeline.state)
        try:
            made = timeline.do(operation, tools, lambda state: state).state
        except (BenchError, Stopped) as error:
            assert str(error), operation
            assert timeline.state is before
            continue
        finally:
            assert picture(before) == was, f"{operation} changed the state it was given"
        match operation:
            case Undo():
                undone.append(done.pop())
            case Redo():
                done.append(undone.pop())
            case Evaluate() | Measure():
                pass
            case _:
                done, undone = [*done, everything(made)], []
                stands_still(operation, before, made)
        assert everything(made) == done[-1], f"{operation} gave another state than was there before"
        holds(made, loaded)
    again = None
    for change in timeline.done:
        again = apply(change.operation, again, tools).state
    assert again is not None
    assert everything(again) == done[-1], "doing it all again gave another state"
    survives(again, loaded, folder)


def reopened(timeline: Timeline, tools: Tools) -> Timeline:
    """The timeline as another process has it from the same store, where nothing may have to be computed again."""
    other = Timeline(Cache(timeline.cache.store.folder, 2**30))
    other.restore(restore_of(timeline), tools, lambda state: state)
    assert other.recomputed == 0
    return other


def everything(state: State) -> tuple[object, ...]:
    """What makes a state, apart from figures that were measured."""
    return fingerprint(state), state.frozen, dict(state.kept), dict(state.last)


def stands_still(operation: AnyOperation, before: State, after: State) -> None:
    """Fails if something moved that must not: frozen bits; in training, zeros that are held and tied filters."""
    for name in before.frozen & after.frozen:
        old, new = before.module(name).state_dict(), after.module(name).state_dict()
        assert all(torch.equal(old[key], new[key]) for key in old), f"{operation} moved {name}"
    match operation:
        case Finetune():
            assert {n: m.tolist() for n, m in after.masks.items()} == {n: m.tolist() for n, m in before.masks.items()}
            for name in set(before.clusters) & set(after.clusters):
                assert torch.equal(before.clusters[name], after.clusters[name])
            if operation.tied:
                assert set(before.clusters) == set(after.clusters)
        case Prune():
            assert snapshot(after, final=False).prunable.nonzero < snapshot(before, final=False).prunable.now
        case _:
            pass


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
        assert labels.shape in ((len(weight),), weight.shape)
        columns = labels.flatten(1).T if labels.dim() > 1 else labels.expand(weight[0].numel(), -1)
        for column, values in zip(columns, weight.flatten(1).T, strict=True):
            assert all(len(values[column == label].unique()) == 1 for label in column.unique())
    for name in names:
        owner, _, key = name.rpartition(".")
        tensor = state.model.get_parameter(name)
        if owner in state.kept:
            module = loaded.module(owner)
            cut = sliced(module.get_parameter(key), state.kept[owner], getattr(module, "groups", 1))
            assert tensor.shape == cut.shape
        else:
            assert tensor.shape == loaded.model.get_parameter(name).shape
    assert answers(state, images=2).isfinite().all()
    figures = snapshot(state)
    traced = {layer.name: layer for layer in trace_layers(state.model, state.data.shape, state.device)}
    assert [row.name for row in figures.rows] == list(traced) == [layer.name for layer in loaded.layers]
    for row in figures.rows:
        counted_slowly(row, state)
    prunable = [row for row in figures.rows if row.prunable]
    values = [value for parameter in state.model.parameters() for value in parameter.flatten().tolist()]
    assert (figures.whole.now, figures.whole.nonzero) == (len(values), sum(value != 0 for value in values))
    assert figures.prunable.nonzero == sum(row.nonzero for row in prunable)
    assert figures.prunable.loaded == sum(layer.weights for layer in loaded.layers if layer.prunable)
    assert figures.macs == sum(row.macs for row in figures.rows) <= figures.macs_loaded
    assert figures.unique <= figures.prunable.now <= figures.prunable.loaded


def counted_slowly(row: LayerRow, state: State) -> None:
    """Fails unless a row of the snapshot is what counting number by number gives."""
    assert row.frozen == (row.name in state.frozen)
    held = state.masks.get(row.name)
    assert row.masked == (held is not None and not held.all())
    if not row.prunable:
        return
    filters = state.weight(row.name).flatten(2).tolist() if len(row.shape) > 2 else [
        [[value] for value in one] for one in state.weight(row.name).tolist()
    ]  # fmt: skip
    outputs, inputs, places = len(filters), len(filters[0]), len(filters[0][0])
    values = [value for one in filters for kernel in one for value in kernel]
    groups = getattr(state.module(row.name), "groups", 1)  # each filter reads the channels of its group
    assert (row.channels, row.inputs, row.weights) == (outputs, inputs * groups, math.prod(row.shape))
    assert row.nonzero == sum(value != 0 for value in values)
    assert row.filters_zero == sum(not any(map(any, one)) for one in filters)
    assert row.inputs_zero == sum(not any(any(one[i]) for one in filters) for i in range(inputs))
    assert row.kernels_zero == sum(not any(kernel) for one in filters for kernel in one)
    assert row.columns_zero == sum(
        not any(one[i][place] for one in filters) for i in range(inputs) for place in range(places)
    )
    distinct = {tuple(value + 0.0 for kernel in one for value in kernel) for one in filters}
    assert row.filters_unique == len(distinct) <= row.channels <= row.channels_loaded
    clusters = state.clusters.get(row.name)
    if clusters is not None and clusters.dim() > 1:
        across = zip(*([value for kernel in one for value in kernel] for one in filters), strict=True)
        assert row.weights_unique == sum(len(set(place)) for place in across) <= row.clusters * inputs * places
    else:
        assert row.weights_unique is None
        assert row.clusters == 0 or row.filters_unique <= row.clusters
    assert row.macs % row.weights == 0 and row.macs_nonzero == row.macs // row.weights * row.nonzero


def survives(state: State, loaded: State, folder: Path) -> None:
    """Fails unless the state comes back from a file."""
    save(state, folder / "walk.safetensors")
    tensors, record = read(folder / "walk.safetensors")
    assert record is not None
    back = replace(fill(loaded, tensors, record, folder), frozen=state.frozen)
    assert fingerprint(back) == fingerprint(state)
    holds(back, loaded)
