"""Files of weights that are none, or say more than they hold: a sentence of readable length, and no memory."""

import json
import os
import resource
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_examples import Opened, do
from torch import nn

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.exports import export
from labbench.bench.states.checkpoints import read
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import Finetune, Load


def opening(path: Path, tools: Tools, model: str = "lenet-300-100") -> Applied:
    return apply(Load(model=model, dataset="digits", weights=str(path), device="cpu"), None, tools)


def tensors(opened: Opened) -> dict[Any, Any]:
    return dict(opened("lenet-300-100").model.state_dict())


def quantized() -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (3, torch.ones(3), "has a key that is no name: 3"),
        ("fc1.weight", torch.eye(3).to_sparse(), r"fc1\.weight is sparse \(to_dense\(\) makes it plain\)"),
        ("fc1.weight", None, r"fc1\.weight is sparse"),
        ("fc1.weight", quantized(), r"fc1\.weight is quantized"),
        ("fc1.weight", torch.ones(3, device="meta"), r"fc1\.weight is a tensor without numbers"),
        ("x" * 100_000, torch.ones(3), r"does not fit the model: x{100,}… absent in the model, 3 in the file"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_numbers_are_named_in_a_sentence(
    opened: Opened, tools: Tools, tmp_path: Path, name: Any, value: torch.Tensor | None, said: str
) -> None:
    path = tmp_path / "w.pth"
    torch.save(tensors(opened) | {name: torch.eye(3).to_sparse_csr() if value is None else value}, path)
    with pytest.raises(BenchError, match=said) as raised:
        opening(path, tools)
    assert len(str(raised.value)) < 400 + len(str(path))


def test_a_header_with_a_long_name_is_a_short_sentence(tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = json.dumps({"n" * 100_000: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(BenchError, match="does not fit the model") as raised:
        opening(path, tools)
    assert len(str(raised.value)) < 700


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_small_file_that_says_gigabytes_is_refused_before_anything_is_allocated(tools: Tools, tmp_path: Path) -> None:
    sparse = tmp_path / "w.safetensors"
    size = 20 * 10**9
    header = json.dumps({"fc1.weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with sparse.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    deflated = tmp_path / "w.pth"
    torch.save({"fc1.weight": torch.zeros(10**8)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as old, zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert deflated.stat().st_size < 10**6
    before = peak()
    for path, said in ((sparse, "20,000 MB"), (deflated, "400 MB")):
        with pytest.raises(BenchError, match=f"unpacks to {said}, and no file for this model needs more than .* MB"):
            opening(path, tools)
    assert peak() - before < 10**8


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.pt"])
def test_what_is_no_regular_file_is_not_opened(tools: Tools, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for path in (tmp_path / name, Path("/dev/zero"), tmp_path):
        with pytest.raises(BenchError, match="is no file of plain weights: it is a folder, a pipe or a device"):
            opening(path, tools)
        with pytest.raises(BenchError, match="is no file of plain weights"):
            read(path)


@pytest.mark.parametrize("prefix", ["model.", "net.model.", "module.encoder.", "a.b.c."])
@pytest.mark.parametrize("model", ["lenet-300-100", "resnet-20"])
def test_any_prefix_that_stands_before_all_names_is_stripped_and_told(
    opened: Opened, tools: Tools, tmp_path: Path, prefix: str, model: str
) -> None:
    state = do(opened(model), Finetune(epochs=1, lr=0.01, steps=1))
    path = tmp_path / "w.pth"
    weights = {f"{prefix}{name}": value for name, value in state.model.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3}, path)
    made = opening(path, tools, model)
    assert fingerprint(made.state) == fingerprint(state)
    parts = [f"{part}." for part in prefix.split(".")[:-1]]
    assert [remark.split()[3] for remark in made.remarks] == parts


def test_a_prefix_that_leads_to_nothing_stays_in_the_sentence(tools: Tools, tmp_path: Path) -> None:
    torch.save(nn.ModuleDict({"model": nn.Linear(2, 2)}).state_dict(), tmp_path / "w.pth")
    with pytest.raises(BenchError, match=r"fc1\.weight 300×784 in the model, absent in the file"):
        opening(tmp_path / "w.pth", tools)


@pytest.mark.parametrize("ending", [".pth", ".pt", ".safetensors", ".pt2", ".onnx"])
def test_a_disk_that_is_full_is_named_and_leaves_what_was_there(opened: Opened, tmp_path: Path, ending: str) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnxruntime")
    path = tmp_path / f"w{ending}"
    path.write_bytes(b"precious")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # as a full disk does, it fails in the midst of writing
    try:
        with pytest.raises(BenchError, match=r"cannot write .*: .*(File too large|os error 27)"):
            export(opened("lenet-300-100"), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"precious"
    assert [name for name in os.listdir(tmp_path) if "w." in name] == [path.name]
