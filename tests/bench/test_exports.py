"""Exports: every format is read again, by what it was written for, and answers as the bench's model does."""

import gzip
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from bench_examples import Opened, do, hooks, untouched
from safetensors.torch import load_file
from torch import Tensor, nn

import labbench
from labbench import load_model
from labbench.bench import exports
from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.exports import export, gzipped
from labbench.bench.models import resnet_18_head
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session.events import EXPORT_FORMATS
from labbench.session.operations import AnyOperation, Cluster, Finetune, Load, Prune

CUT = Prune(method="group-magnitude", amount=0.4)
STATES: dict[str, tuple[AnyOperation, ...]] = {
    "masked": (Prune(amount=0.6),),
    "clustered": (Cluster(layers=("*",), fraction=0.4),),
    "cut": (CUT,),
}
TRAIN = Finetune(epochs=1, lr=0.01, steps=2)  # batch norms and biases that are not what they were born as


@pytest.fixture(
    scope="module", params=[(model, what) for model in ("lenet-5", "resnet-20") for what in STATES], ids=str
)
def state(request: pytest.FixtureRequest, opened: Opened) -> State:
    model, what = request.param
    return do(opened(model), TRAIN, *STATES[what])


def images(state: State, count: int = 3) -> Tensor:
    """Normalized images of the test split, as many as neither the tracer nor the check of an export has seen."""
    return state.data.normalized(state.data.on(torch.device("cpu"))["test"][0][:count])


def logits(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


def run_onnx(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])


def rebuilt(state: State, tensors: dict[str, Tensor]) -> nn.Module:
    """The bench's own structure with the tensors of a file and nothing else."""
    model = state.copy_model()
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_state_dict(tensors)
    return model


