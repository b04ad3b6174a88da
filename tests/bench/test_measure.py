"""Figures: MACs and counts by closed forms, accuracy against scikit-learn, snapshots as plain data."""

import json
import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from bench_examples import CPU, Opened, Small, distinct, do, noise, state_of, untouched, with_weights
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score, top_k_accuracy_score
from torch import nn
from torch.nn.utils import prune as hooked
from torch.utils.flop_counter import FlopCounterMode

from labbench.bench.errors import Stopped
from labbench.bench.measuring.accuracy import accuracy_of, among_best, evaluate
from labbench.bench.measuring.snapshot import histogram, snapshot, unique_filters, values_at_places
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State, trace_layers
from labbench.bench.states.user_model import fold_masks
from labbench.session import figures
from labbench.session.events import Progress
from labbench.session.operations import Cluster, Evaluate, Finetune, Freeze, Prune, Unprune
from labbench.session.snapshot import LayerRow, Snapshot

MODELS = [("lenet-5", ""), ("lenet-300-100", ""), ("resnet-20", "A"), ("resnet-20", "B"), ("resnet-18", "")]


def row(state: State, name: str) -> LayerRow:
    found = snapshot(state, final=False).row(name)
    assert found is not None
    return found


# Multiply-accumulates


def test_macs_of_lenet_5_are_those_of_the_closed_form(opened: Opened) -> None:
    macs = {layer.name: layer.macs for layer in opened("lenet-5").layers}
    assert macs == {
        "conv1": 24 * 24 * 5 * 5 * 1 * 20,
        "conv2": 8 * 8 * 5 * 5 * 20 * 50,
        "fc1": 800 * 500,
        "fc2": 500 * 10,
    }
    assert snapshot(opened("lenet-5"), final=False).macs == 2_293_000


@pytest.mark.parametrize(("model", "shortcut"), MODELS)
def test_macs_are_half_the_flops_that_torch_counts(opened: Opened, model: str, shortcut: str) -> None:
    state = opened(model, shortcut)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        state.model(torch.zeros(1, *state.data.shape))
    assert snapshot(state, final=False).macs == sum(layer.macs for layer in state.layers)
    assert 2 * snapshot(state, final=False).macs == counter.get_total_flops()


def test_macs_after_a_cut_are_half_the_flops_that_torch_counts(opened: Opened) -> None:
    state = do(opened("resnet-20", "B"), Prune(method="group-magnitude", amount=0.4))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        state.model(torch.zeros(1, *state.data.shape))
    figures = snapshot(state, final=False)
    assert 2 * figures.macs == counter.get_total_flops()
    assert figures.macs_loaded == snapshot(opened("resnet-20", "B"), final=False).macs


def test_macs_of_groups_and_of_layers_that_are_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)
            self.unused = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x)).flatten(1)

    layers = trace_layers(Twice(), (4, 6, 6), CPU)
    assert [(layer.name, layer.macs) for layer in layers] == [("conv", 2 * 36 * 4 * 2 * 9), ("unused", 0)]


class OwnConv(nn.Conv2d):
    """A subclass, as own models have them."""


