"""Scans and timings: each layer alone, nothing changed, coupled layers together; a ratio of two models run in turn."""

import pytest
from bench_examples import Opened, picture

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.measuring.accuracy import evaluate
from labbench.bench.operations.scan import scan_remarks
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session.events import Probed
from labbench.session.measures import LayerScan, Scanned
from labbench.session.operations import Cluster, Freeze, Prune, Scan, Time

AMOUNTS = (0.3, 0.6)


def scanned(operation: Scan, state: State, tools: Tools) -> Scanned:
    look = picture(state)
    applied = apply(operation, state, tools)
    assert applied.state is state and picture(state) == look
    assert applied.scanned is not None
    return applied.scanned


def top1(state: State) -> float:
    return evaluate(state.model, state.data, state.device, "validation", lambda _: None).top1


@pytest.mark.parametrize("method", ["magnitude", "group-magnitude"])
def test_each_point_is_the_accuracy_of_that_layer_pruned_alone(opened: Opened, tools: Tools, method: str) -> None:
    state = opened("lenet-5")
    found = scanned(Scan(at=AMOUNTS, method=method), state, tools)
    assert found.top1 == top1(state)
    filters = method == "group-magnitude"
    assert [layer.name for layer in found.layers] == [layer.name for layer in state.layers if layer.prunable]
    for layer in found.layers:
        if layer.refused:
            assert filters and layer.name == "fc2" and "answers" in layer.refused
            continue
        for amount, accuracy in zip(layer.amounts, layer.top1, strict=True):
            alone = apply(Prune(layers=(layer.name,), amount=amount, method=method), state, tools).state
            assert accuracy == top1(alone)


def test_layers_that_are_cut_together_are_tried_once(opened: Opened, tools: Tools) -> None:
    state = opened("resnet-18")
    found = scanned(Scan(layers=("conv1", "layer1"), at=(0.5,)), state, tools)
    assert found.layers[0].layers == ("conv1", "layer1.0.conv2", "layer1.1.conv2")
    assert [layer.name for layer in found.layers] == ["conv1", "layer1.0.conv1", "layer1.1.conv1"]
    naive = scanned(Scan(layers=("conv1", "layer1"), at=(0.5,), coupled=False), state, tools)
    assert [layer.layers for layer in naive.layers] == [(n,) for n in naive_names(state)]


def naive_names(state: State) -> list[str]:
    return [layer.name for layer in state.layers if layer.prunable and layer.name.startswith(("conv1", "layer1"))]


def test_clusterings_are_scanned_by_the_part_of_the_filters_that_goes(opened: Opened, tools: Tools) -> None:
    state = opened("lenet-5")
    found = scanned(Scan(layers=("conv2",), method="k-means", at=(0.5,)), state, tools)
    k = round(len(state.weight("conv2")) * 0.5)
    assert found.layers[0].top1 == (top1(apply(Cluster(layers=("conv2",), k=k), state, tools).state),)


def test_every_point_is_told_as_it_is_found_and_a_stop_ends_it(opened: Opened, tools: Tools) -> None:
    state, heard = opened("lenet-300-100"), []
    found = scanned(Scan(layers=("fc1", "fc2"), at=AMOUNTS, method="magnitude"), state, Tools(tools.data, heard.append))
    points = [(event.layers[0], event.amount, event.top1) for event in heard if isinstance(event, Probed)]
    assert points == [(s.name, a, t) for s in found.layers for a, t in zip(s.amounts, s.top1, strict=True)]
    calls = iter(range(100))
    with pytest.raises(Stopped):
        apply(Scan(method="magnitude"), state, Tools(tools.data, stopped=lambda: next(calls) > 4))


def test_frozen_layers_are_left_out_and_nothing_to_try_is_refused(opened: Opened, tools: Tools) -> None:
    state = apply(Freeze(layers=("fc1",)), opened("lenet-300-100"), tools).state
    found = scanned(Scan(at=(0.5,), method="magnitude"), state, tools)
    assert [layer.name for layer in found.layers] == ["fc2", "fc3"]
    with pytest.raises(BenchError, match=r"no layer can be tried: not tried: fc3, because .*answers"):
        apply(Scan(layers=("fc3",)), opened("lenet-300-100"), tools)


def test_a_plan_takes_the_largest_amount_before_accuracy_falls_too_far() -> None:
    found = Scanned(
        top1=0.9,
        layers=(
            LayerScan(layers=("a", "b"), amounts=(0.1, 0.2, 0.3, 0.4), top1=(0.9, 0.89, 0.80, 0.9)),
            LayerScan(layers=("c",), amounts=(0.1,), top1=(0.5,)),
            LayerScan(layers=("d",), amounts=(0.1, 0.5), top1=(0.95, 0.88)),
            LayerScan(layers=("e",), refused="it gives the answers"),
        ),
    )
    assert found.plan(0.02) == {"a": 0.2, "b": 0.2, "d": 0.5}
    assert found.plan(0.5) == {"a": 0.4, "b": 0.4, "c": 0.1, "d": 0.5}


def test_the_remarks_name_who_bears_most_and_least_and_who_was_not_tried() -> None:
    found = Scanned(
        top1=0.9,
        layers=(
            LayerScan(layers=("a",), amounts=(0.1, 0.2), top1=(0.9, 0.85)),
            LayerScan(layers=("b",), amounts=(0.1, 0.2), top1=(0.8, 0.5)),
            LayerScan(layers=("c",), refused="it gives the answers"),
            LayerScan(layers=("d",), refused="it gives the answers"),
        ),
    )
    assert scan_remarks(found) == (
        "at 20 %: most sensitive b (50.0 %), least a (85.0 %); as it stands 90.0 %",
        "not tried: c, d, because it gives the answers",
    )


def test_a_reason_is_given_once_however_many_layers_it_keeps_from_being_tried() -> None:
    names = [f"layer{number}" for number in range(40)]
    refused = tuple(LayerScan(layers=(name,), refused="it is split") for name in names)
    tried = LayerScan(layers=("conv1",), amounts=(0.5,), top1=(0.8,))
    assert len(scan_remarks(Scanned(top1=0.9, layers=(tried, *refused)))) == 1


def test_both_models_are_timed_and_a_mask_gains_nothing_to_speak_of(opened: Opened, tools: Tools) -> None:
    state = opened("lenet-5")
    masked = apply(Prune(amount=0.9), state, tools).state
    look = picture(masked)
    applied = apply(Time(batches=(1, 8), rounds=5), masked, tools)
    assert picture(applied.state) == look
    assert [timing.batch for timing in applied.timings] == [1, 8]
    for timing in applied.timings:
        low, high = timing.now_quartiles
        assert 0 < low <= timing.now <= high
    assert applied.remarks[0].startswith("one image: ")
    assert "90 % of the weights that are multiplied are zero" in applied.remarks[-1]
    cut = apply(Prune(layers=("conv2", "fc1"), amount=0.5, method="group-magnitude"), state, tools).state
    assert "zero" not in apply(Time(rounds=3), cut, tools).remarks[-1]
