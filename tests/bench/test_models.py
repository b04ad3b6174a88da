"""What holds for every model of the catalogue, and the parameter counts of the papers."""

import itertools
from typing import Any

import pytest
import torch
from bench_examples import Opened

from labbench.bench.apply import Tools
from labbench.bench.errors import BenchError
from labbench.bench.loading import load
from labbench.bench.measure import fingerprint
from labbench.bench.models import MODELS
from labbench.session.catalogue import knobs_of, options_type
from labbench.session.operations import Load

GOLDEN = {
    ("lenet-300-100", None): 266_610,
    ("lenet-5", None): 431_080,
    ("resnet-20", "A"): 269_722,
    ("resnet-20", "B"): 272_474,
    ("resnet-18", None): 11_173_962,
}
CLAIMED = {
    "lenet-300-100": [(1, 28, 28)],
    "lenet-5": [(1, 28, 28), (3, 32, 32)],
    "resnet-20": [(1, 32, 32), (3, 32, 32)],
    "resnet-18": [(1, 32, 32), (3, 32, 32)],
}


def options_of(name: str) -> list[dict[str, Any]]:
    """Every combination of the options that are choices."""
    knobs = [knob for knob in knobs_of(options_type(MODELS[name].build)) if knob.choices]
    return [
        dict(zip([knob.name for knob in knobs], values, strict=True))
        for values in itertools.product(*[k.choices for k in knobs])
    ]


EVERY = [
    (name, options, shape, classes)
    for name in MODELS
    for options in options_of(name)
    for shape in CLAIMED[name]
    for classes in (2, 10, 37)
]


@pytest.mark.parametrize(("name", "shortcut"), GOLDEN)
def test_the_number_of_parameters_is_that_of_the_paper(name: str, shortcut: str | None) -> None:
    shape = (1, 28, 28) if name.startswith("lenet") else (3, 32, 32)
    with torch.device("meta"):
        model = MODELS[name].build(shape, 10, **({"shortcut": shortcut} if shortcut else {}))
    assert sum(p.numel() for p in model.parameters()) == GOLDEN[name, shortcut]


def test_every_model_has_a_golden_count_and_claims_shapes() -> None:
    assert {name for name, _ in GOLDEN} == set(MODELS) == set(CLAIMED)


@pytest.mark.parametrize(("name", "options", "shape", "classes"), EVERY)
def test_a_model_answers_with_one_logit_for_each_class(
    name: str, options: dict[str, Any], shape: tuple[int, int, int], classes: int
) -> None:
    with torch.device("meta"):
        model = MODELS[name].build(shape, classes, **options).train()
        assert model(torch.zeros(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "resnet-18"])
@pytest.mark.parametrize("channels", [1, 3])
def test_answers_are_finite_and_differ_between_images(name: str, channels: int) -> None:
    shape = (channels, MODELS[name].side, MODELS[name].side)
    for options in options_of(name):
        torch.manual_seed(0)
        model = MODELS[name].build(shape, 7, **options).eval()
        with torch.no_grad():
            logits = model(torch.randn(2, *shape))
        assert logits.isfinite().all()
        assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_come_from_the_seed_and_from_nothing_else(name: str, tools: Tools, opened: Opened) -> None:
    numbers = torch.random.get_rng_state()
    again = load(Load(model=name, dataset="digits", device="cpu"), tools.data)[0]
    other = load(Load(model=name, dataset="digits", device="cpu", seed=1), tools.data)[0]
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert fingerprint(again) == fingerprint(opened(name)) != fingerprint(other)


@pytest.mark.parametrize("name", MODELS)
def test_the_docstring_is_a_menu_entry_and_its_source(name: str) -> None:
    first, *more = (MODELS[name].build.__doc__ or "").splitlines()
    assert 0 < len(first) <= 76
    assert not first.endswith(".")
    assert any(line.strip() for line in more)


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_known_in_forward_order_with_the_norms_behind_them(name: str, opened: Opened) -> None:
    state = opened(name)
    names = [layer.name for layer in state.layers]
    assert len(names) == len(set(names))
    assert sum(layer.parameters for layer in state.layers) == sum(p.numel() for p in state.model.parameters())
    norms = [layer.norm for layer in state.layers if layer.norm]
    assert len(norms) == len(set(norms)) == sum(layer.kind == "norm" for layer in state.layers)
    assert names[-1] == [layer.name for layer in state.layers if layer.prunable][-1]


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