@pytest.mark.parametrize("suffix", EXPORT_FORMATS)
def test_every_format_is_read_again_and_answers_as_the_model(state: State, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / f"model{suffix}"
    with untouched(state):
        exported = export(state, path)
    assert os.listdir(path.parent) == [path.name]
    assert exported.size == path.stat().st_size
    assert exported.gzipped == len(gzip.compress(path.read_bytes(), 6))
    for count in (1, 3):
        x = images(state, count)
        expected = logits(state.model, x)
        if suffix == ".onnx":
            onnx.checker.check_model(path)
            assert torch.allclose(run_onnx(path, x), expected, rtol=0, atol=1e-4)
        elif suffix == ".pt2":
            assert torch.equal(logits(torch.export.load(path).module(), x), expected)
        else:
            assert torch.equal(logits(load_model(path), x), expected)
            tensors = load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
            assert torch.equal(logits(rebuilt(state, tensors), x), expected)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_weights_go_back_to_the_bench_with_structure_masks_and_clusters(
    state: State, tools: Tools, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    export(state, path)
    made = apply(Load(model=state.load.model, dataset="digits", weights=str(path), device="cpu"), None, tools)
    assert fingerprint(made.state) == fingerprint(state)
    assert made.remarks == ()
    assert dict(made.state.kept) == dict(state.kept)
    for mine, yours in ((made.state.masks, state.masks), (made.state.clusters, state.clusters)):
        assert mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)


def test_a_state_dict_is_that_of_the_module_and_nothing_else(opened: Opened, tmp_path: Path) -> None:
    state = opened("resnet-20")
    export(state, tmp_path / "model.pth")
    found = torch.load(tmp_path / "model.pth", weights_only=True)
    expected = state.model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_program_says_what_it_takes_and_carries_the_record(opened: Opened, suffix: str, tmp_path: Path) -> None:
    state = do(opened("lenet-5"), CUT)
    path = tmp_path / f"model{suffix}"
    exported = export(state, path)
    assert exported.deviation is not None and 0 <= exported.deviation < 1e-4
    mean, std = state.data.mean[0], state.data.std[0]
    assert exported.remarks == (
        f"takes normalized images N×1×28×28: (pixels / 255 − mean) / std with mean {mean:.4f} and std {std:.4f}",
    )
    if suffix == ".onnx":
        model = onnx.load(path)
        text = {entry.key: entry.value for entry in model.metadata_props}["labbench"]
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    else:
        extra = {"labbench": ""}
        torch.export.load(path, extra_files=extra)
        text = extra["labbench"]
    record = json.loads(text)
    assert record["classes"] == [str(number) for number in range(10)]
    assert record["mean"] == [mean] and record["std"] == [std]


def test_sizes_tell_zeros_and_cut_channels(opened: Opened, tmp_path: Path) -> None:
    loaded = opened("lenet-5")
    dense = export(loaded, tmp_path / "dense.safetensors")
    sparse = export(do(loaded, Prune(amount=0.9)), tmp_path / "sparse.safetensors")
    small = export(do(loaded, CUT), tmp_path / "small.safetensors")
    assert dense.loaded == sparse.loaded == small.loaded == 431_080 * 4
    assert dense.size >= dense.loaded and dense.gzipped > 0.9 * dense.loaded
    assert abs(sparse.size - dense.size) < 1000 and sparse.gzipped < 0.2 * dense.gzipped
    assert small.size < 0.5 * dense.size
    assert gzipped(tmp_path / "small.safetensors") == small.gzipped


def test_a_file_is_as_readable_as_any_other(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    export(opened("lenet-5"), tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


# Refusals


@pytest.mark.parametrize("name", ["model.zip", "model", "model.safetensors.gz"])
def test_another_ending_is_refused(opened: Opened, tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchError, match=r"an export is written as \.safetensors, \.pth, \.pt, \.pt2, \.onnx"):
        export(opened("lenet-5"), tmp_path / name)
    assert not os.listdir(tmp_path)


def test_a_program_that_answers_differently_is_not_kept(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pt2").write_text("precious")
    monkeypatch.setattr(exports, "_program", lambda path: lambda x: torch.zeros(len(x), 10))
    with pytest.raises(BenchError, match=r"answers differently from the model, by .*; nothing is kept"):
        export(opened("lenet-5"), tmp_path / "model.pt2")
    assert (tmp_path / "model.pt2").read_text() == "precious"
    assert os.listdir(tmp_path) == ["model.pt2"]


class Undecided(nn.Sequential):
    """Answers by what it sees: no graph can be made of it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


def test_a_model_that_cannot_be_traced_is_refused_and_left_alone(opened: Opened, tmp_path: Path) -> None:
    state = opened("lenet-5")
    model = state.copy_model()
    model.__class__ = Undecided
    undecided = State(state.load, state.device, state.data, model, state.layers)
    with untouched(undecided), pytest.raises(BenchError, match=r"^torch\.export cannot trace this model: .+"):
        export(undecided, tmp_path / "model.onnx")
    assert not os.listdir(tmp_path) and not hooks(model)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_extra(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BenchError, match=rf"^an \.onnx file needs {package}: pip install 'labbench\[onnx\]'$"):
        export(opened("lenet-5"), tmp_path / "model.onnx")


def test_a_place_that_cannot_be_written_is_named(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for suffix in EXPORT_FORMATS:
        with pytest.raises(BenchError, match=rf"cannot write .*model\{suffix}"):
            export(opened("lenet-5"), tmp_path / "file" / f"model{suffix}")


# Without the bench


def test_a_model_is_loaded_without_data_set_and_app(opened: Opened, tmp_path: Path) -> None:
    state = do(opened("lenet-5"), CUT)
    export(state, tmp_path / "small.safetensors")
    x = images(state)
    torch.save((x, logits(state.model, x)), tmp_path / "expected.pth")
    code = textwrap.dedent("""
        import sys, labbench
        assert "torch" not in sys.modules, "import labbench stays light"
        from labbench import load_model
        model = load_model("small.safetensors")
        import torch
        x, expected = torch.load("expected.pth", weights_only=True)
        assert not model.training and torch.equal(model(x), expected)
        assert model.labbench.classes == tuple("0123456789") and model.labbench.shape == (1, 28, 28)
        assert not {"textual", "sklearn", "torchvision", "labbench.tui", "labbench.worker"} & set(sys.modules)
    """)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_that_began_with_published_weights_is_loaded_without_fetching_them(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = opened("resnet-18-head")
    load = Load(model="resnet-18-head", dataset="digits", options={"pretrained": True})
    export(replace(state, load=load), tmp_path / "model.safetensors")
    monkeypatch.setattr(resnet_18_head, "_published", lambda channels: pytest.fail("nothing is fetched"))
    x = images(state)
    assert torch.equal(logits(load_model(tmp_path / "model.safetensors"), x), logits(state.model, x))


def test_the_code_of_an_own_model_is_not_run_by_loading_a_file(opened: Opened, tmp_path: Path) -> None:
    state = replace(opened("lenet-5"), load=Load(model="this:build", dataset="digits"))
    export(state, tmp_path / "model.safetensors")
    with pytest.raises(BenchError, match=r"holds this:build, whose code is not run here; export it as \.pt2 or \.onnx"):
        load_model(tmp_path / "model.safetensors")
    export(state, tmp_path / "model.pt2")
    x = images(state)
    assert torch.equal(logits(torch.export.load(tmp_path / "model.pt2").module(), x), logits(state.model, x))


def test_what_is_no_model_of_labbench_is_refused(opened: Opened, tmp_path: Path) -> None:
    torch.save(opened("lenet-5").model.state_dict(), tmp_path / "foreign.pth")
    with pytest.raises(BenchError, match=r"has no record of labbench"):
        load_model(tmp_path / "foreign.pth")
    for suffix, words in ((".pt2", r"torch\.export\.load"), (".onnx", "onnxruntime")):
        with pytest.raises(BenchError, match=rf"holds a program, .*{words}"):
            load_model(tmp_path / f"model{suffix}")
    with pytest.raises(BenchError, match="no such file of weights"):
        load_model(str(tmp_path / "nothing.safetensors"))


def test_labbench_has_nothing_else_to_look_up() -> None:
    assert labbench.load_model is exports.load_model
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        labbench.nope  # type: ignore[attr-defined]  # noqa: B018
