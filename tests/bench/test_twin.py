"""A cut that is accepted computes the same in training mode, and after what is zero has moved; chance is told."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from bench_examples import do, doing, untouched
from nets import SHAPE, Net, answers, conv, opened, widths
from torch import Tensor, nn

from labbench.bench.errors import BenchError, Stopped
from labbench.bench.pruning.twin import check_twin
from labbench.bench.states.state import State
from labbench.bench.states.surgery import silence
from labbench.session.operations import Finetune, Prune

STRUCTURED = Prune(method="group-magnitude", amount=0.4)


def in_training(net: Net, part: str, x: Tensor) -> Tensor:
    return net.get_submodule(part)(x) if net.training else x


def whole(state: State, name: str, reason: str) -> State:
    """The state after a cut that leaves a layer whole because …"""
    with untouched(state):
        applied = doing(state, STRUCTURED)
    assert len(applied.state.weight(name)) == len(state.weight(name))
    assert any(remark.startswith("left whole") and name in remark and reason in remark for remark in applied.remarks)
    return applied.state


def test_a_branch_that_only_training_takes_keeps_its_channels_and_the_network_trains() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.a(x).relu()
        return answers(net, x) + (0.3 * net.aux(x.mean((2, 3))) if net.training else 0)

    after = whole(opened(forward, aux=nn.Linear(8, 10)), "a", "the network does not run in training mode")
    assert widths(after)["b"] == 7
    do(after, Finetune(epochs=1, batch_size=4))


def test_what_training_alone_does_to_the_channels_counts() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.a(x).relu()
        return answers(net, x.flip(1) if net.training else x)

    whole(opened(forward), "a", "the network answers differently in training mode")


@pytest.mark.parametrize("scale", [torch.tensor(0.0), torch.zeros(1), torch.zeros(8, 1, 1)])
def test_a_branch_that_begins_at_zero_is_seen_through(scale: Tensor) -> None:
    state = opened(
        lambda net, x: answers(net, net.s(x) + net.scale * net.a(x.flip(1)).flip(1)),
        s=conv(3, 8),
        scale=nn.Parameter(scale),
    )
    assert torch.equal(do(state, STRUCTURED).model.a.weight, state.model.a.weight)
    whole(state, "a", "the network answers differently once weights that are zero now move")


@pytest.mark.parametrize("zeroed", ["norm.weight", "c.weight"])
def test_norms_and_layers_that_begin_at_zero_are_seen_through(zeroed: str) -> None:
    state = opened(
        lambda net, x: answers(net, net.a(x) + net.norm(net.c(x).flip(1))), c=conv(3, 8), norm=nn.BatchNorm2d(8)
    )
    with torch.no_grad():
        state.model.get_parameter(zeroed).zero_()
        state.model.get_parameter(f"{zeroed.partition('.')[0]}.bias").zero_()
    whole(state, "a", "the network answers differently once weights that are zero now move")


def test_a_right_cut_beside_a_zero_is_still_made() -> None:
    state = opened(
        lambda net, x: answers(net, net.a(x) + net.scale * net.c(net.a(x)).relu()),
        c=conv(8, 8),
        scale=nn.Parameter(torch.tensor(0.0)),
    )
    assert widths(do(state, STRUCTURED)) == {"a": 4, "c": 4, "b": 7, "l": 10}


CHANCE: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "dropout": lambda net, x: F.dropout(x, 0.5, net.training),
    "dropped channels": lambda net, x: F.dropout2d(x, 0.5, net.training),
    "noise": lambda net, x: x + 0.1 * torch.randn_like(x) if net.training else x,
    "dropped paths": lambda net, x: x * torch.rand(len(x), 1, 1, 1).ge(0.3) / 0.7 if net.training else x,
    "dropped paths of timm": lambda net, x: x * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.7) if net.training else x,
    "random slopes": lambda net, x: F.rrelu(x, training=net.training),
}


@pytest.mark.parametrize("name", CHANCE)
def test_chance_in_training_is_no_difference(name: str) -> None:
    state = opened(lambda net, x: answers(net, net.norm(CHANCE[name](net, net.a(x)))), norm=nn.BatchNorm2d(8))
    with untouched(state):
        assert widths(do(state, STRUCTURED)) == {"a": 4, "b": 7, "l": 10}


def test_noise_of_a_fixed_width_keeps_its_channels() -> None:
    state = opened(lambda net, x: answers(net, net.a(x) + (torch.randn(8, 1, 1) if net.training else 0)))
    whole(state, "a", "the network does not run in training mode")


def test_a_network_that_answers_at_random_says_so() -> None:
    state = opened(lambda net, x: answers(net, F.dropout(net.a(x), 0.5)))
    with (
        untouched(state),
        pytest.raises(BenchError, match=r"answers at random, in eval mode too .*no cut can be checked"),
    ):
        do(state, STRUCTURED)


def test_a_network_that_changes_its_images_in_place_is_cut() -> None:
    state = opened(lambda net, x: answers(net, net.a(x.sub_(0.1))))
    assert widths(do(state, STRUCTURED)) == {"a": 4, "b": 7, "l": 10}


@pytest.mark.parametrize("sign", [1, -1])
def test_a_route_that_other_images_take_is_tried_too(sign: int) -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        x, side = net.a(x).relu(), x.mean()
        return net.l((net.b if sign * side >= 0 else net.c)(x).relu().mean((2, 3)))

    with pytest.raises(BenchError, match=r"left whole: a.* the network does not run"):
        do(opened(forward, c=conv(8, 12)), STRUCTURED)


@pytest.mark.parametrize("away", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_cannot_be_checked(away: float) -> None:
    state = opened(lambda net, x: answers(net, net.a(x)) * away)
    with pytest.raises(BenchError, match="the answers of the network are not finite, so no cut can be checked"):
        do(state, STRUCTURED)


@pytest.mark.parametrize("away", [float("nan"), float("inf")])
def test_a_bias_that_is_no_number_is_named_before_anything_is_cut(away: float) -> None:
    state = opened(lambda net, x: answers(net, net.a(x)))
    with torch.no_grad():
        state.model.get_parameter("l.bias")[0] = away
    with pytest.raises(BenchError, match=r"^l\.bias: not finite .*, so no answer can be compared"):
        do(state, STRUCTURED)


def test_complex_parameters_do_not_keep_the_rest_from_being_cut() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        waves = torch.einsum("bihw,oihw->bohw", torch.fft.rfft2(net.a(x)), net.w)
        return answers(net, net.c(torch.fft.irfft2(waves)).relu())

    with torch.random.fork_rng():
        torch.manual_seed(0)
        waves = nn.Parameter(torch.randn(8, 8, 8, 5, dtype=torch.cfloat))
    after = whole(opened(forward, c=conv(8, 8), w=waves), "a", "8×8×8×5")
    assert widths(after) == {"a": 8, "c": 4, "b": 7, "l": 10}
    assert after.model.get_parameter("w").dtype == torch.cfloat


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_a_network_that_does_not_run_in_float64_is_checked_as_it_is(kind: torch.dtype) -> None:
    parts = {"a": conv(3, 8).to(kind), "b": conv(8, 12).to(kind)}
    state = opened(lambda net, x: net.l(net.b(net.a(x.to(kind)).relu()).relu().mean((2, 3)).float()), **parts)
    assert widths(do(state, STRUCTURED)) == {"a": 4, "b": 7, "l": 10}
    mixed = opened(lambda net, x: net.l(net.b(net.a(x.to(kind)).softmax(1)).relu().mean((2, 3)).float()), **parts)
    whole(mixed, "a", "a softmax over channels")


def test_the_twin_is_the_network_in_which_nobody_reads_the_channels() -> None:
    state = opened(lambda net, x: answers(net, net.a(x).sigmoid()))
    gone = {"a": ({1, 5}, set()), "b": (set(), {1, 5})}
    check_twin(state.model, gone, SHAPE)
    twin, by_hand = copy.deepcopy(state.model), copy.deepcopy(state.model)
    silence(twin, gone)
    with torch.no_grad():
        by_hand.b.weight[:, [1, 5]] = 0
        x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(twin(x), by_hand(x))
    with pytest.raises(BenchError, match="the network does not run"):
        check_twin(state.model, {"a": ({1, 5}, set())}, SHAPE)


def test_a_stop_is_heard_while_networks_are_compared() -> None:
    state = opened(lambda net, x: answers(net, net.a(x)))
    asked = iter(range(100))
    with untouched(state), pytest.raises(Stopped):
        check_twin(state.model, {"a": ({1}, set()), "b": (set(), {1})}, SHAPE, lambda: next(asked) > 3)
