"""A cut network answers as the network with those channels at zero; what cannot be cut exactly is refused."""

import copy
from typing import Any

import pytest
import torch
from bench_examples import (
    Opened,
    Small,
    answers,
    do,
    doing,
    noise,
    picture,
    removed_filters,
    shaken,
    state_of,
    twin,
    untouched,
)
from torch import nn

from labbench.bench.errors import BenchError
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.pruning.coupling import groups
from labbench.bench.pruning.graph import Graph
from labbench.bench.pruning.weights import METHODS
from labbench.bench.states import surgery
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.opened import fresh
from labbench.bench.states.state import State
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Tools
from labbench.session.operations import Cluster, Freeze, Load, Prune

FILTERS = "group-magnitude"
NETWORKS = [("lenet-5", ""), ("lenet-300-100", ""), ("resnet-20", "A"), ("resnet-20", "B"), ("resnet-18", "")]


def cut(state: State, *layers: str, amount: float = 0.5, scope: str = "layer") -> State:
    return do(state, Prune(layers=layers or ("*",), amount=amount, method=FILTERS, scope=scope))


def widths(state: State) -> dict[str, int]:
    return {layer.name: len(state.weight(layer.name)) for layer in state.layers if layer.prunable}


@pytest.mark.parametrize(("model", "shortcut"), NETWORKS)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_cut_network_answers_as_its_twin_with_those_channels_at_zero(
    opened: Opened, model: str, shortcut: str, scope: str
) -> None:
    if (model, scope) == ("resnet-18", "global"):
        return  # the same code on seconds of work
    state = shaken(opened(model, shortcut))
    with untouched(state):
        after = cut(state, amount=0.4, scope=scope)
    removed = removed_filters(state, after)
    assert len(removed) >= 2
    expected, answer = answers(twin(state, removed), images=2), answers(after, images=2)
    assert float((answer - expected).abs().max() / expected.abs().max()) <= 1e-5
    assert not torch.allclose(answers(state, images=2), answer)
    figures, before = snapshot(after, final=False), snapshot(state, final=False)
    assert figures.macs < 0.75 * before.macs == 0.75 * figures.macs_loaded
    assert figures.whole.now < 0.75 * before.whole.now == 0.75 * figures.whole.loaded
    assert figures.prunable.now == figures.prunable.nonzero
    assert len(after.weight(after.layers[-1].name)) == 10


def test_each_layer_alone_is_cut_exactly_or_refused_by_name(small: Small) -> None:
    for shortcut in ("A", "B"):
        state = shaken(small(shortcut))
        for layer in state.layers:
            if not layer.prunable:
                continue
            try:
                after = cut(state, layer.name)
            except BenchError as error:
                assert str(error).startswith(f"{layer.name} cannot be cut")
                assert layer.name == "fc" or (shortcut == "A" and layer.name not in INNER)
                continue
            removed = removed_filters(state, after)
            assert layer.name in removed
            torch.testing.assert_close(answers(after), answers(twin(state, removed)), rtol=1e-9, atol=1e-9)


INNER = ("layer1.0.conv1", "layer2.0.conv1")


def test_layers_of_a_residual_stream_lose_the_same_filters_and_a_remark_says_so(small: Small) -> None:
    applied = doing(shaken(small()), Prune(layers=("conv1",), method=FILTERS))
    assert removed_filters(shaken(small()), applied.state).keys() == {"conv1", "layer1.0.conv2"}
    assert applied.remarks == (
        "lose the same filters, because they are added together in a residual stream: conv1 with layer1.0.conv2",
        "parameters 5,122 → 3,854: 24.8 % of the loaded ones are gone",
    )
    assert applied.state.last == {"conv1": "cut 50 %", "layer1.0.conv2": "cut 50 %"}


@pytest.mark.parametrize(("model", "name"), [("lenet-5", "fc2"), ("lenet-300-100", "fc3"), ("resnet-20", "fc")])
def test_the_classifier_keeps_its_outputs(opened: Opened, model: str, name: str) -> None:
    with pytest.raises(BenchError, match=f"{name} cannot be cut: these outputs are the answers of the model"):
        cut(opened(model), name)
    applied = doing(opened(model), Prune(method=FILTERS))
    assert any(remark.startswith(f"left whole: {name}, because") for remark in applied.remarks)
    assert len(applied.state.weight(name)) == 10


