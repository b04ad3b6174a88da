"""Models of one's own: nothing runs without trust, what goes wrong is a sentence, what works is pruned like the zoo."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_examples import noise, picture
from own_examples import BAD, GOOD

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.states.checkpoints import fill, read, save
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.opened import fresh
from labbench.bench.states.state import State
from labbench.bench.states.user_model import OwnModels
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import AnyOperation, Cluster, Finetune, Freeze, Load, Prune, Unfreeze, Value

SHAPE = (1, 28, 28)
STRUCTURED = "group-magnitude"
TOUCH = "import pathlib\npathlib.Path('touched').touch()\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the user is, with two files of theirs; what is imported from there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    modules, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


class Bench:
    """What is asked of the bench, by someone who trusts these models."""

    def __init__(self, *trusted: str, shape: tuple[int, int, int] = SHAPE) -> None:
        self.own = OwnModels()
        self.own.trusted.update(trusted)
        self.sides: list[int] = []
        data = noise(shape)

        def find(name: str, options: object, side: int):  # type: ignore[no-untyped-def]
            self.sides.append(side)
            return data

        self.tools = Tools(find, own=self.own)

    def load(self, model: str, code: str = "", **options: Value) -> Applied:
        operation = Load(model=model, dataset="digits", device="cpu", options=options, code_sha256=code)
        return apply(operation, None, self.tools)

    def do(self, state: State, *operations: AnyOperation) -> State:
        """The state after operations, each of which can be shown, written and read again."""
        for operation in operations:
            state = apply(operation, state, self.tools).state
            assert snapshot(state).whole.now == sum(p.numel() for p in state.model.parameters())
            path = Path("checkpoint.safetensors")
            save(state, path)
            tensors, record = read(path)
            again = fill(fresh(state.load, self.tools.data, self.own), tensors, record, path)
            assert fingerprint(replace(again, frozen=state.frozen)) == fingerprint(state)
        return state


def opened(model: str, shape: tuple[int, int, int] = SHAPE, **options: Value) -> tuple[Bench, State]:
    bench = Bench(model, shape=shape)
    return bench, bench.load(model, **options).state


def kinds(state: State) -> dict[str, str]:
    return {layer.name: layer.kind for layer in state.layers}


@pytest.mark.parametrize("model", ["touch.py:build", "touch:build"])
def test_nothing_is_imported_unless_just_that_name_was_trusted(folder: Path, model: str) -> None:
    (folder / "touch.py").write_text(TOUCH + "from net import plain as build\n")
    for trusted in ((), ("net.py:plain",), ("touch.py",), ("touch.py:other", "touch:other")):
        with pytest.raises(BenchError, match=f"{model} is code, and nobody asked for it by name"):
            Bench(*trusted).load(model)
        with pytest.raises(BenchError, match="not imported"):
            fresh(Load(model=model, dataset="digits", device="cpu"), Bench().tools.data)
    assert not (folder / "touched").exists()
    Bench(model).load(model)
    assert (folder / "touched").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leaves", r"bad.py:leaves failed: SystemExit: 3 \(bad.py, line \d+\)$"),
        ("raises", r"bad.py:raises failed: ValueError: depth must be even \(bad.py, line \d+\)$"),
        ("asks", "bad.py:asks failed: "),
        ("nothing", "gave None, not a torch.nn.Module"),
        ("needs", "needs width, which no data set tells; give it as an option"),
        ("named", "answers with a dict, not with one tensor"),
        ("two_modes", "answers with a tuple, in training, not with one tensor"),
        ("in_place", "changes the images that it is given, in place"),
        ("narrow", "answers 2×7 for 2 images of 1×28×28; 2×10 was expected"),
        ("gradless", "no gradient reaches its parameters"),
        ("ends", "does not run on images of 1×28×28: SystemExit"),
        ("no_layer", "no convolution and no linear layer"),
        ("double", "does not run on images of 1×28×28: RuntimeError: .*dtype"),
        ("raise", "has no raise; it has .*; did you mean raises?"),
        ("instance", "is a model; name its class"),
        ("number", "is a int; a function or a class"),
    ],
)
def test_what_goes_wrong_in_a_users_code_is_a_sentence(name: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        Bench(f"bad.py:{name}").load(f"bad.py:{name}")
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gone.py:f", r"there is no file gone.py in "),
        ("gone:f", r"there is no module gone, neither in .* nor installed"),
        ("torch.gone:f", r"there is no module torch.gone"),
        ("missing.py:f", r"ModuleNotFoundError: No module named 'nothing_of_the_kind' \(missing.py, line 1\)"),
        ("missing:f", r"ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("syntax.py:f", r"cannot be imported: SyntaxError"),
        ("exits.py:f", r"cannot be imported: SystemExit: bye"),
        ("builtins:len", r"needs obj"),
        ("net.py:1", "a model of your own is named by"),
    ],
)
def test_what_cannot_be_imported_is_a_sentence(folder: Path, model: str, said: str) -> None:
    (folder / "missing.py").write_text("import nothing_of_the_kind")
    (folder / "syntax.py").write_text("def f(:")
    (folder / "exits.py").write_text("import sys; sys.exit('bye')")
    with pytest.raises(BenchError, match=said):
        Bench(model).load(model)


def test_a_factory_is_told_of_the_data_what_it_asks_for() -> None:
    bench = Bench("net.py:plain", shape=(3, 28, 28))
    applied = bench.load("net.py:plain", width=6)
    assert applied.state.weight("0").shape == (6, 3, 3, 3)
    assert applied.state.weight("7").shape == (10, 12)
    assert bench.sides == [28]
    bench.load("net.py:plain", side=64)
    assert bench.sides[-1] == 64
    for options, said in (
        ({"widht": 8}, r"has no option widht; it takes in_channels, num_classes, width, side; did you mean width\?"),
        ({"side": "big"}, "side must be a whole number"),
    ):
        with pytest.raises(BenchError, match=said):
            bench.load("net.py:plain", **options)


def test_the_seed_decides_the_weights_and_nobody_elses_random_numbers() -> None:
    bench = Bench("net.py:plain")
    before = torch.random.get_rng_state()
    one, two = (bench.load("net.py:plain").state for _ in range(2))
    other = apply(Load(model="net.py:plain", dataset="digits", device="cpu", seed=1), None, bench.tools).state
    assert fingerprint(one) == fingerprint(two) != fingerprint(other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_plain_network_is_frozen_pruned_cut_clustered_and_trained() -> None:
    bench, state = opened("net.py:plain", width=8)
    assert kinds(state) == {"0": "conv", "1": "norm", "3": "conv", "7": "linear"}
    assert state.layers[0].norm == "1"
    before = picture(state)
    made = bench.do(
        state,
        Prune(amount=0.3),
        Cluster(layers=("3",), k=4),
        Prune(amount=0.5, method=STRUCTURED),
        Freeze(layers=("0",)),
        Finetune(epochs=1, batch_size=8),
    )
    assert made.weight("0").shape[0] == 4 and made.weight("3").shape[:2] == (8, 4)
    assert picture(state) == before


def test_lazy_layers_are_made_and_a_computed_weight_is_not_pruned() -> None:
    bench, state = opened("net.py:lazy")
    bench.do(state, Prune(amount=0.5), Prune(layers=("0",), amount=0.5, method=STRUCTURED))
    _, state = opened("net.py:normed")
    assert [layer.name for layer in state.layers if layer.prunable] == ["3"]
    assert kinds(state)["1.parametrizations.weight.original1"] == "other"


def test_a_transformer_is_worked_on_and_what_cannot_be_cut_says_why() -> None:
    model = "net.py:Transformer"
    bench = Bench(model)
    applied = bench.load(model)
    state = applied.state
    assert applied.remarks == (
        "MACs leave out 9,248 of features with each other, as in attention",
        "frozen, because the model itself holds them fixed: place",
    )
    found = kinds(state)
    assert {found[name] for name in ("token", "place", "block.self_attn.in_proj_weight")} == {"other"}
    assert found["block.self_attn.out_proj"] == "linear" and found["block.norm1"] == "norm"
    assert "norm" not in found
    assert sum(layer.parameters for layer in state.layers) == sum(p.numel() for p in state.model.parameters())
    for layer, why in (
        ("patch", r"coupled with a MultiheadAttention \(block\.self_attn\)"),
        ("block.linear2", r"a LayerNorm goes over several channels.*\(block.norm\d\)"),
        ("block.self_attn.out_proj", "a MultiheadAttention computes with its weights by itself"),
        ("head", "the answers of the model"),
    ):
        with pytest.raises(BenchError, match=why):
            apply(Prune(layers=(layer,), method=STRUCTURED), state, bench.tools)
    attention = [name for name in found if name.startswith("block.self_attn.")]
    made = bench.do(state, Prune(amount=0.4), Prune(amount=0.5, method=STRUCTURED))
    assert made.weight("block.linear1").shape == (16, 16)
    trained = bench.do(made, Freeze(layers=("token", *attention)), Finetune(epochs=1, batch_size=8))
    for name in ("token", "place", "block.self_attn.in_proj_weight", "block.self_attn.out_proj.weight"):
        assert torch.equal(trained.model.get_parameter(name), made.model.get_parameter(name))
    assert not torch.equal(trained.weight("block.linear1"), made.weight("block.linear1"))
    freed = bench.do(trained, Unfreeze(layers=("token",)), Finetune(epochs=1, batch_size=8))
    assert not torch.equal(freed.model.get_parameter("token"), made.model.get_parameter("token"))
    assert torch.equal(freed.model.get_parameter("place"), made.model.get_parameter("place"))


def test_a_tensor_of_two_layers_counts_once_and_is_not_cut() -> None:
    bench, state = opened("net.py:Tied")
    found = kinds(state)
    assert (found["one"], found["two"], found["unused"], found["scale"]) == ("conv", "other", "linear", "other")
    assert sum(layer.parameters for layer in state.layers) == sum(p.numel() for p in state.model.parameters())
    for layer in ("stem", "one"):
        with pytest.raises(BenchError, match=r"one.weight and two.weight are one tensor"):
            apply(Prune(layers=(layer,), method=STRUCTURED), state, bench.tools)
    with pytest.raises(BenchError, match="no path leads from it"):
        apply(Prune(layers=("unused",), method=STRUCTURED), state, bench.tools)
    made = bench.do(state, Prune(layers=("one",), amount=0.5), Freeze(layers=("two",)))
    trained = bench.do(made, Finetune(epochs=1, batch_size=8))
    assert torch.equal(trained.weight("one"), made.weight("one"))
    assert trained.model.get_submodule("one").weight is trained.model.get_submodule("two").weight


def test_a_layer_used_twice_is_cut_with_itself() -> None:
    bench, state = opened("net.py:Twice")
    made = bench.do(state, Prune(layers=("stem",), amount=0.5, method=STRUCTURED), Finetune(epochs=1, batch_size=8))
    assert made.weight("again").shape[:2] == (4, 4)


def test_a_cut_that_a_branch_of_the_forward_pass_does_not_stand_is_refused() -> None:
    bench, state = opened("net.py:Dynamic")
    with torch.no_grad():
        state.model.get_parameter("stem.bias").fill_(0.15)  # the trace of zeros goes by, random images do not
    with pytest.raises(BenchError, match="without some of its channels the network does not run"):
        apply(Prune(layers=("stem",), amount=0.5, method=STRUCTURED), state, bench.tools)


@pytest.mark.parametrize(
    ("name", "options", "some"), [("resnet18", {}, "layer1"), ("mobilenet_v2", {"width_mult": 0.25}, "*")]
)
def test_torchvisions_models_work_out_of_the_box(name: str, options: dict[str, Value], some: str) -> None:
    bench, state = opened(f"torchvision.models:{name}", shape=(3, 16, 16), **options)
    assert [layer for layer in state.layers if layer.prunable][-1].channels == 10
    first = next(layer.name for layer in state.layers if layer.prunable)
    made = state
    for operation in (Prune(amount=0.3), Freeze(layers=(first,)), Finetune(epochs=1, batch_size=12), Unfreeze()):
        made = apply(operation, made, bench.tools).state
    assert snapshot(made).prunable.sparsity == pytest.approx(0.3, abs=1e-3)
    cut = bench.do(made, Prune(layers=(some,), amount=0.3, method=STRUCTURED))
    assert snapshot(cut).macs < snapshot(made).macs


def test_images_of_other_channels_are_refused_with_the_reason() -> None:
    with pytest.raises(BenchError, match=r"does not run on images of 1×28×28: .* 3 channels, but got 1"):
        opened("torchvision.models:resnet18")


@pytest.mark.parametrize("model", ["edit.py:build", "edit:build"])
def test_edited_code_is_run_as_it_is_now_and_the_old_one_is_kept_for_older_states(folder: Path, model: str) -> None:
    file = folder / "edit.py"
    text = (
        "from torch import nn\n"
        "def build(classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, {}), nn.Linear({}, classes))\n"
    )
    file.write_text(text.format(8, 8))
    bench = Bench(model)
    first = bench.load(model)
    assert isinstance(first.operation, Load) and len(first.operation.code_sha256) == 64
    assert bench.load(model, first.operation.code_sha256).operation == first.operation
    file.write_text(text.format(17, 17))
    os.utime(file, (1, 1))
    second = bench.load(model)
    assert second.state.weight("1").shape == (17, 784)
    assert isinstance(second.operation, Load) and second.operation.code_sha256 != first.operation.code_sha256
    assert not second.remarks
    assert bench.load(model, first.operation.code_sha256).state.weight("1").shape == (8, 784)
    later = Bench(model).load(model, first.operation.code_sha256)
    assert later.remarks == (f"{model} is not the code that was recorded (its SHA-256 differs)",)
    assert later.operation == second.operation


def test_a_file_finds_its_neighbors_and_keeps_its_name_to_itself(folder: Path) -> None:
    course = folder / "course"
    course.mkdir()
    (course / "blocks.py").write_text("from torch import nn\nclass Block(nn.Flatten): pass\n")
    (course / "random.py").write_text(
        "from blocks import Block\nfrom torch import nn\n"
        "def build(classes): return nn.Sequential(Block(), nn.Linear(784, classes))\n"
    )
    random = sys.modules["random"]
    opened("course/random.py:build")
    assert sys.modules["random"] is random


def test_a_file_of_weights_that_names_another_model_runs_none_of_it(folder: Path) -> None:
    bench, state = opened("net.py:plain")
    path = folder / "w.safetensors"
    (folder / "touch.py").write_text(TOUCH)
    save(replace(state, load=Load(model="touch.py:build", dataset="digits")), path)
    operation = Load(model="net.py:plain", dataset="digits", device="cpu", weights=str(path))
    with pytest.raises(BenchError, match=r"holds a touch.py:build, not a net.py:plain"):
        apply(operation, None, bench.tools)
    assert not (folder / "touched").exists()
