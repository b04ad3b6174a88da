"""Why an export is refused: in one line of plain text, whatever an exporter says and however it colors it."""

from pathlib import Path

import pytest
from bench_examples import noise, state_of
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.exports import export


class Double(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x.double()).float()
        return out


class Random(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5)


def layers() -> list[nn.Module]:
    return [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)]


@pytest.mark.parametrize(
    ("model", "ending", "said"),
    [
        (Double(*layers()).double(), ".onnx", "onnxruntime cannot run the written program: .*NOT_IMPLEMENTED"),
        (Random(*layers()), ".pt2", "the model answers at random, in eval mode too"),
    ],
)
def test_a_refused_export_says_why_and_leaves_nothing(tmp_path: Path, model: nn.Module, ending: str, said: str) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnxruntime")
    state = state_of(model, noise((1, 8, 8)))
    with pytest.raises(BenchError, match=said) as raised:
        export(state, tmp_path / f"x{ending}")
    assert str(raised.value).isprintable() and len(str(raised.value)) < 250
    assert not (tmp_path / f"x{ending}").exists()