def test_a_shortcut_that_pads_with_zeros_is_not_cut_through(opened: Opened) -> None:
    state = opened("resnet-20", "A")
    streams = [name for name in widths(state) if name == "conv1" or name.endswith("conv2")]
    for name in streams:
        with pytest.raises(BenchError, match=rf"{name} cannot be cut: .* a shortcut that pads with zeros"):
            cut(state, name)
    after = cut(state)
    assert {name for name in widths(after) if widths(after)[name] < widths(state)[name]} == {
        f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)
    }
    with pytest.raises(BenchError, match=r"nothing to cut in con\*1, f\?: .*pads with zeros; .*one for each class"):
        cut(state, "con*1", "f?")


def test_what_is_coupled_to_a_frozen_layer_is_refused_by_name_with_both(small: Small) -> None:
    state = do(small(), Freeze(layers=("layer1.0.conv2",)))
    with pytest.raises(BenchError, match=r"conv1 cannot be cut: .* filters of layer1\.0\.conv2, which is frozen"):
        cut(state, "conv1")
    with pytest.raises(BenchError, match=r"layer1\.0\.conv1 cannot be cut: .* inputs of layer1\.0\.conv2, which is fr"):
        cut(state, "layer1.0.conv1")
    only_norm = do(small(), Freeze(layers=("layer1.0.bn1",)))
    with pytest.raises(BenchError, match=r"layer1\.0\.conv1 cannot be cut: .* of layer1\.0\.bn1, which is frozen"):
        cut(only_norm, "layer1.0.conv1")


def test_by_glob_what_is_coupled_to_a_frozen_layer_is_left_whole_with_a_remark(small: Small) -> None:
    state = do(shaken(small()), Freeze(layers=("layer1.0.conv2",)))
    applied = doing(state, Prune(method=FILTERS))
    assert "left out, frozen: layer1.0.conv2" in applied.remarks
    told = [remark for remark in applied.remarks if "which is frozen" in remark]
    assert any("conv1" in remark and "filters of layer1.0.conv2" in remark for remark in told)
    assert any("layer1.0.conv1" in remark and "inputs of layer1.0.conv2" in remark for remark in told)
    after = applied.state
    assert widths(after)["layer2.0.conv1"] == 8
    for name in state.frozen:
        before = state.module(name).state_dict()
        assert all(torch.equal(before[key], value) for key, value in after.module(name).state_dict().items())


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_frozen_layers_keep_every_bit_when_others_are_cut(opened: Opened, scope: str) -> None:
    state = do(shaken(opened("resnet-20", "B")), Freeze(layers=("layer2", "conv1")))
    after = cut(state, amount=0.3, scope=scope)
    assert widths(after) != widths(state)
    for name in state.frozen:
        before, now = state.module(name).state_dict(), after.module(name).state_dict()
        assert all(torch.equal(before[key], now[key]) for key in before)


def test_all_layers_frozen_leaves_nothing_to_cut(small: Small) -> None:
    with pytest.raises(BenchError, match="nothing to prune: every layer that was named is frozen"):
        cut(do(small(), Freeze(layers=("*",))))
    state = do(small(), Freeze(layers=("layer*.conv2", "layer2.0.shortcut")))
    with pytest.raises(BenchError, match="nothing to cut"):
        cut(state, "layer*", "fc*")


def tampered(original: Any, change: Any) -> Any:
    def broken(model: nn.Module, gone: surgery.Gone) -> None:
        original(model, gone)
        change(model)

    return broken


def scale(model: nn.Module) -> None:
    with torch.no_grad():
        model.get_parameter("fc3.weight")[0, 0] += 0.1


def misfit(model: nn.Module) -> None:
    model.fc2.weight = nn.Parameter(model.fc2.weight[:, :-1])  # type: ignore[union-attr, index]


def fewer(model: nn.Module) -> None:
    model.fc3 = nn.Linear(100, 9)


