"""Training keeps what was promised: frozen layers, zeros, the best epoch, and the same run again."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bench_examples import Small, do, doing, hooks, noise, state_of, untouched
from torch import nn

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.measuring.accuracy import evaluate
from labbench.bench.models.resnet import ResNet
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.bench.training import loop as training
from labbench.bench.training.crops import Crops
from labbench.bench.training.loop import batches
from labbench.bench.training.run import Run, set_up
from labbench.bench.training.schedules import lr_factor
from labbench.bench.training.tied_clusters import Tie
from labbench.bench.training.trial import plain
from labbench.session.events import Metric, Progress, Sparsity
from labbench.session.operations import Cluster, Finetune, Freeze, Prune, Unprune
from labbench.session.snapshot import Accuracy

OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-3},
    {"optimizer": "adam", "lr": 0.01, "weight_decay": 5e-2},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 5e-2},
]
each_optimizer = pytest.mark.parametrize("how", OPTIMIZERS, ids=lambda how: how["optimizer"])
FEW = {"batch_size": 40, "augment": False}


def of(state: State, name: str) -> dict[str, torch.Tensor]:
    """Parameters and statistics of a module."""
    return {key: value.clone() for key, value in state.module(name).state_dict().items()}


def moved(before: State, after: State) -> set[str]:
    """Modules of which a tensor is not equal to the last bit."""
    old, new = before.model.state_dict(), after.model.state_dict()
    return {name.rpartition(".")[0] for name in old if not torch.equal(old[name], new[name])}


def listened(state: State, operation: Finetune, stopped: Callable[[], bool] = lambda: False) -> tuple[Applied, list]:
    events: list[Progress | Metric | Sparsity] = []
    return apply(operation, state, Tools(lambda name, options, side: state.data, events.append, stopped)), events


# Frozen layers


@each_optimizer
def test_frozen_layers_and_their_norms_do_not_move_by_one_bit(small: Small, how: dict[str, Any]) -> None:
    state = do(small(), Prune(amount=0.3), Freeze(layers=("conv1", "layer1", "fc")))
    after = do(state, Finetune(epochs=3, **FEW, keep="last", **how))
    assert moved(state, after) == {
        f"layer2.0.{name}" for name in ("conv1", "bn1", "conv2", "bn2", "shortcut.0", "shortcut.1")
    }


def test_the_norm_behind_a_frozen_layer_moves_if_it_was_not_frozen_too(small: Small) -> None:
    state = do(small(), Freeze(layers=("conv1", "layer1"), norms=False))
    after = do(state, Finetune(epochs=1, **FEW))
    assert {"bn1", "layer1.0.bn1", "layer1.0.bn2"} <= moved(state, after)
    assert not {"conv1", "layer1.0.conv1", "layer1.0.conv2"} & moved(state, after)
    assert not torch.equal(after.model.get_buffer("bn1.running_mean"), state.model.get_buffer("bn1.running_mean"))


def test_a_frozen_norm_holds_its_statistics_while_its_layer_trains(small: Small) -> None:
    state = do(small(), Freeze(layers=("bn1",)))
    after = do(state, Finetune(epochs=1, **FEW))
    assert "bn1" not in moved(state, after)
    assert "conv1" in moved(state, after)


def test_with_everything_frozen_there_is_nothing_to_train(small: Small) -> None:
    with pytest.raises(BenchError, match="nothing to train: every layer is frozen; unfreeze some first"):
        doing(do(small(), Freeze(layers=("*",))), Finetune())
    norms_only = do(small(), Freeze(layers=("*",), norms=False))
    after = do(norms_only, Finetune(epochs=1, **FEW))
    assert all("bn" in name or name == "layer2.0.shortcut.1" for name in moved(norms_only, after))


# Zeros


@each_optimizer
@pytest.mark.parametrize("keep", ["best", "last"])
def test_pruned_weights_stay_exactly_zero(small: Small, how: dict[str, Any], keep: Any) -> None:
    state = do(small(), Prune(amount=0.7))
    after = do(state, Finetune(epochs=3, **FEW, keep=keep, **how))
    for name, mask in state.masks.items():
        assert not after.weight(name)[~mask].any()
        assert after.weight(name)[mask].all()
        assert torch.equal(after.masks[name], mask)


@each_optimizer
def test_pruned_weights_stay_exactly_zero_over_a_cut(small: Small, how: dict[str, Any]) -> None:
    state = do(small(), Finetune(epochs=1, **FEW), Prune(amount=0.6), Finetune(epochs=1, **FEW, **how))
    state = do(state, Prune(method="group-magnitude", amount=0.4), Prune(scope="global", amount=0.9))
    after = do(state, Finetune(epochs=2, **FEW, keep="last", **how))
    assert all(mask.shape == after.weight(name).shape for name, mask in after.masks.items())
    assert not any(after.weight(name)[~mask].any() for name, mask in after.masks.items())
    assert moved(state, after) == {layer.name for layer in state.layers}


SETTINGS: dict[str, dict[str, Any]] = {
    "nesterov": {"nesterov": True},
    "one-cycle": {"schedule": "one-cycle", "optimizer": "adam", "lr": 0.01},
    "plateau": {"schedule": "plateau", "patience": 0, "optimizer": "adamw", "lr": 0.01},
    "ramp": {"schedule": "ramp", "warmup": 1},
    "clip": {"clip": 0.1, "optimizer": "adam", "lr": 0.01},
    "bf16": {"precision": "bf16", "optimizer": "adamw", "lr": 0.01, "regularizer": "hoyer-square"},
    "distilled": {"distill": 0.5, "label_smoothing": 0.1, "loss": "scaled-softmax"},
}


@pytest.mark.parametrize("how", SETTINGS.values(), ids=SETTINGS)
def test_zeros_frozen_layers_and_clusters_hold_under_every_setting(small: Small, how: dict[str, Any]) -> None:
    state = do(small(), Prune(amount=0.6), Cluster(layers=("layer2.0.conv2",), k=4), Freeze(layers=("layer1", "fc")))
    after = do(state, Finetune(epochs=3, **FEW, keep="last", **how))
    assert not any(after.weight(name)[~mask].any() for name, mask in after.masks.items())
    assert moved(state, after) == {
        *("conv1", "bn1", "layer2.0.conv1", "layer2.0.bn1", "layer2.0.conv2", "layer2.0.bn2"),
        *("layer2.0.shortcut.0", "layer2.0.shortcut.1"),
    }
    assert len(after.weight("layer2.0.conv2").unique(dim=0)) == 4


@pytest.mark.parametrize("method", ["k-means", "components"])
def test_a_clustered_layer_that_came_apart_ends_the_run(
    small: Small, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    state = do(small(), Cluster(layers=("layer2.0.conv2",), k=4, method=method))
    monkeypatch.setattr(Tie, "share_gradient", lambda tie: None)
    monkeypatch.setattr(Tie, "hold", lambda tie: None)
    with pytest.raises(AssertionError, match=r"clustered filters of layer2\.0\.conv2 came apart"):
        doing(state, Finetune(epochs=1, **FEW))


def test_zeros_that_were_unpruned_train_again_and_sparsity_falls_in_the_events(small: Small) -> None:
    pruned = do(small(), Prune(amount=0.8))
    _, held = listened(pruned, Finetune(epochs=2, **FEW))
    zeros = {layer.name: int(pruned.weight(layer.name).count_nonzero()) for layer in pruned.layers if layer.prunable}
    assert [event.nonzero for event in held if isinstance(event, Sparsity)] == [zeros, zeros]
    curve = [event.y for event in held if isinstance(event, Metric) and event.name == "sparsity"]
    assert curve == [pytest.approx(0.8, abs=1e-3)] * 2
    applied, free = listened(do(pruned, Unprune(layers=("layer2",))), Finetune(epochs=2, **FEW))
    now = [event.nonzero for event in free if isinstance(event, Sparsity)][-1]
    assert {name for name in now if now[name] > zeros[name]} == {
        f"layer2.0.{name}" for name in ("conv1", "conv2", "shortcut.0")
    }
    assert [e.y for e in free if isinstance(e, Metric) and e.name == "sparsity"][-1] < 0.4
    assert "layer2.0.conv1" not in applied.state.masks


def test_a_layer_that_was_born_with_zeros_may_use_them(small: Small) -> None:
    model = copy.deepcopy(small().model)
    with torch.no_grad():
        model.get_parameter("fc.weight").zero_()
    after = do(state_of(model, small().data), Finetune(epochs=1, **FEW))
    assert after.weight("fc").all()


# A cut network


def test_every_parameter_of_a_cut_network_trains(small: Small) -> None:
    trained = do(small(), Finetune(epochs=1, **FEW))
    cut = do(trained, Prune(method="group-magnitude", amount=0.5))
    after = do(cut, Finetune(epochs=1, **FEW, keep="last"))
    still = [n for n, p in after.model.named_parameters() if torch.equal(p, cut.model.get_parameter(n))]
    assert still == []
    assert not set(map(id, after.model.parameters())) & set(map(id, cut.model.parameters()))


# The given state and the made one


@each_optimizer
def test_the_given_state_is_not_changed_and_the_made_one_is_clean(small: Small, how: dict[str, Any]) -> None:
    state = do(small(), Prune(amount=0.3), Cluster(layers=("layer2.0.conv2",), k=4), Freeze(layers=("conv1",)))
    with untouched(state):
        after = do(state, Finetune(epochs=1, batch_size=40, **how))
    assert hooks(after.model) == hooks(state.model) == 0
    assert all(p.requires_grad and p.grad is None for p in after.model.parameters())
    assert not any(module.training for module in after.model.modules())
    assert after.frozen == state.frozen
    assert after.kept == state.kept


def test_a_run_is_the_same_for_the_same_seed_and_another_for_another(small: Small) -> None:
    one, again, other = (do(small(), Finetune(epochs=2, batch_size=40, seed=seed)) for seed in (3, 3, 4))
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)


def test_a_run_does_not_depend_on_the_random_numbers_of_others(small: Small) -> None:
    one = do(small(), Finetune(epochs=1, **FEW))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        other = do(small(), Finetune(epochs=1, **FEW))
    assert fingerprint(one) == fingerprint(other)


# A loss that is no number


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_loss_that_is_no_number_ends_the_run_and_the_state_stands(small: Small, epochs: int) -> None:
    state = small()
    with (
        untouched(state),
        pytest.raises(BenchError, match=r"the loss became (nan|inf) in epoch 1, .*smaller lr than 1e"),
    ):
        doing(state, Finetune(epochs=epochs, **FEW, lr=1e30, schedule="constant"))


def test_a_loss_that_is_no_number_only_on_validation_ends_the_run(small: Small, monkeypatch) -> None:
    monkeypatch.setattr(training, "evaluate", lambda *_: figures(0.5, None))
    with pytest.raises(BenchError, match="the loss became nan in epoch 1"):
        doing(small(), Finetune(epochs=2, **FEW))


def test_a_stop_does_not_keep_weights_that_are_no_numbers(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "REPORT_INTERVAL", math.inf)  # nobody looks at the loss before the stop
    operation = Finetune(epochs=1, **FEW, lr=1e30, schedule="constant")
    with untouched(small()), pytest.raises(BenchError, match="the loss became nan in epoch"):
        listened(small(), operation, After(120))


# Which epoch is kept


def figures(top1: float, loss: float | None = 1.0) -> Accuracy:
    return Accuracy(images=10, top1=top1, macro=top1, worst=0.0, worst_class="0", loss=loss, confusion=((1,),))


def scripted(monkeypatch: pytest.MonkeyPatch, *top1: float) -> list[str]:
    """Validation figures of one epoch after the other; returns the splits that are measured."""
    splits: list[str] = []
    script = iter(top1)

    def measure(model: nn.Module, data: object, device: object, split: str, *_: object) -> Accuracy:
        splits.append(split)
        return figures(next(script) if split == "validation" else 0.123)

    monkeypatch.setattr(training, "evaluate", measure)
    return splits


@pytest.mark.parametrize(("script", "kept"), [((0.5, 0.9, 0.7), 2), ((0.9, 0.1, 0.2), 1), ((0.1, 0.4, 0.4), 3)])
def test_the_best_epoch_by_validation_is_kept(
    small: Small, monkeypatch: pytest.MonkeyPatch, script: tuple[float, ...], kept: int
) -> None:
    operation = Finetune(epochs=3, **FEW, schedule="constant")
    only = {n: do(small(), Finetune(epochs=n, **FEW, schedule="constant", keep="last")) for n in (1, 2, 3)}
    splits = scripted(monkeypatch, *script)
    applied, _ = listened(small(), operation)
    assert applied.remarks == (f"kept epoch {kept} of 3: best on validation",)
    assert fingerprint(applied.state) == fingerprint(only[kept])
    assert applied.state.accuracy == {"validation": figures(max(script)), "test": figures(0.123)}
    assert splits == ["validation", "validation", "validation", "test"]


def test_the_last_epoch_is_kept_if_that_was_asked_for(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    last = do(small(), Finetune(epochs=3, **FEW, keep="last"))
    splits = scripted(monkeypatch, 0.9, 0.2, 0.1)
    applied, _ = listened(small(), Finetune(epochs=3, **FEW, keep="last"))
    assert fingerprint(applied.state) == fingerprint(last)
    assert applied.state.accuracy["validation"].top1 == 0.1
    assert applied.remarks == ()
    assert splits[-1] == "test"


def test_the_figures_are_those_of_the_weights_that_are_kept(small: Small) -> None:
    state = do(small(), Finetune(epochs=3, **FEW))
    for split in ("validation", "test"):
        assert state.accuracy[split] == evaluate(state.model, state.data, state.device, split, lambda _: None)


def test_a_run_reports_losses_figures_and_sparsities_epoch_by_epoch(small: Small) -> None:
    _, events = listened(small(), Finetune(epochs=3, **FEW))
    metrics = [event for event in events if isinstance(event, Metric)]
    for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "sparsity"):
        assert [event.x for event in metrics if event.name == name] == [1, 2, 3]
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress
    assert all(event.phase == "train" and event.steps == 15 and event.rate > 0 for event in progress)
    assert [event.step for event in progress] == sorted({event.step for event in progress})
    assert [event.epoch for event in events if isinstance(event, Sparsity)] == [1, 2, 3]


def test_the_training_figures_are_those_of_every_image_seen() -> None:
    """With steps too small to move a weight they are the figures of the weights as they stand."""
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), noise((3, 2, 2), classes=4))
    images = len(state.data.on(state.device)["train"][0])
    still = Finetune(epochs=1, lr=1e-30, weight_decay=0.0, batch_size=images // 4, augment=False, schedule="constant")
    assert images % 4 == 0
    _, events = listened(state, still)
    seen = {event.name: event.y for event in events if isinstance(event, Metric)}
    expected = evaluate(state.model, state.data, state.device, "train", lambda _: None)
    assert seen["train/accuracy"] == pytest.approx(expected.top1)
    assert seen["train/loss"] == pytest.approx(expected.loss)


# Stopping


class After:
    """A `stopped` that says so from its n-th call on."""

    def __init__(self, calls: float) -> None:
        self.left = calls
        self.calls = 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls > self.left


def stopped_at(state: State, operation: Finetune, calls: int) -> Applied | None:
    """What a stop at that look leaves; None where it leaves nothing."""
    try:
        return listened(state, operation, After(calls))[0]
    except Stopped:
        return None


def looks(state: State, operation: Finetune) -> int:
    """How often a whole run looks whether it shall stop."""
    count = After(math.inf)
    listened(state, operation, count)
    return count.calls


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("script", [(0.3, 0.6, 0.9), (0.9, 0.6, 0.3), (0.3, 0.9, 0.6)], ids=str)
def test_a_run_stopped_anywhere_is_done_again_to_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, keep: Any, script: tuple[float, ...]
) -> None:
    torch.manual_seed(0)
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)), noise((1, 4, 4)))
    operation = Finetune(epochs=3, batch_size=8, lr=0.1, keep=keep)

    def measure(model: nn.Module, data: object, device: object, split: str, _: object, stopped: Any) -> Accuracy:
        if stopped():
            raise Stopped
        return figures(script[len(measured)] if split == "validation" else 0.5)

    measured: list[float] = []
    note = lambda event: measured.append(0) if isinstance(event, Sparsity) else None  # noqa: E731

    def run(operation: Finetune, stopped: Callable[[], bool]) -> Applied:
        measured.clear()
        return apply(operation, state, Tools(lambda name, options, side: state.data, note, stopped))

    monkeypatch.setattr(training, "evaluate", measure)
    count = After(math.inf)
    whole = run(operation, count)
    places = set()
    for calls in range(count.calls):
        try:
            applied = run(operation, After(calls))
        except Stopped:
            assert not places, "only before the first step there is nothing to keep"
            continue
        made = applied.operation
        assert isinstance(made, Finetune)
        places.add(made.steps)
        again = run(made, lambda: False)
        assert fingerprint(again.state) == fingerprint(applied.state), f"stopped at look {calls}, {made.steps} steps"
        assert again.operation == made
    assert {1, 2, 3, 4, 5, 6, 7, 8} <= places
    assert fingerprint(run(operation, lambda: False).state) == fingerprint(whole.state)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_stop_inside_a_step_puts_the_statistics_of_batch_norm_back(small: Small, keep: Any) -> None:
    state = do(small(), Prune(amount=0.5), Freeze(layers=("layer1.0.conv1",)))
    operation = Finetune(epochs=2, batch_size=100, keep=keep)
    total = looks(state, operation)
    assert total > 100
    for calls in range(2, total, 11):
        applied = stopped_at(state, operation, calls)
        if applied is None:
            continue
        assert hooks(applied.state.model) == 0
        made = applied.operation
        assert isinstance(made, Finetune)
        again = doing(state, made)
        assert fingerprint(again.state) == fingerprint(applied.state), f"stopped at look {calls}, {made.steps} steps"
        assert again.operation == made


def test_a_stop_within_the_first_and_the_second_step_of_a_resnet_20(tools: Tools) -> None:
    data = noise((1, 32, 32), images=8)
    torch.manual_seed(0)
    state = state_of(ResNet(1, 10, widths=(16, 32, 64), blocks=(3, 3, 3), shortcut="A"), data)
    operation = Finetune(epochs=1, batch_size=4)
    one = do(state, Finetune(epochs=1, batch_size=4, steps=1))
    each = (looks(state, operation) - 2) // 2
    for calls in (each + 3, each + 30, each + 90, 2 * each - 1):
        applied = stopped_at(state, operation, calls)
        assert applied is not None
        assert isinstance(applied.operation, Finetune)
        assert applied.operation.steps == 1
        assert fingerprint(applied.state) == fingerprint(one)
    for calls in (0, 5, each - 5):
        assert stopped_at(state, operation, calls) is None


def test_a_stopped_run_says_what_it_kept_and_does_not_look_at_the_test_split(small: Small) -> None:
    operation = Finetune(epochs=2, batch_size=100, schedule="constant")
    total = looks(small(), operation)
    early = stopped_at(small(), operation, total // 4)
    late = stopped_at(small(), operation, 3 * total // 4)
    assert early
    assert late
    assert early.remarks == ("stopped in epoch 1 of 2: kept step 1",)
    assert early.state.accuracy == {}
    assert late.remarks == ("stopped in epoch 2 of 2: kept epoch 1, the best on validation",)
    assert set(late.state.accuracy) == {"validation"}


def test_a_stop_while_the_test_split_is_measured_keeps_the_whole_run(small: Small) -> None:
    operation = Finetune(epochs=1, **FEW)
    applied = stopped_at(small(), operation, looks(small(), operation) - 1)
    assert applied
    assert applied.operation == plain(operation)
    assert applied.remarks == ("stopped while it measured the test split: e measures it",)
    assert fingerprint(applied.state) == fingerprint(do(small(), operation))


def test_a_stopped_run_keeps_zeros_frozen_layers_and_clusters(small: Small) -> None:
    state = do(small(), Prune(amount=0.5), Cluster(layers=("layer2.0.conv2",), k=4), Freeze(layers=("conv1", "layer1")))
    applied = stopped_at(state, Finetune(epochs=2, **FEW), 150)
    assert applied
    after = applied.state
    assert not {"conv1", "bn1", "layer1.0.bn1"} & moved(state, after)
    assert not any(after.weight(name)[~mask].any() for name, mask in after.masks.items())
    assert len(after.weight("layer2.0.conv2").unique(dim=0)) <= 4


def test_more_steps_than_there_are_cannot_be_asked_for(small: Small) -> None:
    with pytest.raises(BenchError, match=r"steps must be at most 10 \(2 epochs of 5\)"):
        doing(small(), Finetune(epochs=2, **FEW, steps=11))


# The schedule


def lrs(state: State, operation: Finetune, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of each step as the optimizer had it."""
    seen: list[float] = []
    original = torch.optim.SGD.step

    def step(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    do(state, operation)
    return seen


def test_a_constant_rate_is_constant(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lrs(small(), Finetune(epochs=2, **FEW, lr=0.02, schedule="constant"), monkeypatch) == [0.02] * 10


def test_a_cosine_falls_from_lr_to_zero(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [0.02 * 0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert lrs(small(), Finetune(epochs=2, **FEW, lr=0.02, schedule="cosine"), monkeypatch) == pytest.approx(expected)
    assert lr_factor(Finetune(epochs=7, schedule="cosine"), 3, 0) == 1.0
    assert lr_factor(Finetune(epochs=7, schedule="cosine"), 3, 21) == pytest.approx(0.0, abs=1e-15)


def test_steps_fall_at_the_milestones_or_at_one_half_and_three_quarters() -> None:
    def epochs(count: int, **more: Any) -> list[float]:
        operation = Finetune(epochs=count, schedule="multi-step", **more)
        return [lr_factor(operation, 3, 3 * epoch + within) for epoch in range(count) for within in (0, 2)][::2]

    assert epochs(8) == pytest.approx([1] * 4 + [0.1] * 2 + [0.01] * 2)
    assert epochs(4, milestones=(1, 3), gamma=0.5) == pytest.approx([1, 0.5, 0.5, 0.25])
    assert epochs(4, milestones=(9,)) == [1] * 4
    assert epochs(1) == [1], "a single epoch trains with lr itself"
    assert epochs(2) == pytest.approx([1, 0.1])
    operation = Finetune(epochs=2, schedule="multi-step", milestones=(1,))
    assert [lr_factor(operation, 3, step) for step in range(6)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("how", "kind", "group"),
    [
        ({"optimizer": "sgd"}, torch.optim.SGD, {"momentum": 0.8, "weight_decay": 0.01}),
        ({"optimizer": "adam"}, torch.optim.Adam, {"betas": (0.8, 0.999), "weight_decay": 0.01}),
        ({"optimizer": "adamw"}, torch.optim.AdamW, {"betas": (0.8, 0.999), "weight_decay": 0.01}),
    ],
)
def test_the_optimizer_has_just_what_trains(small: Small, how: Any, kind: type, group: dict[str, Any]) -> None:
    state = do(small(), Freeze(layers=("layer1",)))
    run = set_up(Finetune(**how, lr=0.3, momentum=0.8, weight_decay=0.01), state)
    assert type(run.optimizer) is kind
    assert {key: run.optimizer.param_groups[0][key] for key in group} == group
    trains = {id(p) for p in run.optimizer.param_groups[0]["params"]}
    assert {n for n, p in run.model.named_parameters() if id(p) not in trains} == {
        n for n, _ in run.model.named_parameters() if n.startswith("layer1")
    }


def test_nesterov_looks_ahead_and_needs_a_momentum(small: Small) -> None:
    assert set_up(Finetune(nesterov=True), small()).optimizer.param_groups[0]["nesterov"]
    assert not set_up(Finetune(), small()).optimizer.param_groups[0]["nesterov"]
    with pytest.raises(BenchError, match="nesterov looks along the momentum: give a momentum above 0"):
        doing(small(), Finetune(nesterov=True, momentum=0.0))


def test_a_plateau_lowers_the_rate_by_validation_and_never_by_test(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = scripted(monkeypatch, 0.5, 0.5, 0.6, 0.6, 0.6)
    operation = Finetune(epochs=5, **FEW, lr=0.1, schedule="plateau", watch="accuracy", patience=0, gamma=0.5)
    assert lrs(small(), operation, monkeypatch)[::5] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])
    assert splits == ["validation"] * 5 + ["test"]


def test_gradients_are_shortened_to_the_norm_that_was_asked_for(small: Small) -> None:
    state = do(small(), Prune(amount=0.5), Freeze(layers=("fc",)))

    def gradients(clip: float) -> tuple[float, torch.Tensor]:
        run = set_up(Finetune(clip=clip, **FEW), state)
        training.train_step(run, next(batches(run)))
        for weight, mask in zip(run.masked, run.masks, strict=True):
            assert weight.grad is not None
            weight.grad.mul_(mask)
        grads = torch.cat([p.grad.flatten() for p in run.trained if p.grad is not None])
        return float(grads.norm()), grads

    whole, free = gradients(0.0)
    length, clipped = gradients(0.25 * whole)
    assert length == pytest.approx(0.25 * whole, rel=1e-4)
    torch.testing.assert_close(clipped, 0.25 * free, rtol=1e-4, atol=1e-6)
    assert gradients(10 * whole)[0] == pytest.approx(whole)


# Precision


def test_bf16_trains_in_bf16_and_keeps_and_measures_in_fp32(small: Small) -> None:
    kinds: set[torch.dtype] = set()

    def seen(module: nn.Module, _: object, output: torch.Tensor) -> None:
        kinds.add(output.dtype)

    run = set_up(Finetune(precision="bf16", **FEW), small())
    run.model.get_submodule("layer1.0.conv1").register_forward_hook(seen)
    training.train_step(run, next(batches(run)))
    assert kinds == {torch.bfloat16}
    kinds.clear()
    evaluate(run.model, small().data, run.device, "validation", lambda _: None)
    assert kinds == {torch.float32}
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    train = Finetune(epochs=2, **FEW, keep="last")
    exact, rough = do(small(), train), do(small(), Finetune(epochs=2, **FEW, keep="last", precision="bf16"))
    assert fingerprint(exact) != fingerprint(rough)
    assert torch.allclose(exact.weight("conv1"), rough.weight("conv1"), atol=0.05)


def test_a_precision_that_the_device_has_not_is_refused_with_those_that_work(small: Small) -> None:
    with pytest.raises(BenchError, match="fp16 does not work on cpu; fp32 and bf16 would"):
        doing(small(), Finetune(precision="fp16"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs a GPU")
def test_fp16_scales_its_gradients_and_keeps_zeros(small: Small) -> None:
    state = do(small(), Prune(amount=0.5))
    run = set_up(Finetune(precision="fp16", device="cuda"), state)
    assert run.scaler.is_enabled()
    after = do(state, Finetune(epochs=2, **FEW, precision="fp16", device="cuda", clip=1.0))
    assert not any(after.weight(name)[~mask].any() for name, mask in after.masks.items())


# Batches


def naive(image: torch.Tensor, down: int, right: int, mirrored: bool) -> torch.Tensor:
    height, width = image.shape[-2:]
    beside, above = width // 8, height // 8
    padded = F.pad(image, (beside, beside, above, above))[:, down : down + height, right : right + width]
    return padded.flip(-1) if mirrored else padded


def shown(run: Run) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The images and labels of an epoch as the network takes them, batch by batch."""
    return [training.gathered(run, pick) for pick in batches(run)]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (2, 7, 7), (1, 32, 20)])
def test_crops_are_what_a_crop_of_each_image_alone_gives(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (20, *shape), generator=generator, dtype=torch.uint8)
    borders = shape[1] // 8, shape[2] // 8
    offsets = torch.stack([torch.randint(0, 2 * border + 1, (20,), generator=generator) for border in borders])
    mirrored = torch.rand(20, generator=generator) < 0.5
    order = torch.randperm(20, generator=generator)
    made = Crops(images[order.argsort()], borders).take(order, offsets, mirrored)
    plain = Crops(images, borders).take(torch.arange(20), offsets, None)
    assert made.dtype == torch.uint8
    for number, image in enumerate(images):
        down, right = offsets[:, number].tolist()
        assert torch.equal(made[number], naive(image, down, right, bool(mirrored[number])))
        assert torch.equal(plain[number], naive(image, down, right, False))


def test_offsets_are_the_numbers_that_recorded_sessions_were_made_with() -> None:
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(256, 10)), noise((1, 16, 16), images=24))
    run = set_up(Finetune(batch_size=8, seed=3), state)
    made = [pick.offsets for pick in batches(run) if pick.offsets is not None]
    generator = torch.Generator().manual_seed(3)
    torch.randperm(24, generator=generator)
    assert torch.equal(torch.cat(made, 1), torch.randint(0, 5, (2, 24), generator=generator))


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_mirrored_only_where_the_data_set_allows_it(flip: bool) -> None:
    data = noise((1, 8, 8), images=64, flip=flip)
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data)
    run = set_up(Finetune(batch_size=16, augment=True), state)
    made = list(batches(run))
    assert len(made) == 4
    mirrored = [pick.mirrored for pick in made if pick.mirrored is not None]
    assert (16 < int(torch.cat(mirrored).sum()) < 48) if flip else not mirrored
    assert {0, 1, 2} == set(
        torch.cat([pick.offsets for pick in made if pick.offsets is not None], 1).flatten().tolist()
    )


def test_without_augmentation_an_epoch_shows_each_image_once_as_it_is() -> None:
    data = noise((1, 4, 4), images=24)
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)), data)
    run = set_up(Finetune(batch_size=8, augment=False), state)
    x, y = (torch.cat(parts) for parts in zip(*shown(run), strict=True))
    images, labels = data.on(torch.device("cpu"))["train"]
    normal = data.normalized(images)
    order = [int((normal == one).flatten(1).all(1).nonzero()[0, 0]) for one in x]
    assert sorted(order) == list(range(24)) != order
    assert torch.equal(y, labels[order])
    again = torch.cat([x for x, _ in shown(run)])
    assert not torch.equal(again, x), "the next epoch has another order"


@pytest.mark.parametrize(("size", "sizes"), [(24, [24]), (7, [7, 7, 7]), (23, [23]), (500, [24]), (1, [1] * 24)])
def test_a_short_last_batch_is_dropped_and_a_batch_may_be_larger_than_the_data(size: int, sizes: list[int]) -> None:
    state = state_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)), noise((1, 4, 4), images=24))
    run = set_up(Finetune(batch_size=size), state)
    assert [len(x) for x, _ in shown(run)] == sizes
    assert run.steps == len(sizes)
    if len(sizes) < 5:
        applied, events = listened(state, Finetune(epochs=2, batch_size=size))
        assert next(e.steps for e in events if isinstance(e, Progress)) == 2 * len(sizes)
        assert fingerprint(applied.state) != fingerprint(state)
