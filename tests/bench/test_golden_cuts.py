"""CP-ResNet (32 64 128) under L2 group magnitude, each group alike: the widths and counts of the reference project."""

import pytest
import torch
from bench_examples import do, noise, state_of

from labbench.bench.models import MODELS
from labbench.bench.states.state import State
from labbench.session.operations import Prune
from labbench.session.series import amounts

GOLDEN = {
    0.2: ((25, 51, 102), 83_114),
    0.3: ((22, 44, 89), 63_645),
    0.35: ((20, 41, 83), 54_706),
    0.4: ((19, 38, 76), 47_349),
    0.41: ((18, 37, 75), 44_784),
    0.5: ((16, 32, 64), 33_924),
}
SIX_STEPS = {
    0.4: [111_631, 96_452, 83_114, 69_388, 58_150, 47_349],
    0.35: [115_670, 101_823, 88_105, 76_817, 64_967, 54_706],
}


@pytest.fixture(scope="module")
def cp_resnet() -> State:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS["cp-resnet"].build((1, 28, 28), 10)
    return state_of(model, noise((1, 28, 28), images=4))


def parameters(state: State) -> int:
    return sum(parameter.numel() for parameter in state.model.parameters())


def cut(amount: float) -> Prune:
    return Prune(method="group-magnitude", amount=amount, options={"p": 2})


@pytest.mark.parametrize("amount", GOLDEN)
def test_one_cut_gives_the_widths_and_the_count_of_the_reference(cp_resnet: State, amount: float) -> None:
    assert parameters(cp_resnet) == 131_316
    after = do(cp_resnet, cut(amount))
    widths, count = GOLDEN[amount]
    assert parameters(after) == count
    for layer in after.layers:
        if layer.prunable and layer.name != after.layers[-2].name:
            assert len(after.weight(layer.name)) == dict(zip((32, 64, 128), widths, strict=True))[layer.channels]


@pytest.mark.parametrize("amount", SIX_STEPS)
def test_six_linear_steps_give_the_counts_of_the_reference(cp_resnet: State, amount: float) -> None:
    state, counts = cp_resnet, []
    for part in amounts(amount, 6, "linear"):
        state = do(state, cut(part))
        counts.append(parameters(state))
    assert counts == SIX_STEPS[amount]
