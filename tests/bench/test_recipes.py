"""One short recipe for each method, clustering, regularizer and way to finetune: from the text to a changed model."""

import pytest
import torch
from bench_examples import Opened, do

from labbench.bench.apply import apply
from labbench.bench.clusterings import CLUSTERINGS
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.methods import METHODS
from labbench.bench.regularizers import REGULARIZERS
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session import recipe
from labbench.session.catalogue import shipped
from labbench.session.check import check_names
from labbench.session.operations import Finetune

OPENING = """
title = "short"

[[step]]
op = "load"
model = "{model}"
dataset = "digits"
device = "cpu"
{options}
"""
OPTIONS = {
    "group-magnitude": "{p = 1}",
    "threshold": "{threshold = 0.03}",
    "percentile": "{q = 40.0}",
    "cosine": '{norm = "mean"}',
    "k-means": "{distance = 0.5}",
}
FINETUNING = {
    "warmup": 'schedule = "cosine"\nwarmup = 1',
    "one-cycle": 'schedule = "one-cycle"',
    "plateau": 'schedule = "plateau"\nwatch = "accuracy"',
    "ramp": 'schedule = "ramp"',
    "multi-step": 'schedule = "multi-step"\nmilestones = [1]',
    "adamw": 'optimizer = "adamw"\nlr = 0.001',
    "nesterov": "nesterov = true",
    "softmax": 'loss = "softmax"',
    "scaled-softmax": 'loss = "scaled-softmax"\nscale = 5.0',
    "smoothing": "label_smoothing = 0.1",
    "clip": "clip = 1.0",
    "bf16": 'precision = "bf16"',
}


def run(text: str, tools: Tools, model: str = "lenet-300-100", options: str = "") -> list[State]:
    """The state after each step of a recipe; names are checked as the app and the command line do."""
    states: list[State] = []
    for step in recipe.parse(OPENING.format(model=model, options=options) + text).steps:
        check_names(step, shipped())
        states.append(apply(step, states[-1] if states else None, tools).state)
    return states


@pytest.mark.parametrize("method", METHODS)
def test_every_method_prunes_by_a_recipe_and_what_is_left_trains(tools: Tools, method: str) -> None:
    options = f"options = {OPTIONS[method]}" if method in OPTIONS else ""
    model, settings = ("lenet-300-100", "") if method != "bn-scale" else ("resnet-20", 'options = {shortcut = "B"}')
    layers = '["fc1", "fc2"]' if model == "lenet-300-100" else '["layer1.0.conv1"]'
    text = f"""
[[step]]
op = "prune"
layers = {layers}
method = "{method}"
{"amount = 0.4" if not shipped().entry("methods", method).facts.get("own_target") else ""}
{options}

[[step]]
op = "finetune"
steps = 1
"""
    loaded, pruned, trained = run(text, tools, model, settings)
    before, after, last = (snapshot(state, final=False).prunable for state in (loaded, pruned, trained))
    assert after.nonzero < before.nonzero
    assert last.nonzero <= after.nonzero
    assert not torch.equal(
        trained.weight("fc2" if model == "lenet-300-100" else "layer1.0.conv1"),
        pruned.weight("fc2" if model == "lenet-300-100" else "layer1.0.conv1"),
    )


@pytest.mark.parametrize("method", CLUSTERINGS)
def test_every_clustering_shares_by_a_recipe_and_training_keeps_it(tools: Tools, method: str) -> None:
    options = f"options = {OPTIONS[method]}" if method in OPTIONS else ""
    text = f"""
[[step]]
op = "cluster"
layers = ["fc2"]
k = 20
ks = {{fc2 = 10}}
method = "{method}"
{options}

[[step]]
op = "finetune"
steps = 1
"""
    _, clustered, trained = run(text, tools)
    assert torch.equal(clustered.clusters["fc2"], trained.clusters["fc2"])
    assert trained.last["fc2"].startswith("k 10")


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_every_regularizer_is_one_line_of_a_recipe(tools: Tools, regularizer: str) -> None:
    text = f"""
[[step]]
op = "finetune"
steps = 2
regularizer = "{regularizer}"
strength = 0.001
"""
    scales = regularizer == "bn-l1"
    _, trained = run(text, tools, "resnet-20" if scales else "lenet-300-100")
    _, plain = run('\n[[step]]\nop = "finetune"\nsteps = 2\n', tools, "resnet-20" if scales else "lenet-300-100")
    changed = "bn1" if scales else "fc2"
    assert not torch.equal(trained.module(changed).weight, plain.module(changed).weight)


@pytest.mark.parametrize("settings", FINETUNING.values(), ids=FINETUNING)
def test_every_kind_of_finetuning_is_a_line_or_two_of_a_recipe(tools: Tools, settings: str) -> None:
    loaded, trained = run(f'\n[[step]]\nop = "finetune"\nepochs = 2\n{settings}\n', tools)
    assert not torch.equal(loaded.weight("fc1"), trained.weight("fc1"))


def test_sparse_training_is_a_recipe_train_with_a_penalty_cut_by_threshold_train_again(tools: Tools) -> None:
    text = """
[[step]]
op = "finetune"
epochs = 6
regularizer = "hoyer-square"
strength = 0.002
schedule = "constant"

[[step]]
op = "prune"
layers = ["fc1", "fc2"]
method = "std-ratio"

[[step]]
op = "finetune"
epochs = 2
"""
    _, penalized, pruned, trained = run(text, tools)
    plain = run(text.replace('regularizer = "hoyer-square"', ""), tools)
    counts = [snapshot(state, final=False).prunable.nonzero for state in (pruned, plain[2], trained)]
    assert counts[0] < counts[1]
    assert counts[2] <= counts[0]
    assert not penalized.masks and set(trained.masks) == {"fc1", "fc2"}


def test_distillation_and_recalibration_follow_a_cut_in_a_recipe(tools: Tools) -> None:
    text = """
[[step]]
op = "prune"
layers = ["layer1"]
method = "group-magnitude"
amount = 0.3

[[step]]
op = "recalibrate"

[[step]]
op = "finetune"
steps = 1
distill = 0.5
temperature = 4.0
"""
    loaded, cut, recalibrated, trained = run(text, tools, "resnet-20", 'options = {shortcut = "B"}')
    means = [state.module("bn1").running_mean for state in (cut, recalibrated)]
    assert not torch.equal(*means)
    assert cut.dense is not None and cut.dense.model is loaded.model
    assert trained.dense is cut.dense


def test_gradual_pruning_is_one_step_of_a_recipe(tools: Tools, opened: Opened) -> None:
    text = """
[[step]]
op = "gradual"
layers = ["fc1"]
amount = 0.8
steps = 4
schedule = "cubic"
[step.finetune]
steps = 1
"""
    states = run(text, tools)
    shares = [1 - float(state.masks["fc1"].float().mean()) for state in states[1::2]]
    assert shares == pytest.approx([0.8 * (1 - (1 - n / 4) ** 3) for n in (1, 2, 3, 4)], abs=1e-4)
    assert not torch.equal(do(opened("lenet-300-100"), Finetune(steps=1)).weight("fc1"), states[2].weight("fc1"))
