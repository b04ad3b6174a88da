"""What holds for every model of the catalogue, and the figures of the papers."""

import io
import itertools
from typing import Any

import pytest
import torch
from bench_examples import Opened, do, noise, state_of
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.models import MODELS, densenet, wrn
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.opened import load
from labbench.bench.states.state import Layer, trace_layers
from labbench.bench.tools import Tools
from labbench.session.catalogue import knobs_of, options_type
from labbench.session.operations import Finetune, Load

Options = dict[str, Any]
Shape = tuple[int, int, int]

META = torch.device("meta")
GRAY, COLOR = (1, 28, 28), (3, 32, 32)
CARDINALITY_16, DENSE_190_40 = {"cardinality": 16}, {"depth": 190, "growth": 40}
BOTTLENECK_164 = {"depth": 164, "block": "bottleneck", "shortcut": "B"}
GOLDEN: list[tuple[str, Options, int, int]] = [
    ("lenet-300-100", {}, 10, 266_610),
    ("lenet-5", {}, 10, 431_080),
    ("cp-resnet", {"widths": "24 48 72"}, 10, 59_804),
    ("cp-resnet", {}, 10, 131_316),
    ("cp-resnet", {"widths": "32, 32, 32"}, 10, 47_028),
    ("alexnet", {}, 10, 2_472_266),
    ("alexnet", {}, 100, 2_495_396),
    ("vgg-11", {}, 10, 9_231_114),
    ("vgg-13", {}, 10, 9_416_010),
    ("vgg-16", {}, 10, 14_728_266),
    ("vgg-16", {"batch_norm": False}, 10, 14_728_266 - 2 * 4_224),
    ("vgg-19", {}, 10, 20_040_522),
    ("vgg-19", {}, 100, 20_086_692),
    ("resnet-20", {}, 10, 269_722),
    ("resnet-20", {"shortcut": "B"}, 10, 272_474),
    ("resnet-32", {"shortcut": "B"}, 10, 466_906),
    ("resnet-44", {"shortcut": "B"}, 10, 661_338),
    ("resnet-56", {"shortcut": "B"}, 10, 855_770),
    ("resnet-110", {"shortcut": "B"}, 10, 1_730_714),
    ("resnet-110", {"shortcut": "B"}, 100, 1_736_564),
    ("resnet", {"depth": 110, "shortcut": "B"}, 10, 1_730_714),
    ("resnet", BOTTLENECK_164, 10, 1_704_154),
    ("resnet-18", {}, 10, 11_173_962),
    ("resnet-18-head", {}, 10, 11_228_822),
    ("preresnet-20", {}, 10, 272_282),
    ("preresnet-56", {}, 10, 855_578),
    ("preresnet-110", {}, 10, 1_730_522),
    ("preresnet-110", {}, 100, 1_736_372),
    ("preresnet", BOTTLENECK_164, 10, 1_703_258),
    ("wrn", {}, 10, 36_479_194),
    ("wrn", {}, 100, 36_536_884),
    ("resnext", {}, 10, 34_426_698),
    ("resnext", {}, 100, 34_518_948),
    ("resnext", CARDINALITY_16, 10, 68_155_210),
    ("resnext", CARDINALITY_16, 100, 68_247_460),
    ("densenet", {}, 10, 769_162),
    ("densenet", {}, 100, 800_032),
    ("densenet", DENSE_190_40, 10, 25_624_430),
    ("densenet", DENSE_190_40, 100, 25_821_620),
    ("densenet", {"depth": 40, "bottleneck": False, "compression": 1.0}, 10, 1_019_722),
]
CLAIMED: dict[str, list[Shape]] = {
    **{name: [COLOR, (1, 32, 32), (3, 40, 64)] for name in MODELS},
    "lenet-5": [GRAY, COLOR, (1, 16, 40)],
    "lenet-300-100": [GRAY, COLOR, (1, 28, 40)],
    "cp-resnet": [GRAY, COLOR, (1, 128, 100), (1, 256, 44), (3, 17, 5)],
    "resnet-20": [GRAY, COLOR, (1, 32, 32), (3, 40, 64), (1, 128, 100)],
}
SMALL: dict[str, Options] = {
    "wrn": {"depth": 10, "widen": 2},
    "resnext": {"depth": 11, "cardinality": 2, "width": 4},
    "densenet": {"depth": 16},
}
"""Options with which a large one is built in a moment."""
KINDS = [name for name in MODELS if MODELS[name].title == "" or name in ("vgg-11", "resnet-20", "preresnet-20")]
"""One of each family is enough where weights are drawn."""
LIGHT = [name for name in KINDS if name not in ("vgg-11", "resnet-18", "resnet-18-head")]


