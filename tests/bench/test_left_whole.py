"""One group that cannot be cut is left whole with the true reason, and the rest is cut; by its name it is refused."""

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from bench_examples import do, doing, noise, state_of, untouched
from nets import SHAPE, Net, answers, conv, opened, widths
from torch import Tensor, nn
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import spectral_norm

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.pruning.coupling import groups
from labbench.bench.pruning.twin import Differs, sound
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session.operations import Prune, Scan

STRUCTURED = Prune(method="group-magnitude", amount=0.4)


class Standardized(nn.Conv2d):
    """Its weight is standardized over the inputs whenever it is used."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias, padding=1)


class Scaled(nn.Conv2d):
    """A parameter of its own that has as many entries as there are inputs, and as there are outputs."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, channels))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.scale.view(-1, 1, 1))


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shuffle_unit(net: Net, unit: nn.Module, x: Tensor) -> Tensor:
    one, other = x.chunk(2, 1)
    return shuffled(torch.cat([one, unit(other).relu()], 1))


def turned(net: Net, x: Tensor) -> Tensor:
    q, k, v = (part(x).flatten(2) for part in (net.q, net.k, net.v))
    return (v @ (q.transpose(1, 2) @ k).softmax(-1).transpose(1, 2)).view(len(x), -1, *x.shape[2:])