@pytest.mark.parametrize(
    ("change", "words"),
    [(scale, "answers differently"), (misfit, "does not run"), (fewer, r"answers \(2, 9\) instead of \(2, 10\)")],
)
def test_a_broken_cut_is_rolled_back(tools: Tools, tmp_path, monkeypatch, change, words: str) -> None:
    timeline = Timeline(Cache(tmp_path, 10**9))
    timeline.do(Load(model="lenet-300-100", dataset="digits", device="cpu"), tools, lambda state: state)
    state = timeline.state
    assert state is not None
    before, done = picture(state), timeline.done
    monkeypatch.setattr(surgery, "remove_filters", tampered(surgery.remove_filters, change))
    with pytest.raises(BenchError, match=words):
        timeline.do(Prune(layers=("fc1",), method=FILTERS), tools, lambda made: made)
    assert timeline.state is state
    assert timeline.done == done
    assert picture(state) == before


@pytest.mark.parametrize(("model", "shortcut"), NETWORKS[:4])
def test_the_record_of_a_cut_rebuilds_it_on_a_fresh_model(
    opened: Opened, tools: Tools, model: str, shortcut: str
) -> None:
    after = cut(cut(shaken(opened(model, shortcut)), amount=0.3), amount=0.6, scope="global")
    built = fresh(after.load, tools.data)
    rebuilt = copy.deepcopy(built.model)
    surgery.rebuild(rebuilt, after.kept)
    rebuilt.load_state_dict(after.model.state_dict())
    assert repr(rebuilt) == repr(after.model)
    x = torch.randn(3, *after.data.shape)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(x), after.model(x))


def test_the_record_numbers_channels_as_the_loaded_model_does(small: Small) -> None:
    loaded = shaken(small())
    after = cut(cut(cut(loaded, "layer1.0.conv1", amount=0.3), "conv1", amount=0.3), amount=0.6)
    for name, kept in after.kept.items():
        if name in widths(loaded):
            assert torch.equal(surgery.sliced(loaded.weight(name), kept), after.weight(name))
    assert set(after.kept) == {
        n for n, m in loaded.model.named_modules() if any(True for _ in m.parameters(recurse=False))
    }


def test_masks_and_clusters_follow_a_cut(small: Small) -> None:
    loaded = shaken(small())
    marked = do(loaded, Prune(amount=0.5), Cluster(layers=("layer1.0.conv2", "layer2.0.conv2"), k=4))
    after = cut(marked)
    for name, mask in after.masks.items():
        expected = surgery.sliced(marked.masks[name], after.kept[name])
        assert torch.equal(mask, expected)
        assert not after.weight(name)[~mask].any()
    for name, labels in after.clusters.items():
        kept = after.kept[name].outputs
        assert kept is not None
        before = marked.clusters[name][list(kept)]
        assert labels.shape == (len(after.weight(name)),)
        assert labels.max() + 1 == len(labels.unique()) == len(before.unique())
        assert torch.equal(labels[:, None] == labels, before[:, None] == before)
        assert all(torch.equal(after.weight(name)[i], after.weight(name)[labels == labels[i]][0]) for i in range(4))


@pytest.mark.parametrize("amount", [0.2, 0.3, 0.35, 0.4, 0.41, 0.5, 0.9])
def test_each_layer_keeps_the_whole_number_of_channels_of_the_reference(amount: float) -> None:

    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 1), nn.ReLU(), nn.Conv2d(32, 64, 1), nn.ReLU(), nn.Conv2d(64, 128, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)),
    )
    after = cut(state_of(model, noise((1, 4, 4))), amount=amount)
    golden = {0.35: (20, 41, 83), 0.40: (19, 38, 76), 0.41: (18, 37, 75), 0.2: (25, 51, 102), 0.9: (3, 6, 12)}
    expected = golden.get(amount, tuple(int(c * (1 - amount)) for c in (32, 64, 128)))
    assert tuple(widths(after).values()) == (*expected, 10)


def test_cutting_twice_goes_to_the_target_of_the_loaded_width(small: Small) -> None:
    once = cut(small(), amount=0.25)
    assert widths(once)["layer1.0.conv1"] == 6
    twice = cut(once, amount=0.5)
    assert widths(twice) == widths(cut(small(), amount=0.5))
    with pytest.raises(BenchError, match=r"every group is already at 50 %"):
        cut(twice, amount=0.5)
    with pytest.raises(BenchError, match="nothing to cut"):
        cut(twice, amount=0.3, scope="global")