def built(name: str, shape: Shape, classes: int = 10, **options: Any) -> nn.Module:
    """A model without values, by the names of the catalogue."""
    with META:
        return MODELS[name].build(shape, classes, **options)


def traced(name: str, shape: Shape, **options: Any) -> tuple[Layer, ...]:
    return trace_layers(built(name, shape, **options), shape, META)


def options_of(name: str) -> list[Options]:
    """Every combination of the options that are choices or switches."""
    knobs = [knob for knob in knobs_of(options_type(MODELS[name].build)) if knob.name != "pretrained"]
    values = {knob.name: knob.choices or (True, False) for knob in knobs if knob.kind in ("choice", "bool")}
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


EVERY = [
    (name, options, shape, classes)
    for name in MODELS
    for options in options_of(name)
    for shape in (CLAIMED[name] if name in KINDS else [COLOR])
    for classes in ((2, 37) if name in KINDS else (100,))
]


@pytest.mark.parametrize(("name", "options", "classes", "parameters"), GOLDEN)
def test_the_number_of_parameters_is_that_of_the_paper(
    name: str, options: Options, classes: int, parameters: int
) -> None:
    shape = COLOR if MODELS[name].side == 32 else GRAY
    model = built(name, shape, classes, **options)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_every_model_has_a_golden_count() -> None:
    assert {name for name, *_ in GOLDEN} == set(MODELS)


def test_a_number_of_parameters_that_is_not_counted_for_the_menu_is_right() -> None:
    golden = {name: parameters for name, options, classes, parameters in GOLDEN if not options and classes == 10}
    written = {name: model.parameters for name, model in MODELS.items() if model.parameters}
    assert written == {name: golden[name] for name in written}


@pytest.mark.parametrize(
    ("name", "tensors", "weights"),
    [("lenet-300-100", 3, 266_200), ("lenet-5", 4, 430_500), ("resnet-18-head", 22, 11_219_112)],
)
def test_the_prunable_weights_are_those_of_the_references(name: str, tensors: int, weights: int) -> None:
    layers = [layer for layer in traced(name, COLOR if MODELS[name].side == 32 else GRAY) if layer.prunable]
    assert len(layers) == tensors
    assert sum(layer.weights for layer in layers) == weights


