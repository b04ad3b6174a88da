"""What has an entry for each channel is cut along, though it belongs to no layer; the record rebuilds it."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bench_examples import do, untouched
from nets import SHAPE, Net, answers, conv, opened, widths
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.pruning.coupling import groups
from labbench.bench.states import surgery
from labbench.bench.states.checkpoints import filled, read, save
from labbench.bench.states.state import State
from labbench.bench.training.padded_widths import extras
from labbench.session.operations import Finetune, Freeze, Prune

STRUCTURED = Prune(method="group-magnitude", amount=0.4)


class Lora(nn.Linear):
    """A linear layer with a product of two narrow ones beside it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down, self.up = (nn.Parameter(torch.randn(shape) * 0.1) for shape in ((2, inputs), (outputs, 2)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.down.t() @ self.up.t()


def entries(*shape: int) -> Tensor:
    return torch.linspace(0.5, 1.5, int(torch.tensor(shape).prod())).view(shape)


def blurred(net: Net, x: Tensor) -> Tensor:
    return nn.functional.conv2d(x, net.blur, groups=x.shape[1], padding=1)


BUILT: dict[str, tuple[Callable[[], State], str, tuple[int, ...]]] = {
    "group norm of one channel each": (
        lambda: opened(lambda net, x: answers(net, net.norm(net.a(x)).relu()), norm=nn.GroupNorm(8, 8)),
        "norm.weight",
        (4,),
    ),
    "layer scale": (
        lambda: opened(
            lambda net, x: answers(net, net.gamma.view(-1, 1, 1) * net.a(x)), gamma=nn.Parameter(entries(8))
        ),
        "gamma",
        (4,),
    ),
    "layer scale of a dimension more": (
        lambda: opened(lambda net, x: answers(net, net.gamma * net.a(x)), gamma=nn.Parameter(entries(1, 8, 1, 1))),
        "gamma",
        (1, 4, 1, 1),
    ),
    "position map by channel": (
        lambda: opened(lambda net, x: answers(net, net.place + net.a(x)), place=nn.Parameter(entries(1, 8, 8, 8))),
        "place",
        (1, 4, 8, 8),
    ),
    "position map": (
        lambda: opened(lambda net, x: answers(net, net.place + net.a(x)), place=nn.Parameter(entries(1, 1, 8, 8))),
        "place",
        (1, 1, 8, 8),
    ),
    "fixed gain": (
        lambda: opened(lambda net, x: answers(net, net.gain[:, None, None] * net.a(x)), gain=entries(8)),
        "gain",
        (4,),
    ),
    "blur": (
        lambda: opened(lambda net, x: answers(net, blurred(net, net.a(x))), blur=entries(8, 1, 3, 3)),
        "blur",
        (4, 1, 3, 3),
    ),
    "mixing scalars": (
        lambda: opened(
            lambda net, x: answers(net, net.mix.softmax(0)[0] * net.a(x) + net.mix.softmax(0)[1] * net.c(x)),
            c=conv(3, 8),
            mix=nn.Parameter(entries(2)),
        ),
        "mix",
        (2,),
    ),
}


def loaded(name: str) -> State:
    build, _, _ = BUILT[name]
    return build()


@pytest.mark.parametrize("name", BUILT)
def test_it_is_cut_along_twice_rebuilt_and_trained(name: str, tmp_path: Path) -> None:
    state = loaded(name)
    _, tensor, shape = BUILT[name]
    with untouched(state):
        once = do(state, STRUCTURED)
    assert once.model.state_dict()[tensor].shape == shape
    assert {n: w for n, w in widths(once).items() if n != "c"} == {"a": 4, "b": 7, "l": 10}
    twice = do(once, Prune(method="group-magnitude", amount=0.7))
    assert widths(twice)["a"] == 2
    save(twice, path := tmp_path / "twice.safetensors")
    rebuilt = filled(state.copy_model(), *read(path), path)
    assert repr(rebuilt) == repr(twice.model)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(rebuilt(x), twice.model(x))
    assert extras(once) is not None  # looks at everything that was cut
    trained = do(once, Finetune(epochs=1, batch_size=8))
    assert not torch.equal(trained.weight("a"), once.weight("a"))
    again = do(
        state, Prune(method="group-magnitude", amount=0.4, filters={"a": once.kept["a"].outputs and _gone(once)})
    )
    assert torch.equal(again.weight("a"), once.weight("a"))


def _gone(state: State) -> tuple[int, ...]:
    kept = state.kept["a"].outputs
    assert kept is not None
    return tuple(n for n in range(8) if n not in kept)


def test_the_entries_that_stay_are_those_of_the_filters_that_stay() -> None:
    state = loaded("layer scale")
    after = do(state, STRUCTURED)
    kept = after.kept["a"].outputs
    assert kept is not None and after.kept["gamma"].outputs == kept
    assert torch.equal(after.model.get_parameter("gamma"), state.model.get_parameter("gamma")[list(kept)])


def test_a_frozen_scale_keeps_its_layer_whole() -> None:
    state = do(loaded("layer scale"), Freeze(layers=("gamma",)))
    with pytest.raises(BenchError, match="filters of gamma, which is frozen"):
        do(state, Prune(layers=("a",), method="group-magnitude"))


def test_groups_name_the_scale_that_goes_along() -> None:
    found = {group.layers[0]: group for group in groups(loaded("layer scale"))}
    assert found["a"].norms == ("gamma",) and found["a"].why == found["a"].refused == ""


def test_a_layer_beside_the_images_in_a_concatenation_is_cut_where_it_lies() -> None:
    state = opened(lambda net, x: answers(net, torch.cat([x, net.a(x).relu()], 1)), b=conv(11, 12))
    after = do(state, STRUCTURED)
    kept = after.kept["a"].outputs
    assert kept is not None
    assert after.kept["b"].inputs == (0, 1, 2, *(3 + channel for channel in kept))


def test_one_channel_that_is_spread_over_all_stays() -> None:
    state = opened(lambda net, x: answers(net, net.a(x) * net.g(net.a(x)).sigmoid()), g=conv(8, 1))
    assert widths(do(state, STRUCTURED)) == {"a": 4, "g": 1, "b": 7, "l": 10}


def test_a_layer_with_a_narrow_one_beside_it_is_cut_on_both_sides() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, two = Lora(192, 16), Lora(16, 12)
    state = opened(lambda net, x: net.l(net.two(net.one(x.flatten(1)).relu()).relu()), one=one, two=two)
    after = do(state, Prune(layers=("one", "two"), method="group-magnitude", amount=0.5))
    shapes = {name: tuple(parameter.shape) for name, parameter in after.model.named_parameters()}
    assert (shapes["one.down"], shapes["one.up"]) == ((2, 192), (8, 2))
    assert (shapes["two.down"], shapes["two.up"]) == ((2, 8), (6, 2))
    rebuilt = copy.deepcopy(state.model)
    surgery.rebuild(rebuilt, after.kept)
    rebuilt.load_state_dict(after.model.state_dict())