LAYERS = {
    "groups": nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), nn.ReLU()),
    "depthwise": nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.Conv2d(4, 6, 1)),
    "subclass": nn.Sequential(OwnConv(4, 5, 3, stride=2, dilation=2, padding=2), nn.Hardswish()),
    "one dimension": nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 3, 5, stride=2), nn.GroupNorm(1, 3)),
    "linear": nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 7), nn.Sigmoid(), nn.Linear(7, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_macs_count_convolutions_and_linear_layers_of_one_image_and_nothing_else(name: str) -> None:
    layers = trace_layers(LAYERS[name].eval(), (4, 8, 8), CPU)
    for batch in (1, 5):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            LAYERS[name](torch.zeros(batch, 4, 8, 8))
        assert 2 * batch * sum(layer.macs for layer in layers) == counter.get_total_flops()
    assert all(layer.macs == 0 for layer in layers if layer.kind == "norm")


def test_macs_of_what_is_not_zero_are_those_of_a_loop_over_weights_and_places(small: Small) -> None:
    state = do(small(), Prune(amount=0.7))
    places = {"conv1": 64, "layer1.0.conv1": 64, "layer2.0.conv1": 16, "fc": 1}
    for name, count in places.items():
        assert row(state, name).macs_nonzero == sum(count for value in state.weight(name).flatten() if value != 0)


# Accuracy


def test_top_5_is_that_of_scikit_learn_and_where_it_means_nothing_there_is_none(opened: Opened) -> None:
    state = do(opened("lenet-300-100"), Finetune(epochs=1, lr=0.02, augment=False))
    x, y = state.data.on(CPU)["test"]
    with torch.no_grad():
        logits = state.model(state.data.normalized(x))
    found = evaluate(state.model, state.data, CPU, "test", lambda _: None)
    assert found.top5 == pytest.approx(top_k_accuracy_score(y, logits, k=5, labels=range(10)))
    assert found.top5 is not None and found.top1 < found.top5 < 1
    few = state_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 5)), noise((1, 2, 2), classes=5))
    assert evaluate(few.model, few.data, CPU, "test", lambda _: None).top5 is None


def test_of_equal_answers_the_first_are_the_best_and_no_number_is_no_answer() -> None:
    truth = torch.arange(8)
    assert among_best(torch.zeros(8, 8), truth, 5).tolist() == [True] * 5 + [False] * 3
    assert among_best(torch.full((8, 8), math.nan), truth, 5).tolist() == [True] + [False] * 7  # as argmax has it
    assert among_best(torch.eye(8), truth, 1).all()


def test_the_figures_are_of_every_image_and_not_of_the_last_batch(small: Small, monkeypatch) -> None:
    monkeypatch.setattr("labbench.bench.measuring.accuracy.EVALUATION_BATCH", 50)
    found = evaluate(small().model, small().data, CPU, "test", lambda _: None)
    assert found.images == sum(map(sum, found.confusion)) == 110
    x, y = small().data.on(CPU)["test"]
    with torch.no_grad():
        right = small().model(small().data.normalized(x)).topk(5, 1).indices == y[:, None]
    assert found.top5 == pytest.approx(float(right.any(1).float().mean()))


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("model", ["lenet-300-100", "lenet-5"])
def test_accuracy_is_that_of_scikit_learn(opened: Opened, model: str, split: str) -> None:
    state = do(opened(model), Finetune(epochs=3, lr=0.05, augment=False, batch_size=25))
    x, y = state.data.on(CPU)[split]
    with torch.no_grad():
        logits = state.model(state.data.normalized(x)).double()
    answer, chances = logits.argmax(1), logits.softmax(1).numpy()
    found = evaluate(state.model, state.data, CPU, split, lambda _: None)
    recalls = recall_score(y, answer, average=None)
    assert found.images == len(y)
    assert found.top1 == pytest.approx(accuracy_score(y, answer))
    assert found.macro == pytest.approx(recall_score(y, answer, average="macro"))
    assert found.worst == pytest.approx(recalls.min())
    assert found.worst_class == state.data.classes[int(np.argmin(recalls))]
    assert found.loss == pytest.approx(log_loss(y, chances, labels=range(10)), rel=1e-5)
    assert np.array_equal(np.array(found.confusion), confusion_matrix(y, answer))
    assert 0.3 < found.top1 < 1


def test_a_class_without_images_counts_in_no_mean() -> None:
    found = accuracy_of(torch.tensor([[3, 1, 0], [0, 0, 0], [2, 0, 2]]), 0.7, ("a", "b", "c"))
    assert found.macro == pytest.approx((0.75 + 0.5) / 2)
    assert (found.worst, found.worst_class, found.top1) == (0.5, "c", pytest.approx(5 / 8))


def test_evaluation_covers_every_image_whatever_the_size_of_its_batches(small: Small, monkeypatch) -> None:
    whole = evaluate(small().model, small().data, CPU, "test", lambda _: None)
    monkeypatch.setattr("labbench.bench.measuring.accuracy.EVALUATION_BATCH", 7)
    seen: list[Progress] = []
    parts = evaluate(small().model, small().data, CPU, "test", seen.append)
    assert parts.confusion == whole.confusion
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert [event.phase for event in seen] == ["measure"] * 16
    assert seen[-1].fraction == 1.0