def test_global_scope_takes_the_lowest_over_all_groups_and_leaves_one_each(small: Small) -> None:
    state = shaken(small())
    scores: dict[str, torch.Tensor] = {}
    graph = Graph(state.copy_model(), state.data.shape)
    for name in ("conv1", "layer1.0.conv1", "layer2.0.conv1", "layer2.0.conv2"):
        scores[name] = graph.group(name).scores(lambda group: METHODS[FILTERS].score(group, torch.Generator()))
    after = cut(state, amount=0.5, scope="global")
    total = sum(len(values) for values in scores.values())
    kept = {name: widths(after)[name] for name in scores}
    assert sum(kept.values()) == total - round(0.5 * total)
    gone = [values.sort().values[: len(values) - kept[name]] for name, values in scores.items()]
    stay = [values.sort().values[len(values) - kept[name] :] for name, values in scores.items()]
    assert max(float(g[-1]) for g in gone if len(g)) <= min(float(s[0]) for s in stay if len(s) > 1)
    almost = cut(state, amount=0.97, scope="global")
    assert min(widths(almost).values()) == 1


def test_a_network_that_torch_pruning_cannot_trace_is_refused_with_a_sentence() -> None:
    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled():
                raise RuntimeError("no gradients here")
            return self.fc(x.flatten(1))

    state = state_of(Untraceable(), noise((1, 2, 2), classes=2))
    with untouched(state), pytest.raises(BenchError, match="Torch-Pruning cannot trace this model: "):
        cut(state, "fc")


def test_a_second_cut_of_a_resnet_is_still_exact(opened: Opened) -> None:
    once = cut(shaken(opened("resnet-20", "B")), "layer1", "layer3", amount=0.3)
    twice = cut(once, amount=0.6, scope="global")
    removed = removed_filters(once, twice)
    torch.testing.assert_close(answers(twice), answers(twin(once, removed)), rtol=1e-9, atol=1e-9)


# Networks whose channels are grouped, concatenated, depthwise or mixed


class Grouped(nn.Module):
    """A ResNeXt block of 4 groups on a residual stream, then a depthwise convolution and a norm without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 16, 3, padding=1, groups=4, bias=False)
        self.bn2 = nn.BatchNorm2d(16, affine=False)
        self.conv3 = nn.Conv2d(16, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.prelu = nn.PReLU(8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = x + self.conv3(self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu())
        return self.fc(self.prelu(self.depthwise(x)).mean((2, 3)))


class Concatenated(nn.Module):
    """Three DenseNet layers of growth 4: every norm reads all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * turn) for turn in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6 + 4 * turn, 4, 3, padding=1, bias=False) for turn in range(3))
        self.bn = nn.BatchNorm2d(18)
        self.fc = nn.Linear(18, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(norm(x).relu())], 1)
        return self.fc(self.bn(x).relu().mean((2, 3)))


