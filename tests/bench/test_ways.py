"""How a run computes is tried out where that pays, recorded in the operation, and never tried again for a replay."""

from collections.abc import Iterator
from itertools import repeat

import pytest
import torch
from bench_examples import Small, do, doing, untouched
from msgspec.structs import replace

from labbench.bench.apply import apply
from labbench.bench.errors import Stopped
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.tools import Tools
from labbench.bench.training import trial
from labbench.bench.training.trial import LEAST_STEPS, choose
from labbench.session.events import Progress
from labbench.session.operations import PLAIN, Finetune

CPU = torch.device("cpu")
ALL = [(p, ly, "fast") for p in ("fp32", "bf16") for ly in ("contiguous", "channels_last")]


def way(operation: Finetune) -> tuple[str, ...]:
    return tuple(getattr(operation, name) for name in PLAIN)


class Clock:
    """Steps that take as long as the test says."""

    def __init__(self, seconds: dict[tuple[str, ...], float]) -> None:
        self.seconds, self.steps = seconds, dict.fromkeys(seconds, 0)

    def __call__(self, operation: Finetune) -> Iterator[float]:
        for second in repeat(self.seconds[way(operation)]):
            self.steps[way(operation)] += 1
            yield second


@pytest.mark.parametrize("best", ALL)
@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_the_fastest_way_is_taken_and_tried_for_no_more_than_the_stated_steps(
    best: tuple[str, str, str], engine: str
) -> None:
    clock = Clock(dict.fromkeys(ALL, 1.0) | {best: 0.5, (*best[:2], "plain"): 0.4 if engine == "plain" else 0.6})
    made, remarks = choose(Finetune(), LEAST_STEPS, CPU, clock)
    assert way(made) == (*best[:2], engine)
    assert sum(clock.steps.values()) <= LEAST_STEPS / 50
    assert [best[0] in remark and best[1] in remark for remark in remarks] == [True]
    assert made == choose(made, LEAST_STEPS, CPU, clock)[0], "what was chosen is done again without a trial"
    assert choose(made, LEAST_STEPS, CPU, clock)[1] == ()


def test_a_plainer_way_stays_unless_another_is_clearly_faster() -> None:
    clock = Clock(dict.fromkeys(ALL, 0.97) | {ALL[0]: 1.0, (*ALL[0][:2], "plain"): 1.02})
    assert way(choose(Finetune(), LEAST_STEPS, CPU, clock)[0]) == ("fp32", "contiguous", "plain")


def test_a_hopeless_way_is_left_after_its_first_step() -> None:
    slow = ("bf16", "contiguous", "fast")
    clock = Clock(dict.fromkeys([*ALL, ("fp32", "contiguous", "plain")], 1.0) | {slow: 10.0})
    choose(Finetune(), LEAST_STEPS, CPU, clock)
    assert clock.steps[slow] == 1
    clock.steps[slow] = 0
    choose(Finetune(), LEAST_STEPS, torch.device("cuda"), clock)
    assert clock.steps[slow] == 4, "on a GPU the first step says nothing"


def test_a_way_that_the_network_cannot_go_is_not_taken() -> None:
    clock = Clock(dict.fromkeys([*ALL, ("fp32", "channels_last", "plain")], 1.0) | {ALL[1]: 0.5})

    def timed(operation: Finetune) -> Iterator[float]:
        if operation.precision == "bf16":
            raise RuntimeError("not implemented for BFloat16")
        yield from clock(operation)

    made, (remark,) = choose(Finetune(), LEAST_STEPS, CPU, timed)
    assert way(made) == ("fp32", "channels_last", "fast")
    assert "bf16 contiguous fast not possible" in remark


def test_a_short_run_is_plain_and_what_was_asked_for_is_kept() -> None:
    assert choose(Finetune(), LEAST_STEPS - 1, CPU, Clock({})) == (Finetune(**PLAIN), ())
    made, _ = choose(Finetune(precision="bf16", engine="fast"), 5, CPU, Clock({}))
    assert way(made) == ("bf16", "contiguous", "fast")
    clock = Clock(dict.fromkeys(ALL[:2], 1.0) | {ALL[1]: 0.5})
    made, _ = choose(Finetune(precision="fp32", engine="fast"), LEAST_STEPS, CPU, clock)
    assert way(made) == ("fp32", "channels_last", "fast")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even the shortest run tries how it computes best."""
    monkeypatch.setattr(trial, "LEAST_STEPS", 1)


@pytest.mark.usefixtures("eager")
def test_a_trial_changes_nothing_and_the_recorded_operation_gives_the_same_weights(small: Small) -> None:
    operation = Finetune(epochs=2, batch_size=40)
    heard: list[object] = []
    with untouched(small()):
        tried = apply(operation, small(), Tools(lambda name, options, side: small().data, heard.append))
    fractions = [event.fraction for event in heard if isinstance(event, Progress) and event.phase == "try"]
    assert fractions and fractions == sorted(fractions) and fractions[-1] <= 1
    assert isinstance(tried.operation, Finetune)
    assert "auto" not in way(tried.operation)
    assert any("the fastest of a few steps each" in remark for remark in tried.remarks)
    again = doing(small(), tried.operation)
    assert fingerprint(again.state) == fingerprint(tried.state)
    assert again.operation == tried.operation
    assert len(again.remarks) == len(tried.remarks) - 1


@pytest.mark.usefixtures("eager")
def test_a_stop_during_the_trial_leaves_the_model_as_it_was(small: Small) -> None:
    calls = 0

    def stopped() -> bool:
        nonlocal calls
        calls += 1
        return calls > 3

    with untouched(small()), pytest.raises(Stopped):
        tools = Tools(lambda name, options, side: small().data, stopped=stopped)
        apply(Finetune(epochs=2, batch_size=40), small(), tools)


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_every_way_learns_the_same_and_leaves_contiguous_tensors(small: Small, keep, engine, layout) -> None:
    operation = Finetune(epochs=2, batch_size=40, keep=keep, layout=layout, engine=engine)
    made, plain = do(small(), operation), do(small(), Finetune(epochs=2, batch_size=40, keep=keep))
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(made.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
        assert made.model.state_dict()[name].is_contiguous()


@pytest.mark.parametrize("steps", [2, 7])
def test_a_run_that_was_stopped_goes_on_in_its_own_way_to_the_same_bits(small: Small, steps: int) -> None:
    operation = Finetune(epochs=2, batch_size=40, precision="bf16", layout="channels_last", engine="fast")
    whole = do(small(), operation)
    broken = do(small(), replace(operation, steps=steps))
    assert fingerprint(do(broken, Finetune(resume=True))) == fingerprint(whole)
