"""A step that is recorded once and done again trains as one that is computed anew. Here the graph is a function that is
called again: there is no GPU in these tests, but for the last."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench_examples import Small, do, doing, noise, state_of
from msgspec.structs import replace
from test_resume import Dropping

from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.training import cuda_graph, optimizers
from labbench.bench.training import loop as training
from labbench.bench.training.cuda_graph import WARM_UPS, Pick, put_back
from labbench.bench.training.run import Run, set_up
from labbench.session.operations import Cluster, Finetune, Freeze, Prune

FAST = {"epochs": 2, "batch_size": 40, "engine": "fast"}
HOW: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05, "nesterov": True},
    "sgd without momentum": {"momentum": 0.0},
    "adam": {"optimizer": "adam", "lr": 0.01, "schedule": "one-cycle"},
    "clip": {"clip": 0.1, "regularizer": "l1", "precision": "bf16"},
    "distilled": {"distill": 0.5},
    "still": {"augment": False},
}


class Recorder:
    """Stands for CUDA: warms up, records, and does the work again with whatever lies in its inputs then."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, work: Callable[[], Any], device: torch.device) -> tuple[Callable[[], object], Any]:
        self.recorded += 1
        for _ in range(WARM_UPS):
            result = work().clone()

        def replay() -> None:
            self.replayed += 1
            result.copy_(work())

        return replay, result


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Every fast run records its step, with its learning rate in a tensor as on a GPU."""
    made, begin = Recorder(), training.set_up

    def set_up_to_capture(*args: Any) -> Run:
        run = begin(*args)
        run.may_capture = run.operation.engine == "fast"
        for group in run.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float64)
        return run

    monkeypatch.setattr(cuda_graph, "record", made)
    monkeypatch.setattr(training, "set_up", set_up_to_capture)
    return made


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_recorded_step_trains_as_one_that_is_not(small: Small, request: pytest.FixtureRequest, how: Any) -> None:
    first = (Prune(amount=0.5), Cluster(layers=("layer2.0.conv2",), k=4), Freeze(layers=("conv1", "layer1")))
    state = do(small(), *first)
    operation = Finetune(**FAST, **how)
    expected = do(state, operation)
    recorder: Recorder = request.getfixturevalue("recorder")
    made = doing(state, operation)
    assert (recorder.recorded, recorder.replayed) == (1, 10)
    assert fingerprint(made.state) == fingerprint(expected)
    assert len(made.remarks) == 1, "nothing but the epoch that was kept"


def test_dropout_draws_the_same_numbers_in_a_recorded_step(request: pytest.FixtureRequest) -> None:
    state = state_of(Dropping(), noise((1, 4, 4)))
    operation = Finetune(epochs=3, batch_size=8, engine="fast")
    expected = fingerprint(do(state, operation))
    recorder: Recorder = request.getfixturevalue("recorder")
    assert fingerprint(do(state, operation)) == expected
    assert recorder.replayed == 9


def test_each_run_records_its_own_step_and_a_stopped_one_goes_on(small: Small, recorder: Recorder) -> None:
    operation = Finetune(**FAST)
    whole = do(small(), operation)
    broken = do(small(), replace(operation, steps=7))
    assert fingerprint(do(broken, Finetune(resume=True))) == fingerprint(whole)
    assert recorder.recorded == 2, "the one that goes on is set up elsewhere"
    cut = do(whole, Prune(method="group-magnitude", amount=0.4), Finetune(**FAST))
    assert len(cut.weight("conv1")) < len(whole.weight("conv1"))
    assert recorder.recorded >= 3


def test_a_step_that_cannot_be_recorded_is_computed_and_that_is_said(
    small: Small, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = do(small(), Finetune(**FAST))

    def refuses(work: Callable[[], object], device: object) -> None:
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand a trace")

    monkeypatch.setattr(cuda_graph, "record", refuses)
    made = doing(small(), Finetune(**FAST))
    assert made.remarks[0] == (
        "the step cannot be captured as a CUDA graph, it is done kernel by kernel: "
        "operation not permitted when stream is capturing"
    )
    assert fingerprint(made.state) == fingerprint(expected)


def test_what_is_done_to_warm_up_is_put_back(small: Small) -> None:
    run = set_up(Finetune(**FAST), do(small(), Prune(amount=0.5)))
    picks = [Pick(torch.arange(first, first + 40)) for first in (0, 40)]
    training.train_step(run, picks[0])

    def held() -> list[torch.Tensor]:
        moments = [value.clone() for state in run.optimizer.state.values() for value in state.values()]
        weights = [tensor.clone() for tensor in run.model.state_dict().values()]
        return [*weights, *moments, torch.get_rng_state()]

    before = held()
    with put_back(run.model, run.optimizer, run.device):
        training.computed_step(run, picks[1])
        torch.rand(3)
        assert not all(torch.equal(one, other) for one, other in zip(before, held(), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(before, held(), strict=True))


def test_a_learning_rate_in_a_tensor_changes_in_place() -> None:
    rate = torch.tensor(0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    optimizer.param_groups[0]["lr"] = rate
    optimizers.set_lr(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] is rate and float(rate) == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a graph needs a GPU")
@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_graph_on_a_gpu_trains_as_the_step_does(small: Small, how: Any) -> None:
    first = (Prune(amount=0.5), Cluster(layers=("layer2.0.conv2",), k=4), Freeze(layers=("conv1", "layer1")))
    state = do(small(), *first)
    run = training.begun(Finetune(**FAST, **how, device="cuda"), state, lambda _: None, lambda: False)
    training.train_step(run, next(training.batches(run)))
    assert run.captured, run.remarks
    made = do(state, Finetune(**FAST, **how, device="cuda"))
    plain = do(state, Finetune(**{**FAST, "engine": "plain"}, **how, device="cuda"))
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(made.model.state_dict()[name], tensor, rtol=1e-2, atol=1e-2)
    assert not any(made.weight(name)[~mask].any() for name, mask in made.masks.items())
