"""Following channels takes bounded time and memory, and a stop is heard while they are followed."""

import itertools

import pytest
import torch
from bench_examples import doing, noise, state_of, untouched
from nets import Net, answers, conv, opened, widths
from torch import Tensor, nn
from torchvision.models import SwinTransformer

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.pruning import traced
from labbench.bench.pruning.graph import Graph
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session.operations import Prune

STRUCTURED = Prune(method="group-magnitude", amount=0.4)


def gram(net: Net, x: Tensor) -> Tensor:
    """The products of all channels with each other: their numbers multiply on the way."""
    x = net.a(net.b(x).relu()).relu().flatten(2)
    return net.l((x @ x.transpose(1, 2)).flatten(1))


def gram_of(width: int) -> State:
    return opened(gram, b=conv(3, 12), a=conv(12, width), l=nn.Linear(width * width, 10))


def swin() -> State:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SwinTransformer([4, 4], 24, depths=[1, 1], num_heads=[2, 2], window_size=[4, 4], num_classes=10)
    return state_of(model, noise((3, 32, 32)))


@pytest.mark.parametrize("width", [8, 32])
def test_channels_that_multiply_are_left_whole_and_the_others_are_cut(width: int) -> None:
    state = gram_of(width)
    with untouched(state):
        applied = doing(state, STRUCTURED)
    assert widths(applied.state) == {"b": 7, "a": width, "l": 10}
    assert any("left whole: a, because its channels reach more than" in remark for remark in applied.remarks)


def test_shifted_windows_and_merged_patches_are_followed_to_their_norms() -> None:
    state = swin()
    applied = doing(state, STRUCTURED)
    cut = {name for name, width in widths(applied.state).items() if width < widths(state)[name]}
    assert cut == {"features.1.0.mlp.0", "features.3.0.mlp.0"}
    whole = [remark for remark in applied.remarks if remark.startswith("left whole")]
    assert len(whole) == 3
    assert any("a ShiftedWindowAttention computes with its weights by itself" in remark for remark in whole)


def test_no_more_is_reached_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "PLACES", 40)
    state = opened(lambda net, x: answers(net, net.a(x).relu()))
    graph = Graph(state.copy_model(), state.data.shape)
    assert graph.group("a").channels == 8  # 8 filters, their activations, 8 inputs
    with pytest.raises(BenchError, match="b cannot be cut: its channels reach more than"):
        graph.group("b")  # 12 filters, their activations, their means, 12 inputs


def test_a_layer_whose_width_takes_too_long_to_make_out_spoils_only_what_reaches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traced, "STEPS", 0)
    state = opened(lambda net, x: net.l(net.b(net.a(x).relu()).relu().flatten(1)), l=nn.Linear(12 * 64, 10))
    graph = Graph(state.copy_model(), state.data.shape)
    assert graph.group("a").channels == 8
    with pytest.raises(BenchError, match="b cannot be cut: its channels are split, or meet others"):
        graph.group("b")


@pytest.mark.parametrize("build", [swin, lambda: gram_of(16)])
def test_a_stop_is_heard_at_every_step(build) -> None:
    state = build()
    steps = itertools.count()

    def counted() -> bool:
        next(steps)
        return False

    tools = Tools(lambda name, options, side: state.data, stopped=counted)
    apply(STRUCTURED, state, tools)
    heard = next(steps)
    for stop_at in (1, heard // 7, heard // 3, heard // 2, heard - 2):
        asked = itertools.count()
        stopping = Tools(lambda name, options, side: state.data, stopped=lambda: next(asked) >= stop_at)  # noqa: B023
        with untouched(state), pytest.raises(Stopped):
            apply(STRUCTURED, state, stopping)