class Mixing(nn.Module):
    """A convolution whose channels a norm mixes, one whose channels nothing mixes, and a bare parameter by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.second = nn.Conv2d(4, 6, 3)
        self.third = nn.Conv2d(6, 5, 1)
        self.scale = nn.Parameter(torch.ones(5, 1, 1))
        self.fc = nn.Linear(5, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.norm(self.first(x))).relu()
        return self.fc((self.third(x) * self.scale).mean((2, 3)))


def foreign(model: type[nn.Module]) -> State:

    torch.manual_seed(0)
    return shaken(state_of(model(), noise((3, 6, 6))))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("model", [Grouped, Concatenated])
def test_grouped_and_concatenated_channels_are_cut_exactly_twice_and_rebuilt_from_the_record(
    model: type[nn.Module], scope: str
) -> None:
    loaded = foreign(model)
    once = cut(loaded, amount=0.3, scope=scope)  # checked against the twin by the cut itself
    twice = cut(once, amount=0.6, scope=scope)
    assert sum(widths(twice).values()) < sum(widths(once).values()) < sum(widths(loaded).values())
    rebuilt = loaded.copy_model()
    surgery.rebuild(rebuilt, twice.kept)
    assert repr(rebuilt) == repr(twice.model)
    rebuilt.load_state_dict(twice.model.state_dict())
    x = torch.randn(3, *loaded.data.shape)
    with torch.no_grad():
        assert torch.equal(rebuilt(x), twice.model(x))


def test_the_same_places_go_from_every_group_of_a_grouped_convolution() -> None:
    loaded = foreign(Grouped)
    after = cut(loaded, "conv1", "conv2", amount=0.5)
    assert widths(after) == widths(loaded) | {"conv1": 12, "conv2": 8}
    for name, places in (("conv1", 6), ("conv2", 4)):
        kept = after.kept[name].outputs
        assert kept is not None
        blocks = [{channel % places for channel in kept if channel // places == block} for block in range(4)]
        assert blocks == [blocks[0]] * 4
        assert len(blocks[0]) == places // 2
    assert after.module("conv2").groups == 4
    remarks = doing(loaded, Prune(layers=("conv1",), method=FILTERS)).remarks
    assert "the channels of conv1 are read in 4 groups: each loses the same places" in remarks


def test_a_depthwise_convolution_loses_the_channels_it_is_given() -> None:
    after = cut(foreign(Grouped), "stem", amount=0.25)
    assert {name: widths(after)[name] for name in ("stem", "conv3", "depthwise")} == {
        "stem": 6,
        "conv3": 6,
        "depthwise": 6,
    }
    depthwise = after.module("depthwise")
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels == 6
    assert after.kept["depthwise"].outputs == after.kept["prelu"].outputs == after.kept["stem"].outputs


def test_each_cut_of_a_concatenation_takes_its_own_channels_from_the_norms_behind() -> None:
    after = cut(foreign(Concatenated), "stem", "convs.1", amount=0.5)
    stem, second = after.kept["stem"].outputs, after.kept["convs.1"].outputs
    assert stem and second and len(stem) == 3 and len(second) == 2
    expected = (*stem, 6, 7, 8, 9, *(10 + channel for channel in second), 14, 15, 16, 17)
    assert after.kept["bn"].outputs == after.kept["fc"].inputs == expected


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("first", r"a GroupNorm goes over several channels: without some, the others change \(norm\)"),
        ("fc", "these outputs are the answers of the model, one for each class"),
    ],
)
def test_what_cannot_be_cut_is_refused_by_name_with_the_reason(layer: str, words: str) -> None:
    with pytest.raises(BenchError, match=f"{layer} cannot be cut: {words}"):
        cut(foreign(Mixing), layer)
    assert widths(cut(foreign(Mixing), "*")) == {"first": 4, "second": 3, "third": 2, "fc": 10}


def test_groups_say_which_layers_change_together_and_why(small: Small) -> None:
    state = shaken(small())
    with untouched(state):
        found = {group.layers[0]: group for group in groups(state)}
    assert found["conv1"].layers == ("conv1", "layer1.0.conv2")
    assert found["conv1"].why == "they are added together in a residual stream"
    assert found["conv1"].norms == ("bn1", "layer1.0.bn2")
    assert set(found["conv1"].readers) == {"layer1.0.conv1", "layer2.0.conv1", "layer2.0.shortcut.0"}
    assert (found["layer1.0.conv1"].layers, found["layer1.0.conv1"].why) == (("layer1.0.conv1",), "")
    assert found["fc"].refused == "these outputs are the answers of the model, one for each class"
    names = [name for group in found.values() for name in group.layers]
    assert sorted(names) == sorted(layer.name for layer in state.layers if layer.prunable)


def test_groups_of_grouped_and_depthwise_convolutions_say_so() -> None:
    found = {group.layers[0]: group for group in groups(foreign(Grouped))}
    assert "a depthwise convolution has a filter for each channel" in found["stem"].why
    assert "they are added together" in found["stem"].why
    assert found["conv1"].blocks == 4
    assert found["conv1"].readers == ("conv2",)
    whole = {group.layers[0]: group.refused for group in groups(foreign(Mixing))}
    assert whole["first"].startswith("a GroupNorm goes over several channels")
    assert not whole["second"]
