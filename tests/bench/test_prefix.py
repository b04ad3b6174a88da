"""A frozen beginning is computed apart: without gradients, folded, once for all where no image moves."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bench_examples import Small, do, doing, exact, noise, shaken, state_of
from torch import nn

from labbench.bench.apply import apply
from labbench.bench.errors import Stopped
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import BATCH_NORM, State
from labbench.bench.tools import Tools
from labbench.bench.training import loop as training
from labbench.bench.training.frozen_prefix import Parted, parted
from labbench.bench.training.run import set_up
from labbench.session.operations import Finetune, Freeze, Prune

FEW = {"batch_size": 40, "epochs": 2}
FAST = {**FEW, "engine": "fast"}


def agree(one: State, other: State, tolerance: float) -> None:
    for (name, tensor), same in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        torch.testing.assert_close(same, tensor, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("layers", [("conv1",), ("conv1", "layer1"), ("conv1", "layer1", "layer2.0.conv1")], ids=str)
def test_a_frozen_beginning_changes_nothing_but_rounding(small: Small, layers: tuple[str, ...], augment: bool) -> None:
    state = do(exact(shaken(small())), Freeze(layers=layers))
    assert isinstance(set_up(Finetune(**FAST), state).network, Parted)
    plain, fast = (do(state, Finetune(**FEW, augment=augment, engine=engine)) for engine in ("plain", "fast"))
    agree(plain, fast, 1e-12)
    assert fingerprint(plain) != fingerprint(state)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_over_kept_features_goes_on_to_the_same_bits_and_replays(small: Small, keep: Any) -> None:
    state = do(small(), Prune(amount=0.3), Freeze(layers=("conv1", "layer1")))
    operation = Finetune(**FAST, augment=False, keep=keep, precision="bf16", layout="channels_last")
    whole = doing(state, operation)
    assert whole.operation == operation
    broken = do(state, training.with_fields(operation, steps=7))
    assert fingerprint(do(broken, Finetune(resume=True))) == fingerprint(whole.state)
    assert fingerprint(do(state, operation)) == fingerprint(whole.state)


def folded(network: nn.Module) -> int:
    assert isinstance(network, Parted)
    assert not any(p.requires_grad for p in network.prefix.parameters())
    return sum(isinstance(module, BATCH_NORM) for module in network.prefix.modules())


def test_the_beginning_is_as_long_as_it_is_frozen_and_its_norms_are_folded(small: Small) -> None:
    state = do(small(), Freeze(layers=("conv1", "layer1")))
    run = set_up(Finetune(engine="fast"), state)
    assert folded(run.network) == 0
    assert isinstance(run.network, Parted)
    assert sum(isinstance(module, nn.Conv2d) for module in run.network.prefix.modules()) == 3
    assert {id(p) for p in run.network.rest.parameters()} == {id(p) for p in run.trained}


def test_only_an_unbroken_frozen_beginning_is_taken_apart(small: Small) -> None:
    for layers, norms in ((("layer1",), True), (("fc",), True)):
        state = do(small(), Freeze(layers=layers, norms=norms))
        run = set_up(Finetune(engine="fast"), state)
        assert run.network is run.model
    state = do(small(), Freeze(layers=("conv1", "layer1"), norms=False))
    run = set_up(Finetune(engine="fast"), state)
    assert isinstance(run.network, Parted)
    assert sum(isinstance(m, nn.Conv2d) for m in run.network.prefix.modules()) == 1, "the norm behind it counts images"
    plain = set_up(Finetune(engine="plain"), do(small(), Freeze(layers=("conv1", "layer1"))))
    assert plain.network is plain.model


class Dropping(nn.Module):
    """Numbers are drawn within what is frozen."""

    def __init__(self, drop: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 10)
        self.drop = drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.three(F.relu(self.two(self.drop(self.one(x.flatten(1))))))
        return out


@pytest.mark.parametrize("drop", [nn.Dropout(0.5), lambda x: F.dropout(x, 0.5, training=False)], ids=["layer", "call"])
def test_what_draws_numbers_is_never_done_once_for_all(drop: Any) -> None:
    torch.manual_seed(0)
    state = do(state_of(Dropping(drop), noise((1, 4, 4))), Freeze(layers=("one", "two")))
    network = set_up(Finetune(engine="fast"), state).network
    assert isinstance(network, Parted)
    assert sum(isinstance(module, nn.Linear) for module in network.prefix.modules()) == 1
    agree(*(do(exact(state), Finetune(**FEW, augment=False, engine=e)) for e in ("plain", "fast")), 1e-12)


class Wayward(nn.Module):
    """Its way depends on values: it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.one(x.flatten(1))
        out: torch.Tensor = self.two(x if x.sum() > 0 else -x)
        return out


def test_a_network_that_cannot_be_traced_trains_whole() -> None:
    state = do(state_of(Wayward(), noise((1, 4, 4))), Freeze(layers=("one",)))
    run = set_up(Finetune(engine="fast"), state)
    assert run.network is run.model
    do(state, Finetune(**FAST))


class Counted(nn.Module):
    """A trace fixes what changes from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.calls = nn.Linear(16, 16), nn.Linear(16, 10), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        out: torch.Tensor = self.two(self.one(x.flatten(1)) * self.calls)
        return out


def test_a_trace_that_answers_otherwise_is_not_used() -> None:
    model = Counted().requires_grad_(False)
    assert parted(model, torch.randn(2, 1, 4, 4)) is None


def test_features_are_kept_only_while_images_stand_still_and_within_the_limit(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = do(small(), Freeze(layers=("conv1", "layer1")))

    def kept(**how: Any) -> bool:
        run = set_up(Finetune(**{**FAST, "augment": False, **how}), state)
        training.keep_features(run)
        return run.features is not None

    assert kept()
    assert not kept(augment=True)
    assert not kept(epochs=1)
    assert not kept(engine="plain")
    images = len(state.data.on(state.device)["train"][0])
    monkeypatch.setattr(training, "FEATURES_LIMIT", images * 8 * 8 * 8 * 4)
    assert kept()
    monkeypatch.setattr(training, "FEATURES_LIMIT", images * 8 * 8 * 8 * 4 - 1)
    assert not kept()
    assert kept(precision="bf16"), "half as many bytes"


def test_a_stop_in_the_frozen_beginning_is_seen_at_its_next_layer(small: Small) -> None:
    state = do(small(), Freeze(layers=("conv1", "layer1")))
    for augment in (True, False):
        calls = 0

        def stopped() -> bool:
            nonlocal calls
            calls += 1
            return calls > 2

        with pytest.raises(Stopped):
            apply(
                Finetune(**FAST, augment=augment),
                state,
                Tools(lambda name, options, side: state.data, stopped=stopped),
            )
        assert calls == 3