@pytest.mark.parametrize(("name", "options", "shape", "classes"), EVERY)
def test_a_model_answers_with_one_logit_for_each_class(name: str, options: Options, shape: Shape, classes: int) -> None:
    with META:
        model = MODELS[name].build(shape, classes, **options).train()
        assert model(torch.zeros(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("channels", [1, 3])
def test_answers_are_finite_and_differ_between_images(name: str, channels: int) -> None:
    shape = (channels, MODELS[name].side, MODELS[name].side)
    for options in options_of(name):
        torch.manual_seed(0)
        model = MODELS[name].build(shape, 7, **{**SMALL.get(name, {}), **options}).eval()
        with torch.no_grad():
            logits = model(torch.randn(2, *shape))
        assert logits.isfinite().all()
        assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", LIGHT)
def test_every_parameter_learns(name: str) -> None:
    """A gradient reaches each of them: every module is used."""
    shape = (1, MODELS[name].side, MODELS[name].side)
    torch.manual_seed(0)
    model = MODELS[name].build(shape, 3, **SMALL.get(name, {})).train()
    model(torch.randn(4, *shape)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", KINDS)
def test_the_weights_come_from_the_seed_and_from_nothing_else(name: str, tools: Tools, opened: Opened) -> None:
    options = SMALL.get(name, {})
    numbers = torch.random.get_rng_state()
    again = load(Load(model=name, dataset="digits", options=options, device="cpu"), tools.data)[0]
    other = load(Load(model=name, dataset="digits", options=options, device="cpu", seed=1), tools.data)[0]
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert fingerprint(again) == fingerprint(opened(name, **options)) != fingerprint(other)


@pytest.mark.parametrize("name", MODELS)
def test_the_title_is_a_menu_line_and_the_line_below_it_the_source(name: str) -> None:
    title, empty, source, *_ = MODELS[name].doc.splitlines()
    assert 0 < len(title) <= 76
    assert not title.endswith(".")
    assert empty == ""
    assert source.endswith(".") and any(str(year) in source for year in range(1998, 2023))


def test_each_model_has_a_title_of_its_own() -> None:
    titles = [model.doc.splitlines()[0] for model in MODELS.values()]
    assert len(set(titles)) == len(titles)


def test_a_member_of_a_family_has_no_knob_for_what_makes_it_that_member(tools: Tools) -> None:
    assert [knob.name for knob in knobs_of(options_type(MODELS["resnet"].build))] == ["depth", "block", "shortcut"]
    assert [knob.name for knob in knobs_of(options_type(MODELS["resnet-56"].build))] == ["shortcut"]
    assert [knob.name for knob in knobs_of(options_type(MODELS["vgg-16"].build))] == ["batch_norm"]
    with pytest.raises(BenchError, match="resnet-56 has no key 'depth'; its keys are shortcut"):
        load(Load(model="resnet-56", dataset="digits", options={"depth": 20}), tools.data)


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_known_in_forward_order_with_the_norms_behind_them(name: str) -> None:
    shape = COLOR if MODELS[name].side == 32 else GRAY
    layers = traced(name, shape)
    names = [layer.name for layer in layers]
    assert len(names) == len(set(names))
    parameters = sum(p.numel() for p in built(name, shape).parameters())
    assert sum(layer.parameters for layer in layers) == parameters
    assert [layer for layer in layers if layer.prunable][-1].channels == 10
    norms = [layer.norm for layer in layers if layer.norm]
    assert len(norms) == len(set(norms))
    if not name.startswith(("preresnet", "wrn", "densenet")):
        assert len(norms) == sum(layer.kind == "norm" for layer in layers)


def test_a_norm_of_a_sum_belongs_to_no_layer() -> None:
    norms = {layer.name: layer.norm for layer in traced("preresnet-20", COLOR) if layer.prunable}
    behind = {name for name, norm in norms.items() if norm}
    assert behind == {f"layer{stage}.{place}.conv1" for stage in (1, 2, 3) for place in range(3)} | {"conv1"}
    assert norms["layer2.0.conv1"] == "layer2.0.bn2"
    wide = {layer.name: layer.norm for layer in traced("wrn", COLOR) if layer.prunable}
    assert wide["layer1.3.conv2"] is None and wide["layer1.0.shortcut"] is None


# The families


def test_the_conv_macs_of_cp_resnet_are_those_of_the_reference() -> None:
    golden = {
        "24 48 72": {(1, 128, 100): 16_861_608, (1, 256, 44): 14_685_480, (1, 28, 28): 745_080},
        "32 64 128": {(1, 128, 100): 33_453_792, (1, 256, 44): 29_236_320, (1, 28, 28): 1_433_120},
    }
    for widths, macs in golden.items():
        for shape, expected in macs.items():
            layers = traced("cp-resnet", shape, widths=widths)
            assert sum(layer.macs for layer in layers if layer.kind == "conv") == expected


def receptive_field(model: nn.Module) -> tuple[int, int]:
    """Frequencies and frames that one value before the global pooling depends on, by its gradient.

    Nothing cancels and nothing is cut off: every weight is positive, and poolings take the mean.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, nn.AvgPool2d(module.kernel_size))
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    maps: list[Tensor] = []
    model.get_submodule("head").register_forward_hook(lambda *seen: maps.append(seen[-1]))
    x = torch.ones(1, 1, 640, 256, dtype=torch.float64, requires_grad=True)
    model.double().eval()(x)
    (found,) = maps
    found[0, 0, found.shape[2] // 2, found.shape[3] // 2].backward()
    assert x.grad is not None
    seen = x.grad[0, 0] != 0
    return int(seen.any(1).sum()), int(seen.any(0).sum())


@pytest.mark.parametrize(
    ("rho", "field"),
    [(2, (43, 23)), (3, (59, 31)), (4, (91, 39)), (5, (123, 47)), (6, (155, 55)), (8, (219, 71)), (11, (315, 95))],
)
def test_rho_sets_the_receptive_field(rho: int, field: tuple[int, int]) -> None:
    assert receptive_field(MODELS["cp-resnet"].build((1, 128, 100), 10, rho=rho, widths="2 2 2")) == field


def test_a_block_that_is_left_out_takes_its_share_of_the_receptive_field() -> None:
    """As in CP-JKU's networks of blocks 2 1 1: rho 8 is counted as if all six blocks were there."""
    model = MODELS["cp-resnet"].build((1, 128, 100), 10, rho=8, widths="2 2 2", blocks="2 1 1")
    assert receptive_field(model) == (155, 55)


def test_cp_resnet_takes_groups_blocks_and_another_first_activation() -> None:
    layers = {layer.name: layer for layer in traced("cp-resnet", GRAY, groups="1 2 4", blocks="2 1 1")}
    assert "stage2.block2.conv1" not in layers
    whole = {layer.name: layer for layer in traced("cp-resnet", GRAY)}
    for name, share in (("stage1.block1.conv1", 1), ("stage2.block1.shortcut.0", 2), ("stage3.block1.conv2", 4)):
        assert layers[name].weights * share == whole[name].weights
    assert isinstance(built("cp-resnet", GRAY, first_activation="hardswish").get_submodule("activation"), nn.Hardswish)


def test_wide_blocks_drop_values_in_training_only() -> None:
    torch.manual_seed(0)
    model = wrn.build((1, 8, 8), 3, depth=10, widen=1, dropout=0.5)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), model(x))
        assert not torch.equal(model.train()(x), model(x))
        for norm in (module for module in model.modules() if isinstance(module, nn.Dropout)):
            norm.p = 0.0
        assert torch.equal(model(x), model(x))


def test_what_dropout_drops_comes_from_the_seed_of_the_finetuning() -> None:
    torch.manual_seed(0)
    state = state_of(wrn.build((1, 8, 8), 10, depth=10, widen=1, dropout=0.5), noise((1, 8, 8)))
    training = Finetune(epochs=2, batch_size=8, lr=0.01, keep="last")
    first = fingerprint(do(state, training))
    numbers = torch.random.get_rng_state()
    torch.rand(1)
    assert fingerprint(do(state, training)) == first
    torch.random.set_rng_state(numbers)
    torch.manual_seed(7)
    do(state, training)
    assert torch.equal(torch.random.get_rng_state(), torch.Generator().manual_seed(7).get_state())


def test_a_dense_layer_keeps_what_it_saw() -> None:
    layer = densenet.DenseLayer(5, 3, bottleneck=True).eval()
    x = torch.randn(2, 5, 4, 4)
    with torch.no_grad():
        out = layer(x)
    assert out.shape == (2, 8, 4, 4)
    assert torch.equal(out[:, :5], x)


def test_the_head_takes_torchvisions_weights_and_sums_the_stem_for_gray(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import resnet18

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    published = resnet18().state_dict()
    torch.save(published, tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    color = MODELS["resnet-18-head"].build(COLOR, 10, pretrained=True).state_dict()
    gray = MODELS["resnet-18-head"].build((1, 32, 32), 10, pretrained=True).state_dict()
    for name, tensor in published.items():
        if not name.startswith("fc."):
            assert torch.equal(color[name], tensor)
            assert name == "conv1.weight" or torch.equal(gray[name], tensor)
    assert torch.equal(gray["conv1.weight"], published["conv1.weight"].sum(1, keepdim=True))
    with pytest.raises(BenchError, match="images of 3 channels or 1, not 2"):
        MODELS["resnet-18-head"].build((2, 32, 32), 10, pretrained=True)


def test_without_a_network_pretrained_weights_are_refused_with_what_would_help(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, tools: Tools
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    why = r"cannot be downloaded \(download.pytorch.org: no route to host\); open it without pretrained, or put"
    with pytest.raises(BenchError, match=why):
        load(Load(model="resnet-18-head", dataset="digits", options={"pretrained": True}), tools.data)


def test_weights_that_are_not_those_that_were_published_are_not_taken(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(io.BytesIO):
        length = None

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Answer(b"weights of a stranger"))
    with pytest.raises(BenchError, match="the SHA-256 differs"):
        MODELS["resnet-18-head"].build(COLOR, 10, pretrained=True)
    assert not list((tmp_path / "checkpoints").iterdir())
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"what somebody put there")
    with pytest.raises(BenchError, match="is not the file of torchvision's weights"):
        MODELS["resnet-18-head"].build(COLOR, 10, pretrained=True)


def test_the_last_stage_behind_an_imagenet_stem_sees_single_pixels() -> None:
    """Places of a kernel where no weight of the layer ever meets a pixel, and how many weights that are."""
    torch.manual_seed(0)
    model = MODELS["resnet-18-head"].build(COLOR, 10).train()
    model(torch.randn(4, *COLOR)).square().sum().backward()
    blind = 0
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.grad is not None
            places = module.weight.grad.abs().amax((0, 1)) == 0
            blind += int(places.sum()) * module.weight[:, :, 0, 0].numel()
    assert blind == 6_946_816


# Refusals


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        ("resnet", {"depth": 21}, "resnet of basic blocks: depth must be 6n + 2, such as 20 or 26, not 21"),
        ("resnet", {"depth": 8, "block": "bottleneck"}, "depth must be 9n + 2, such as 11 or 20, not 8"),
        ("resnet", {"depth": 7}, "depth must be a whole number from 8 to 1202, not 7"),
        ("preresnet", {"depth": 57}, "preresnet of basic blocks: depth must be 6n + 2, such as 56 or 62, not 57"),
        ("wrn", {"depth": 30}, "wrn: depth must be 6n + 4, such as 28 or 34, not 30"),
        ("wrn", {"dropout": 1.0}, "dropout must be a number from 0 below 1, not 1.0"),
        ("resnext", {"depth": 30}, "resnext: depth must be 9n + 2, such as 29 or 38, not 30"),
        ("densenet", {"depth": 101}, "densenet with bottlenecks: depth must be 6n + 4, such as 100 or 106, not 101"),
        (
            "densenet",
            {"depth": 41, "bottleneck": False},
            "without bottlenecks: depth must be 3n [+] 4, such as 40 or 43",
        ),
        ("cp-resnet", {"rho": 12}, "rho must be a whole number from 1 to 11, not 12"),
        ("cp-resnet", {"widths": "24 48"}, 'widths must be three whole numbers from 1 to 4096, such as "24 48 72"'),
        ("cp-resnet", {"widths": "24 48 0"}, 'three whole numbers from 1 to 4096, such as "24 48 72", not "24 48 0"'),
        ("cp-resnet", {"blocks": "2 2 3"}, 'blocks must be three whole numbers from 1 to 2, such as "2 1 1"'),
        ("cp-resnet", {"groups": "1 3 1"}, "3 groups in stage 2 must divide its 32 inputs and 64 filters"),
    ],
)
def test_options_that_make_no_network_are_refused(model: str, options: Options, sentence: str, tools: Tools) -> None:
    with pytest.raises(BenchError, match=sentence.replace(" + ", " [+] ")):
        load(Load(model=model, dataset="digits", options=options), tools.data)


@pytest.mark.parametrize(
    ("model", "shape", "smallest"),
    [
        ("lenet-5", (1, 15, 40), "16×16"),
        ("cp-resnet", (1, 16, 40), "17×5"),
        ("alexnet", (3, 28, 28), "29×29"),
        ("vgg-16", (3, 32, 31), "32×32"),
        ("densenet", (3, 3, 8), "4×4"),
    ],
)
def test_images_of_which_nothing_would_remain_are_refused(model: str, shape: Shape, smallest: str) -> None:
    height, width = (int(side) for side in smallest.split("×"))
    with pytest.raises(BenchError, match=f"{model} .* of {shape[1]}×{shape[2]}: it takes {smallest} and larger"):
        built(model, shape)
    with META:
        model_at_limit = MODELS[model].build((shape[0], height, width), 10)
        assert model_at_limit(torch.zeros(2, shape[0], height, width)).shape == (2, 10)


def test_a_shortcut_that_is_no_option_is_refused(tools: Tools) -> None:
    with pytest.raises(BenchError, match="shortcut must be one of A, B, not 'C'"):
        load(Load(model="resnet-20", dataset="digits", options={"shortcut": "C"}), tools.data)


def test_names_that_no_catalogue_has_are_refused_with_a_guess(tools: Tools) -> None:
    with pytest.raises(BenchError, match=r"no such model: lenet-6; the models are .*did you mean lenet-5\?"):
        load(Load(model="lenet-6", dataset="digits"), tools.data)
    with pytest.raises(BenchError, match=r"no such data set: digit; .*did you mean digits\?"):
        load(Load(model="lenet-5", dataset="digit"), tools.data)
    with pytest.raises(BenchError, match=r"no device 'abacus' here; there is auto, .*cpu"):
        load(Load(model="lenet-5", dataset="digits", device="abacus"), tools.data)


def test_a_state_is_loaded_in_eval_mode_with_every_parameter_trainable(opened: Opened) -> None:
    state = opened("resnet-20")
    assert not any(module.training for module in state.model.modules())
    assert all(p.requires_grad for p in state.model.parameters())
    assert not state.frozen
    assert not state.masks
    assert not state.clusters
    assert not state.kept