def test_evaluating_changes_nothing_but_the_figures(small: Small) -> None:
    with untouched(small()):
        after = do(small(), Evaluate(split="test"), Evaluate(split="validation"))
    assert after.model is small().model
    assert set(after.accuracy) == {"test", "validation"}
    assert fingerprint(after) == fingerprint(small())


def test_figures_are_dropped_by_whatever_changes_the_answers(small: Small) -> None:
    state = do(small(), Evaluate())
    for operation in (Prune(), Prune(method="group-magnitude"), Cluster(layers=("conv1",), k=2)):
        assert do(state, operation).accuracy == {}
    kept = do(state, Freeze(layers=("conv1",)))
    assert kept.accuracy == state.accuracy
    pruned = do(state, Prune(), Evaluate())
    assert do(pruned, Unprune()).accuracy == pruned.accuracy


def test_evaluation_can_be_stopped_and_leaves_the_mode_of_the_model(small: Small) -> None:
    with untouched(small()), pytest.raises(Stopped):
        evaluate(small().model, small().data, CPU, "test", lambda _: None, lambda: True)


# Counts


def test_distinct_filters_are_those_of_torch_unique() -> None:
    generator = torch.Generator().manual_seed(0)
    for number in range(40):
        shape = [(9,), (8, 5), (12, 3, 3, 3), (40, 2, 1, 1)][number % 4]
        weight = torch.randn(shape, generator=generator)
        if number % 2:
            weight = weight[torch.randint(0, len(weight), (len(weight),), generator=generator)]
        if number % 3 == 0:
            weight = weight.round()
        weight = torch.where(torch.rand(shape, generator=generator) < 0.3, torch.tensor(-0.0), weight)
        weight = torch.where(torch.rand(shape, generator=generator) < 0.3, torch.tensor(0.0), weight)
        assert unique_filters(weight) == len((weight + 0.0).unique(dim=0))


def test_minus_zero_is_zero_and_one_bit_makes_another_filter() -> None:
    weight = torch.zeros(3, 4)
    weight[1] = -0.0
    assert unique_filters(weight) == 1
    ones = torch.ones(2, 4)
    ones[1, 3] = torch.nextafter(ones[1, 3], torch.tensor(2.0))
    assert unique_filters(ones) == 2
    swapped = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 1.0, 3.0]])
    assert unique_filters(swapped) == 3


def test_filters_of_few_values_are_told_apart() -> None:
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 8)
    assert unique_filters(every) == 3**8
    powers = torch.cartesian_prod(*[torch.tensor([0.25, 0.5, 1.0, 2.0])] * 6)
    assert unique_filters(powers) == 4**6


def test_sparsity_counts_what_is_gone_masked_and_cut_alike(small: Small) -> None:
    state = do(small(), Prune(layers=("layer1.0.conv1",), amount=0.5))
    assert row(state, "layer1.0.conv1").sparsity == 0.5
    state = do(state, Prune(layers=("conv1",), amount=0.25, method="group-magnitude"))
    found = row(state, "layer1.0.conv1")
    left = int(state.weight("layer1.0.conv1").count_nonzero())
    assert found.shape == (8, 6, 3, 3)
    assert (found.weights, found.weights_loaded, found.nonzero) == (8 * 6 * 9, 8 * 8 * 9, left)
    assert found.sparsity == 1 - left / (8 * 8 * 9)
    assert (found.channels, found.channels_loaded, found.inputs, found.inputs_loaded) == (8, 8, 6, 8)
    first = row(state, "conv1")
    assert (first.channels, first.channels_loaded, first.sparsity) == (6, 8, 0.25)


