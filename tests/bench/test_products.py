"""MACs of what no convolution or linear layer is called for, against torch's own counter."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from bench_examples import CPU, do, noise, state_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.states.state import traced
from labbench.session.operations import Prune

SHAPE = (2, 8, 8)


class Net(nn.Module):
    """Computes by a function of itself."""

    def __init__(self, function: Callable[["Net", Tensor], Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight - self.weight.mean(), self.bias, self.stride, self.padding)


class Lora(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Parameter(torch.ones(2, inputs)), nn.Parameter(torch.ones(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.down.t() @ self.up.t()


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


NETS: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "a functional convolution": (
        lambda: Net(lambda net, x: F.conv2d(x, net.w), w=parameter(5, 2, 3, 3)),
        {"w": 5 * 36 * 18},
    ),
    "a grouped one": (
        lambda: Net(lambda net, x: F.conv2d(x, net.w, groups=2), w=parameter(4, 1, 3, 3)),
        {"w": 4 * 36 * 9},
    ),
    "a functional linear layer": (
        lambda: Net(lambda net, x: F.linear(x.flatten(1), net.w), w=parameter(3, 128)),
        {"w": 3 * 128},
    ),
    "a product with a matrix, on one vector": (
        lambda: Net(lambda net, x: (x.flatten(1) @ net.w) + net.w.t() @ x.flatten(), w=parameter(128, 3)),
        {"w": 2 * 3 * 128},
    ),
    "einsum": (
        lambda: Net(lambda net, x: torch.einsum("nchw,kc->nkhw", x, net.w), w=parameter(7, 2)),
        {"w": 7 * 2 * 64},
    ),
    "transposed convolutions": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 6, 3, stride=2), nn.ConvTranspose2d(6, 4, 3, groups=2)),
        {"0": 64 * 2 * 6 * 9, "1": 17 * 17 * 6 * 2 * 9},
    ),
    "computed weights": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3)),
            Standardized(3, 4, 3),
            nn.utils.parametrizations.spectral_norm(nn.ConvTranspose2d(4, 5, 3)),
        ),
        {
            "0.bias": 36 * 2 * 3 * 9,
            "1": 16 * 3 * 4 * 9,
            "2.bias": 16 * 4 * 5 * 9,
        },
    ),
    "low ranks beside a layer": (
        lambda: nn.Sequential(nn.Flatten(), Lora(128, 5)),
        {"1": 128 * 5 + 2 * 128 + 2 * 5},
    ),
    "images put side by side": (
        lambda: Net(lambda net, x: net.c(x.view(2, 1, 8, 8)), c=nn.Conv2d(1, 3, 3)),
        {"c": 2 * 36 * 3 * 9},
    ),
    "a tensor of two layers": (
        lambda: Net(lambda net, x: F.conv2d(net.c(x), net.c.weight), c=nn.Conv2d(2, 2, 3)),
        {"c": (36 + 16) * 2 * 2 * 9},
    ),
}


def macs(model: nn.Module) -> dict[str, int]:
    return {layer.name: layer.macs for layer in traced(model, SHAPE, CPU).layers if layer.macs}


@pytest.mark.parametrize("name", NETS)
def test_products_with_weights_are_counted_for_whoever_owns_the_weight_as_torch_counts_them(name: str) -> None:
    build, expected = NETS[name]
    model = build().eval()
    assert macs(model) == expected
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *SHAPE))
    if "vector" not in name:  # torch's counter knows matrices alone
        assert 2 * sum(expected.values()) == counter.get_total_flops()


def test_recurrent_and_bilinear_layers_count_each_weight_once_a_place() -> None:
    lstm = nn.LSTM(16, 6, num_layers=2, bidirectional=True, batch_first=True)
    weights = sum(p.numel() for name, p in lstm.named_parameters() if "weight" in name)
    assert macs(Net(lambda net, x: net.r(x.flatten(2).view(1, 8, 16))[0], r=lstm)) == {"r": 8 * weights}
    bilinear = nn.Bilinear(64, 64, 3)
    assert macs(Net(lambda net, x: net.b(x[:, 0].flatten(1), x[:, 1].flatten(1)), b=bilinear)) == {"b": 3 * 64 * 64}


def test_products_of_features_are_no_layers_and_are_counted_apart() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    net = Net(lambda net, x: net.m(*[x.flatten(1).view(1, 16, 8)] * 3, need_weights=False)[0], m=attention)
    found = traced(net.eval(), SHAPE, CPU)
    assert {layer.name: layer.macs for layer in found.layers if layer.macs} == {
        "m.in_proj_weight": 16 * 8 * 24,
        "m.out_proj": 16 * 8 * 8,
    }
    assert found.of_features == 2 * 16 * 16 * 8
    gram = Net(lambda net, x: net.c(x).flatten(2) @ x[..., :6, :6].flatten(2).transpose(1, 2), c=nn.Conv2d(2, 3, 3))
    assert traced(gram, SHAPE, CPU).of_features == 3 * 36 * 2


def test_a_cut_changes_the_macs_of_a_function_that_reads_what_was_cut() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 10),
    )  # fmt: skip
    state = state_of(model, noise((1, 8, 8)))
    made = do(state, Prune(layers=("0",), method="group-magnitude", amount=0.5))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made.model(torch.zeros(1, 1, 8, 8))
    assert 2 * snapshot(made).macs == counter.get_total_flops()
