"""Series are written out exactly: amounts by their schedules, rounds of prune and finetune, layers one by one."""

import math

import pytest
from msgspec.structs import replace

from labbench.session import recipe
from labbench.session.check import BadInput
from labbench.session.operations import Cluster, Finetune, Freeze, Prune
from labbench.session.series import amounts, gradual, layerwise, share

SCHEDULES = ("linear", "cubic", "exponential", "cosine", "one-shot")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.2, 0.4, 0.6, 0.8]),
        ("cubic", [0.8 * (1 - 0.75**3), 0.8 * (1 - 0.5**3), 0.8 * (1 - 0.25**3), 0.8]),
        ("exponential", [0.8 * (1 - math.exp(-5 * t)) / (1 - math.exp(-5)) for t in (0.25, 0.5, 0.75, 1)]),
        ("cosine", [0.4 * (1 - math.sqrt(0.5)), 0.4, 0.4 * (1 + math.sqrt(0.5)), 0.8]),
        ("one-shot", [0.8] * 4),
    ],
)
def test_amounts_grow_by_their_schedule(schedule, expected: list[float]) -> None:
    assert amounts(0.8, 4, schedule) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("amount", [0.0, 0.3, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 6, 37])
def test_every_schedule_grows_and_ends_at_the_amount_itself(schedule, amount: float, steps: int) -> None:
    found = amounts(amount, steps, schedule)
    assert len(found) == steps
    assert found[-1] == amount
    assert found == sorted(found)
    assert all(0 <= one <= 1 for one in found)


@pytest.mark.parametrize("schedule", SCHEDULES[:4])
def test_a_schedule_begins_at_nothing(schedule) -> None:
    assert share(schedule, 0.0) == 0
    assert share(schedule, 1.0) == pytest.approx(1)


def test_cubic_is_the_schedule_of_zhu_and_gupta() -> None:
    """s_t = s_f + (s_i − s_f)(1 − (t − t_0)/(nΔt))³ with s_i = 0, t_0 = 0."""
    final, n = 0.875, 10
    assert amounts(final, n, "cubic") == pytest.approx(
        [final + (0 - final) * (1 - t / n) ** 3 for t in range(1, n + 1)]
    )


def test_a_gradual_prune_is_rounds_of_prune_and_finetune() -> None:
    prune = Prune(layers=("conv*",), amount=0.6, amounts={"conv1": 0.3}, method="lamp", seed=3)
    between = Finetune(epochs=2)
    assert gradual(prune, between, 3, "linear") == (
        Prune(layers=("conv*",), amount=0.2, amounts={"conv1": 0.1}, method="lamp", lenient=True, seed=3),
        between,
        Prune(layers=("conv*",), amount=0.4, amounts={"conv1": 0.2}, method="lamp", lenient=True, seed=3),
        between,
        replace(prune, lenient=True),
        between,
    )
    assert [type(step) for step in gradual(prune, None, 3, "linear")] == [Prune] * 3
    last = replace(prune, lenient=True)
    assert gradual(prune, None, 1, "cubic") == (last,)
    assert gradual(prune, between, 3, "one-shot") == (last, between, between, between)


def test_layer_by_layer_freezes_what_was_clustered_before_the_others_train() -> None:
    cluster, between = Cluster(layers=("conv1", "layer1.*"), fraction=0.25, seed=2), Finetune(epochs=1)
    assert layerwise(cluster, between) == (
        Cluster(layers=("conv1",), fraction=0.25, seed=2),
        Freeze(layers=("conv1",), norms=False),
        between,
        Cluster(layers=("layer1.*",), fraction=0.25, seed=2),
        Freeze(layers=("layer1.*",), norms=False),
        between,
    )
    assert len(layerwise(cluster, None)) == 4


RECIPE = """
title = "By degrees"
[[step]]
op = "load"
model = "lenet-5"
dataset = "digits"
[[step]]
op = "gradual"
layers = ["conv*", "fc1"]
amount = 0.6
amounts = {conv1 = 0.3}
steps = 3
schedule = "cubic"
[step.finetune]
epochs = 2
lr = 0.02
[[step]]
op = "layerwise"
layers = ["conv2", "fc1"]
k = 4
[step.finetune]
epochs = 1
"""


def test_a_recipe_writes_its_series_out() -> None:
    found = recipe.parse(RECIPE)
    prune = Prune(layers=("conv*", "fc1"), amount=0.6, amounts={"conv1": 0.3})
    assert found.steps[1:7] == gradual(prune, Finetune(epochs=2, lr=0.02), 3, "cubic")
    assert found.steps[7:] == layerwise(Cluster(layers=("conv2", "fc1"), k=4), Finetune(epochs=1))
    assert recipe.parse(recipe.write(found)) == found


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("steps = 3", "steps = 0"), "step 2: gradual: steps must be a whole number from 1 to 1000, not 0"),
        (("steps = 3", "stesp = 3"), "step 2: gradual has no key 'stesp'; .*; did you mean steps"),
        (('"cubic"', '"cubik"'), "step 2: gradual: schedule must be one of linear, cubic, .*, not 'cubik'"),
        (("amount = 0.6", "amount = 6"), "step 2: gradual: amount must be a number from 0 to 1, not 6"),
        (
            ("{conv1 = 0.3}", "{conv1 = 3}"),
            "step 2: gradual: amounts must be a table of numbers from 0 to 1 by name",
        ),
        (("lr = 0.02", "lr = 0"), "step 2: gradual: finetune: lr must be a number above 0, not 0"),
        (("lr = 0.02", "rl = 0.1"), "step 2: gradual: finetune has no key 'rl'"),
        (("steps = 3", 'method = "nope"'), "step 2: no such method: nope"),
        (("steps = 3", 'method = "n-m"'), "step 2: gradual: n-m goes by a rule of its own, .*; write prune"),
        (("k = 4", "k = -4"), "step 3: layerwise: k must be a whole number from 0, not -4"),
        (('layers = ["conv2", "fc1"]\n', ""), "step 3: layerwise needs the key 'layers'"),
        (
            ("[step.finetune]\nepochs = 1", "finetune = 3"),
            "step 3: layerwise: finetune must be a table of finetune's keys",
        ),
        (('"gradual"', '"gradually"'), "step 2: unknown op 'gradually'; .*; did you mean gradual"),
    ],
)
def test_what_is_wrong_in_a_series_is_refused_with_step_and_key(change: tuple[str, str], sentence: str) -> None:
    assert change[0] in RECIPE
    with pytest.raises(BadInput, match=sentence):
        recipe.parse(RECIPE.replace(*change))