CASES: dict[str, tuple[Callable[[], State], str, str]] = {
    "pixel shuffle": (
        lambda: opened(lambda net, x: answers(net, F.pixel_shuffle(net.a(x), 2)), b=conv(2, 12)),
        "a",
        "the channels pass through a pixel shuffle",
    ),
    "split": (
        lambda: opened(
            lambda net, x: answers(net, torch.cat([net.p(net.a(x)[:, :3]), net.a(x)[:, 3:]], 1)), p=conv(3, 3)
        ),
        "a",
        "the channels pass through a split",
    ),
    "chunks that are shuffled": (
        lambda: opened(
            lambda net, x: answers(net, shuffle_unit(net, net.v, shuffle_unit(net, net.u, net.a(x)))),
            u=conv(4, 4),
            v=conv(4, 4),
        ),
        "a",
        "split",
    ),
    "gated linear unit": (
        lambda: opened(lambda net, x: answers(net, F.glu(net.a(x), 1)), b=conv(4, 12)),
        "a",
        "a gated linear unit",
    ),
    "softmax over channels": (
        lambda: opened(lambda net, x: answers(net, net.a(x).softmax(1))),
        "a",
        "the network answers differently: the channels pass through a softmax over channels",
    ),
    "norm over neighbors": (
        lambda: opened(lambda net, x: answers(net, F.local_response_norm(net.a(x), 3, alpha=1.0))),
        "a",
        "a norm over neighboring channels",
    ),
    "layer norm without weights": (
        lambda: opened(
            lambda net, x: net.l(net.norm(net.b(net.a(x).relu()).mean((2, 3)))),
            norm=nn.LayerNorm(12, elementwise_affine=False),
        ),
        "b",
        r"a LayerNorm goes over several channels: without some, the others change \(norm\)",
    ),
    "group norm of several channels": (
        lambda: opened(lambda net, x: answers(net, net.norm(net.a(x)).relu()), norm=nn.GroupNorm(4, 8)),
        "a",
        r"a GroupNorm goes over several channels",
    ),
    "order turned round": (
        lambda: opened(lambda net, x: answers(net, net.a(x).relu().flip(1))),
        "a",
        "a reversal of their order",
    ),
    "spatial attention": (
        lambda: opened(
            lambda net, x: answers(net, net.a(x) * net.k(net.a(x).amax(1, keepdim=True)).sigmoid()), k=conv(1, 1)
        ),
        "a",
        "a maximum over channels",
    ),
    "queries and keys": (
        lambda: opened(
            lambda net, x: answers(net, turned(net, net.a(x).relu())), q=conv(8, 4), k=conv(8, 4), v=conv(8, 8)
        ),
        "q",
        "a product of channels with each other",
    ),
    "fixed widths in a reshape": (
        lambda: opened(lambda net, x: answers(net, net.a(x).relu().reshape(-1, 8, 16, 4))),
        "a",
        "without some of its channels the network does not run",
    ),
    "convolution by its weight": (
        lambda: opened(
            lambda net, x: answers(net, F.conv2d(net.a(x).relu(), net.w)), w=nn.Parameter(torch.ones(8, 8, 1, 1))
        ),
        "a",
        r"the channels are coupled with a tensor of 8×8×1×1 that belongs to no layer \(w\)",
    ),
    "standardized weights": (
        lambda: opened(lambda net, x: answers(net, net.s(net.a(x).relu()).relu()), s=Standardized(8, 8, 3)),
        "a",
        "the network answers differently",
    ),
    "a parameter of its own": (
        lambda: opened(lambda net, x: answers(net, net.s(net.a(x).relu()).relu()), s=Scaled(8)),
        "a",
        r"nothing says which channels the entries of a Scaled's own scale belong to \(s\)",
    ),
    "spectral norm": (
        lambda: opened(lambda net, x: answers(net, net.s(net.a(x).relu()).relu()), s=spectral_norm(conv(8, 8))),
        "a",
        r"coupled with a layer whose weight is computed from others \(s\)",
    ),
    "weight norm as it was": (
        lambda: opened(lambda net, x: answers(net, net.s(net.a(x).relu()).relu()), s=old_weight_norm(conv(8, 8))),
        "a",
        r"coupled with a layer whose weight is computed from others \(s\)",
    ),
    "depth multiplier": (
        lambda: opened(lambda net, x: answers(net, net.d(net.a(x).relu())), d=conv(8, 16, groups=8), b=conv(16, 12)),
        "a",
        "they are read in 8 groups of one channel each: none can go alone",
    ),
    "concat and flatten": (
        lambda: opened(
            lambda net, x: net.l(
                torch.cat([F.max_pool2d(net.a(x), 4), F.max_pool2d(net.c(net.b(x)), 4)], 1).flatten(1)
            ),
            b=conv(3, 12),
            c=conv(12, 4),
            l=nn.Linear(48, 10),
        ),
        "a",
        "its channels are split, or meet others in a way that is not traced",
    ),
    "attention": (
        lambda: opened(
            lambda net, x: answers(
                net, (net.m(*[net.a(x).flatten(2).transpose(1, 2)] * 3)[0]).transpose(1, 2).unflatten(2, (8, 8))
            ),
            m=nn.MultiheadAttention(8, 2, batch_first=True),
        ),
        "m.out_proj",
        r"a MultiheadAttention computes with its weights by itself \(m\)",
    ),
    "residual with the images": (
        lambda: opened(lambda net, x: answers(net, net.a(x) + x), a=conv(3, 3), b=conv(3, 12)),
        "a",
        "the channels meet those of the images themselves",
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", CASES)
def test_the_rest_is_cut_and_the_reason_is_the_reason(name: str) -> None:
    build, whole, reason = CASES[name]
    state = build()
    with untouched(state):
        applied = doing(state, STRUCTURED)
    assert len(applied.state.weight(whole)) == len(state.weight(whole))
    if whole != "b":
        assert widths(applied.state)["b"] == 7
    said = [remark for remark in applied.remarks if remark.startswith("left whole") and re.search(reason, remark)]
    assert len(said) == 1 and whole in said[0]
    with untouched(state), pytest.raises(BenchError, match=rf"{re.escape(whole)} cannot be cut: .*{reason}"):
        do(state, Prune(layers=(whole,), method="group-magnitude"))


def test_a_network_in_which_nothing_can_be_cut_says_why_of_each() -> None:
    state = opened(lambda net, x: net.l(net.norm(net.a(x)).mean((2, 3))), norm=nn.GroupNorm(1, 8), l=nn.Linear(8, 10))
    with pytest.raises(
        BenchError, match=r"nothing to cut in \*: left whole: a, because .*; left whole: l, because .*answers"
    ):
        do(state, STRUCTURED)


def test_layers_that_share_a_reason_share_a_line_that_names_what_stands_in_their_way() -> None:
    state = opened(
        lambda net, x: answers(net, net.two(net.c(net.one(net.a(x)).relu())).relu()),
        c=conv(8, 8),
        one=nn.GroupNorm(2, 8),
        two=nn.GroupNorm(4, 8),
    )
    why = "a GroupNorm goes over several channels: without some, the others change (one, two)"
    assert f"left whole: a, c, because {why}" in doing(state, STRUCTURED).remarks


def test_the_layers_that_are_right_alone_are_found_by_halves() -> None:
    tried: list[tuple[int, ...]] = []

    def check(numbers) -> None:
        tried.append(tuple(numbers))
        if 5 in numbers or {2, 9} <= set(numbers):
            raise Differs("it differs")

    good, bad = sound(range(16), check)
    assert sorted(good) == [n for n in range(16) if n not in (5, 9)]
    assert [number for number, _ in bad] == [5, 9]
    assert len(tried) < 24


def test_global_pruning_takes_what_a_bad_group_does_not_give_from_the_others() -> None:
    state = opened(lambda net, x: answers(net, net.c(net.a(x).softmax(1)).relu()), c=conv(8, 8))
    after = do(state, Prune(method="group-magnitude", amount=0.4, scope="global"))
    now = widths(after)
    assert now["a"] == 8 and now["b"] + now["c"] == 20 - 8


def test_groups_leave_out_what_a_cut_would_show_to_be_wrong() -> None:
    state = opened(lambda net, x: answers(net, net.a(x).softmax(1)))
    with untouched(state):
        refused = {group.layers[0]: group.refused for group in groups(state)}
    assert refused["b"] == "" and "softmax" in refused["a"] and "answers" in refused["l"]


def test_a_scan_tries_the_others_and_says_each_reason_once(tools: Tools) -> None:
    state = opened(
        lambda net, x: answers(net, F.glu(net.c(F.pixel_shuffle(net.a(x), 2)), 1)), b=conv(4, 12), c=conv(2, 8)
    )
    applied = apply(Scan(at=(0.5,)), state, tools)
    assert applied.scanned is not None
    assert [layer.name for layer in applied.scanned.layers if layer.amounts] == ["b"]
    said = [remark for remark in applied.remarks if remark.startswith("not tried")]
    assert len(said) == 3 and all("cannot be cut" not in remark for remark in said)


def test_a_model_that_cannot_be_traced_names_the_layer_where_it_ends() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                raise RuntimeError("no gradients here")
            return x

    state = opened(lambda net, x: answers(net, net.stubborn(net.a(x))), stubborn=Stubborn())
    with pytest.raises(BenchError, match="cannot trace this model, not beyond stubborn: no gradients here"):
        do(state, STRUCTURED)


def test_the_last_convolution_of_a_shuffle_net_is_cut_by_its_name_too() -> None:
    state = CASES["chunks that are shuffled"][0]()
    assert widths(do(state, Prune(layers=("b",), amount=0.5, method="group-magnitude")))["b"] == 6


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("t", "ConvTranspose2d, no conv or linear layer"),
        ("s", "Conv2d whose weight is computed, shared or complex, so nothing of it is pruned"),
        ("n", "BatchNorm2d, no conv or linear layer"),
    ],
)
def test_what_stands_in_the_table_and_is_no_such_layer_is_named_as_what_it_is(name: str, what: str) -> None:
    state = opened(
        lambda net, x: answers(net, net.n(net.s(net.t(net.a(x))))),
        t=nn.ConvTranspose2d(8, 8, 1),
        s=spectral_norm(conv(8, 8)),
        n=nn.BatchNorm2d(8),
    )
    with pytest.raises(BenchError, match=f"^{name} is a {what}; the layers that can be meant here are a, b, l$"):
        do(state, Prune(layers=(name,), method="group-magnitude"))


def test_plain_prelu_keeps_its_one_slope() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.PReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10)
    )
    after = do(state_of(model, noise(SHAPE)), STRUCTURED)
    assert widths(after) == {"0": 4, "2": 7, "5": 10}
    assert after.module("1").weight.shape == (1,)
