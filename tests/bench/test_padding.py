"""Networks that were cut to odd widths train with channels of zeros beside their own, and end as they would without."""

from typing import Any

import pytest
import torch
from bench_examples import Opened, Small, do, exact, noise, shaken, state_of
from msgspec.structs import replace
from test_prefix import agree
from torch import Tensor, nn

from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.training.padded_widths import Extra, extras, widen
from labbench.bench.training.run import set_up
from labbench.session.operations import Cluster, Finetune, Freeze, Prune

CUT = Prune(method="group-magnitude", amount=0.4)
FEW = {"batch_size": 40, "epochs": 2}


def padded(state: State) -> dict[str, tuple[int, int]]:
    return {name: (extra.outputs, extra.inputs) for name, extra in extras(state).items()}


@pytest.fixture(scope="module")
def flat() -> State:
    """Convolutions whose channels are columns of a linear layer, several each, with biases."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 12, 3, padding=1)
    first = [nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Tanh(), convolution, nn.ReLU(), nn.Flatten()]
    data = noise((1, 8, 8))
    rest = [nn.Linear(12 * 9, 30), nn.BatchNorm1d(30, affine=False), nn.Tanh(), nn.Linear(30, 10)]
    return do(shaken(state_of(nn.Sequential(*first, *rest), data)), CUT)


def test_channels_that_were_cut_are_multiples_of_eight_again(flat: State) -> None:
    assert [len(flat.weight(name)) for name in ("0", "3", "6")] == [2, 7, 18]
    assert padded(flat) == {
        "0": (6, 0),
        "1": (6, 0),
        "3": (1, 6),
        "6": (6, 9),
        "7": (6, 0),
        "9": (0, 6),
    }


SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.05},
    "clip": {"clip": 0.1},
    "penalty": {"regularizer": "group-lasso", "strength": 0.01},
}


@pytest.mark.parametrize("how", SETTINGS.values(), ids=SETTINGS)
def test_zeros_beside_odd_widths_change_nothing_but_rounding(flat: State, how: dict[str, Any]) -> None:
    state = exact(flat)
    plain, fast = (do(state, Finetune(batch_size=8, epochs=2, **how, engine=e)) for e in ("plain", "fast"))
    agree(plain, fast, 1e-12)
    assert not any("forward" in vars(module) for module in fast.model.modules())


@pytest.mark.parametrize("first", [(), (Freeze(layers=("conv1", "layer1")),), (Prune(amount=0.7),)], ids=str)
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_cut_residual_network_trains_to_the_same_end(small: Small, shortcut: str, first: tuple[Any, ...]) -> None:
    state = exact(shaken(do(small(shortcut), CUT, *first)))
    widened = padded(state)
    assert widened
    assert not set(widened) & state.frozen
    x: Tensor = state.data.normalized(state.data.on(state.device)["train"][0][:4])
    seen: list[int] = []
    run = set_up(Finetune(**FEW, engine="fast"), state)
    run.model.get_submodule("layer2.0.conv1").register_forward_hook(lambda m, x, y: seen.append(y.shape[1]))
    run.network(x)
    run.model.eval()(x)
    width = len(state.weight("layer2.0.conv1"))
    assert seen == [width + widened["layer2.0.conv1"][0], width]
    plain, fast = (do(state, Finetune(**FEW, engine=engine)) for engine in ("plain", "fast"))
    agree(plain, fast, 1e-12)


def test_a_padded_run_that_was_stopped_goes_on_to_the_same_bits(small: Small) -> None:
    state = do(small(), CUT)
    operation = Finetune(**FEW, engine="fast", precision="bf16", layout="channels_last")
    broken = do(state, replace(operation, steps=7))
    assert fingerprint(do(broken, Finetune(resume=True))) == fingerprint(do(state, operation))


def test_clustered_filters_of_a_padded_layer_stay_equal(small: Small) -> None:
    state = do(small(), CUT, Cluster(layers=("layer2.0.conv1",), k=3))
    after = do(state, Finetune(**FEW, engine="fast"))
    assert len(after.weight("layer2.0.conv1").unique(dim=0)) == 3


def test_what_is_whole_or_meets_others_side_by_side_is_left_alone(small: Small, opened: Opened) -> None:
    assert padded(small()) == {}
    dense = do(opened("densenet", depth=22, growth=4), CUT)
    widened = padded(dense)
    before, after = (do(dense, Finetune(batch_size=100, epochs=1, steps=1, engine=e)) for e in ("plain", "fast"))
    agree(before, after, 1e-3)
    assert all(extra != (0, 0) for extra in widened.values())


class Counting(nn.Module):
    """What comes out depends on how many channels there are."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 12, 3), nn.Conv2d(12, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        out: Tensor = self.two(x - x.mean(1, keepdim=True)).mean((2, 3))
        return out


def test_a_network_that_counts_its_channels_trains_as_it_is() -> None:
    torch.manual_seed(0)
    model, x = Counting().eval(), torch.randn(2, 1, 8, 8)
    expected = model(x)
    assert not widen(model, {"one": Extra(outputs=4), "two": Extra(inputs=4)}, x)
    assert torch.equal(model.train()(x), expected)
    assert widen(model, {"two": Extra(outputs=0, inputs=0)}, x)