def test_a_row_says_what_was_done_to_its_layer(small: Small) -> None:
    state = do(
        small(),
        Prune(layers=("conv1",), amount=0.5),
        Freeze(layers=("conv1",)),
        Cluster(layers=("layer2.0.conv2",), k=5),
    )
    first, second, norm = row(state, "conv1"), row(state, "layer2.0.conv2"), row(state, "bn1")
    assert (first.masked, first.frozen, first.last, first.clusters) == (True, True, "magnitude 50 %", 0)
    assert (second.masked, second.frozen, second.last, second.clusters) == (False, False, "k 5 of 16", 5)
    assert (norm.kind, norm.prunable, norm.frozen, norm.parameters) == ("norm", False, True, 16)
    assert (first.kind, row(state, "fc").kind) == ("conv", "linear")


def test_zero_filters_are_counted(small: Small) -> None:
    weight = distinct((16, 16, 3, 3), 0)
    weight[[2, 5, 6]] = 0
    state = with_weights(small(), {"layer2.0.conv2": weight})
    assert row(state, "layer2.0.conv2").filters_zero == 3
    assert row(state, "layer2.0.conv2").filters_unique == 14
    assert row(do(small(), Prune(amount=1.0)), "fc").filters_zero == 10


def test_the_parameters_of_a_hooked_model_are_those_it_computes_with() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    hooked.l1_unstructured(model[0], "weight", amount=0.5)
    assert sum(int(p.count_nonzero()) for p in model.parameters()) == 36 + 4 + 48 + 3  # the trap
    x = torch.randn(2, 1, 4, 4)
    expected = model(x)
    fold_masks(model)
    assert torch.equal(model(x), expected)
    figures = snapshot(state_of(model, noise((1, 4, 4), classes=3)), final=False)
    assert (figures.rows[0].nonzero, figures.prunable.nonzero) == (18, 18 + 48)
    assert (figures.whole.nonzero, figures.whole.now) == (18 + 4 + 48 + 3, 36 + 4 + 48 + 3)


def test_zero_parts_of_a_grouped_convolution_are_counted() -> None:
    weight = distinct((4, 2, 3, 3), 0)
    weight[1] = 0
    weight[:, 0] = 0
    weight[:, 1, 2, 0] = 0
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3))
    found = row(with_weights(state_of(model, noise((4, 4, 4), classes=3)), {"0": weight}), "0")
    assert (found.filters_zero, found.inputs_zero, found.kernels_zero, found.columns_zero) == (1, 1, 5, 10)


def test_totals_are_sums_over_the_model(small: Small) -> None:
    state = do(small(), Prune(amount=0.5), Prune(method="group-magnitude", amount=0.25))
    figures = snapshot(state)
    layers = [layer for layer in small().layers if layer.prunable]
    assert figures.prunable.loaded == sum(layer.weights for layer in layers)
    assert figures.prunable.now == sum(state.weight(layer.name).numel() for layer in layers)
    assert figures.prunable.nonzero == sum(int(state.weight(layer.name).count_nonzero()) for layer in layers)
    assert figures.whole.loaded == sum(p.numel() for p in small().model.parameters())
    assert figures.whole.now == sum(p.numel() for p in state.model.parameters())
    assert figures.whole.nonzero == sum(int(p.count_nonzero()) for p in state.model.parameters())
    assert figures.prunable.sparsity == 1 - figures.prunable.nonzero / figures.prunable.loaded
    assert figures.macs == sum(r.macs for r in figures.rows) < figures.macs_loaded


