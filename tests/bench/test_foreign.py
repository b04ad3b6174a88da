"""Weights that other programs left: wrapped, with prefixes, masked by torch.nn.utils.prune, of an older torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_examples import Opened, answers, do
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.foreign_weights import plain
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import Finetune, Load

Opening = Callable[..., Applied]


@pytest.fixture
def open_weights(tools: Tools, tmp_path: Path) -> Opening:
    """Opens a model with what torch.save writes of this content."""

    def load(content: Any, model: str = "lenet-5", name: str = "weights.pth") -> Applied:
        if name.endswith(".safetensors"):
            save_file(content, tmp_path / name)
        else:
            torch.save(content, tmp_path / name)
        return apply(Load(model=model, dataset="digits", weights=str(tmp_path / name), device="cpu"), None, tools)

    return load


def pruned(model: nn.Module) -> nn.Module:
    """A model as a script that prunes with torch leaves it."""
    prune.l1_unstructured(model.get_submodule("conv2"), "weight", amount=0.7)
    prune.random_unstructured(model.get_submodule("fc1"), "weight", amount=0.9)
    prune.l1_unstructured(model.get_submodule("fc1"), "bias", amount=0.2)
    prune.identity(model.get_submodule("fc2"), "weight")
    return model


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_the_state_dict_of_a_checkpoint_is_found(opened: Opened, open_weights: Opening, key: str) -> None:
    state = do(opened("resnet-20"), Finetune(epochs=1, lr=0.01, steps=1))
    optimizer = torch.optim.SGD(state.copy_model().parameters(), lr=0.1).state_dict()
    made = open_weights({"epoch": 3, "optimizer": optimizer, key: state.model.state_dict()}, "resnet-20")
    assert fingerprint(made.state) == fingerprint(state)
    assert made.remarks == ()


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("module.", ["stripped the prefix module. of DataParallel"]),
        ("_orig_mod.", ["stripped the prefix _orig_mod. of torch.compile"]),
        (
            "module._orig_mod.",
            ["stripped the prefix module. of DataParallel", "stripped the prefix _orig_mod. of torch.compile"],
        ),
    ],
)
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_prefix_that_all_carry_is_stripped(
    opened: Opened, open_weights: Opening, prefix: str, told: list[str], name: str
) -> None:
    state = opened("lenet-5")
    made = open_weights({prefix + key: value for key, value in state.model.state_dict().items()}, name=name)
    assert fingerprint(made.state) == fingerprint(state)
    assert list(made.remarks) == told


def test_what_data_parallel_saves_can_be_loaded(opened: Opened, open_weights: Opening) -> None:
    state = opened("resnet-20")
    made = open_weights(nn.DataParallel(state.copy_model()).state_dict(), "resnet-20")
    assert fingerprint(made.state) == fingerprint(state)


def test_a_prefix_that_only_some_carry_or_that_the_model_has_itself_stays(
    opened: Opened, open_weights: Opening
) -> None:
    weights = opened("lenet-5").model.state_dict()
    some = {("module." if number else "") + name: value for number, (name, value) in enumerate(weights.items())}
    with pytest.raises(BenchError, match=r"conv1\.bias 20 in the model, absent in the file"):
        open_weights(some)
    own = {f"module.{name}": value for name, value in weights.items()}
    assert plain(own, own).tensors.keys() == own.keys()


def test_pairs_of_torch_prune_are_folded_and_their_zeros_held(opened: Opened, open_weights: Opening) -> None:
    model = pruned(opened("lenet-5").copy_model())
    applied = open_weights({"state_dict": {f"module.{name}": value for name, value in model.state_dict().items()}})
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(applied.state.model(x), model(x))
    assert applied.remarks == (
        "stripped the prefix module. of DataParallel",
        "folded 4 pairs of _orig and _mask (torch.nn.utils.prune)",
        "zeros held in conv2, fc1",
        "zero now, but free to train again: what was masked in fc1.bias",
    )
    masks = applied.state.masks
    assert set(masks) == {"conv2", "fc1"}
    for name in masks:
        expected = model.get_submodule(name).get_buffer("weight_mask").bool()
        assert masks[name].dtype == torch.bool and torch.equal(masks[name], expected)
    assert [int((~mask).sum()) for mask in masks.values()] == [round(0.7 * 25_000), round(0.9 * 400_000)]
    trained = do(applied.state, Finetune(epochs=1, lr=0.1, steps=3, keep="last"))
    for name, mask in masks.items():
        assert not trained.weight(name)[~mask].any(), "held through training"
        assert not torch.equal(trained.weight(name), applied.state.weight(name))


def test_loading_it_again_for_a_replay_gives_the_same(opened: Opened, open_weights: Opening, tools: Tools) -> None:
    once = open_weights(pruned(opened("lenet-5").copy_model()).state_dict())
    again = apply(once.operation, None, tools)
    assert isinstance(again.operation, Load) and again.operation.sha256
    assert again.operation == once.operation and again.remarks == once.remarks
    assert fingerprint(again.state) == fingerprint(once.state)
    assert all(torch.equal(again.state.masks[name], mask) for name, mask in once.state.masks.items())


def test_counters_that_an_older_torch_did_not_have_may_be_missing(opened: Opened, open_weights: Opening) -> None:
    state = do(opened("resnet-20"), Finetune(epochs=1, lr=0.01, steps=1))
    weights = state.model.state_dict()
    made = open_weights({name: value for name, value in weights.items() if "num_batches" not in name}, "resnet-20")
    assert torch.equal(answers(made.state), answers(state))
    assert made.remarks == ("num_batches_tracked is not in the file (an older torch): left at 0",)
    del weights["bn1.running_mean"]
    with pytest.raises(BenchError, match=r"bn1\.running_mean 16 in the model, absent in the file$"):
        open_weights(weights, "resnet-20")


def test_weights_in_half_precision_are_taken_and_told(opened: Opened, open_weights: Opening) -> None:
    half = opened("lenet-5").copy_model().half()
    made = open_weights(half.state_dict())
    assert made.remarks == ("stored as float16; float32 from here on",)
    assert {p.dtype for p in made.state.model.parameters()} == {torch.float32}
    assert torch.equal(answers(made.state), answers(do(made.state))) and torch.equal(
        made.state.weight("fc1"), half.get_submodule("fc1").weight.float()
    )


def without(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if key != name}


def test_half_a_pair_and_a_mask_of_another_shape_are_refused(opened: Opened, open_weights: Opening) -> None:
    weights = pruned(opened("lenet-5").copy_model()).state_dict()
    with pytest.raises(
        BenchError, match=r"conv2\.weight 50×20×5×5 in the model, absent in the file; .*conv2\.weight_orig"
    ):
        open_weights(without(weights, "conv2.weight_mask"))
    with pytest.raises(BenchError, match=r"^conv2\.weight_mask is \[50\] and conv2\.weight_orig is \[50, 20, 5, 5\]"):
        open_weights({**weights, "conv2.weight_mask": torch.ones(50)})


def test_a_checkpoint_with_objects_in_it_is_refused_without_advice_to_run_them(
    opened: Opened, open_weights: Opening
) -> None:
    from argparse import Namespace

    with pytest.raises(BenchError) as caught:
        open_weights({"state_dict": opened("lenet-5").model.state_dict(), "args": Namespace(lr=0.1)})
    sentence = str(caught.value)
    assert sentence.endswith("Nothing of it was run (it wants to run argparse.Namespace)")
    assert "weights_only" not in sentence and "\x1b" not in sentence