def test_the_histogram_counts_every_weight_that_is_not_zero(small: Small) -> None:
    state = do(small(), Prune(amount=0.6))
    for found in snapshot(state, final=False).rows:
        if found.prunable:
            assert sum(found.histogram) == found.nonzero
            assert found.limit == float(state.weight(found.name).abs().max())
    assert histogram(torch.zeros(4, 4)) == ((), 0.0)
    counts, limit = histogram(torch.tensor([-2.0, 2.0, 0.0, 0.1]))
    assert (counts[0], counts[-1], sum(counts), limit) == (1, 1, 3, 2.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_give_a_null_and_no_crash(small: Small, value: float) -> None:
    weight = torch.full((16, 16, 3, 3), value)
    state = do(with_weights(small(), {"layer2.0.conv2": weight}), Evaluate())
    figures = snapshot(state)
    found = figures.row("layer2.0.conv2")
    assert found is not None
    assert (found.norm, found.histogram, found.limit) == (None, (), 0.0)
    assert state.accuracy["test"].loss is None
    json.loads(msgspec.json.encode(figures), parse_constant=lambda text: pytest.fail(f"JSON has no {text}"))


def test_the_norm_is_the_euclidean_one(small: Small) -> None:
    weight = distinct((16, 16, 3, 3), 0)
    found = row(with_weights(small(), {"layer2.0.conv2": weight}), "layer2.0.conv2")
    assert found.norm == pytest.approx(math.sqrt(float((weight.double() ** 2).sum())))


# Snapshots and fingerprints


def test_a_snapshot_goes_through_json_and_back(small: Small) -> None:
    state = do(
        small(),
        Prune(amount=0.5),
        Cluster(layers=("layer2.0.conv2",), k=3),
        Freeze(layers=("conv1",)),
        Prune(layers=("layer2.0.conv1",), method="group-magnitude", amount=0.3),
        Evaluate(),
        Evaluate(split="validation"),
    )
    with untouched(state):
        figures = snapshot(state)
    assert msgspec.json.decode(msgspec.json.encode(figures), type=Snapshot) == figures
    assert snapshot(state, final=False) == msgspec.structs.replace(figures, fingerprint="")
    assert [found.name for found in figures.rows] == [layer.name for layer in state.layers]


def test_a_fingerprint_tells_states_apart_by_any_bit(small: Small) -> None:
    state = do(small(), Prune(amount=0.5), Cluster(layers=("conv1",), k=3))
    others = [
        do(state, Freeze(layers=("fc",))),
        do(state, Unprune(layers=("fc",))),
        replace(state, clusters={}),
        with_weights(state, {"fc": torch.nextafter(state.weight("fc"), torch.tensor(9.0))}),
    ]
    moved = with_weights(state, {})
    moved.model.get_buffer("bn1.running_mean")[0] += 1e-6
    prints = [fingerprint(made) for made in (state, *others, moved)]
    assert len(set(prints)) == len(prints)
    assert all(len(mark) == 16 and int(mark, 16) >= 0 for mark in prints)
    assert fingerprint(with_weights(state, {})) == fingerprint(state)


def test_images_that_are_smaller_than_the_model_wants_are_enlarged_and_others_are_not(opened: Opened) -> None:
    assert opened("lenet-5").data.shape == (1, 28, 28)
    assert opened("resnet-20").data.shape == (1, 32, 32)
    assert noise((3, 40, 40)).shape == (3, 40, 40)
    x = opened("lenet-5").data.on(CPU)["train"][0]
    assert x.dtype == torch.uint8
    assert x.max() > 200


def test_a_model_that_is_in_no_catalogue_can_be_measured() -> None:
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False)), noise((3, 2, 2), classes=3))
    figures = snapshot(do(state, Evaluate()))
    assert (figures.whole.loaded, figures.macs, figures.classes) == (36, 36, ("class 0", "class 1", "class 2"))


@pytest.mark.parametrize("k", [1, 3, 7])
def test_unique_weights_of_clustered_places_are_counted_place_by_place(small: Small, k: int) -> None:
    names = ("layer1.0.conv1", "layer2.0.conv2", "fc")
    before = snapshot(small(), final=False)
    state = do(small(), Cluster(layers=names, k=k, method="components"))
    saved = 0
    for name in names:
        found, filters = row(state, name), state.weight(name).flatten(1).tolist()
        slowly = sum(len(set(place)) for place in zip(*filters, strict=True))
        assert found.weights_unique == slowly <= k * len(filters[0])
        assert figures.unique_parameters(found) == slowly
        assert figures.bits(found) == math.ceil(found.weights * math.log2(k)) + 32 * slowly
        saved += found.weights - slowly
    after = snapshot(state, final=False)
    assert before.unique - after.unique == saved == figures.saved_parameters(after.rows)
    assert row(state, "layer1.0.conv2").weights_unique is None


def test_minus_zero_is_zero_at_a_place() -> None:
    weight = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [2.0, 3.0]])
    assert values_at_places(weight) == 2 + 2
    assert values_at_places(weight[:1]) == 2
