"""Learning rates over a run, against torch's own schedulers and the numbers of the reference."""

from typing import Any, Literal

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from labbench.bench.training.schedules import Plateau, lr_factor, ramp
from labbench.session.operations import Finetune
from labbench.session.snapshot import Accuracy


def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def figures(top1: float, loss: float | None) -> Accuracy:
    return Accuracy(images=10, top1=top1, macro=top1, worst=0.0, worst_class="0", loss=loss, confusion=((1,),))


def test_the_ramp_has_the_numbers_of_the_reference() -> None:
    assert [round(ramp(epoch, 0.001), 3) for epoch in range(7)] == [0.015, 0.031, 0.108, 0.287, 0.574, 0.870, 1.0]
    assert [ramp(epoch, 0.001) for epoch in (7, 19, 20)] == [1, 1, 1]
    assert round(ramp(21, 0.001), 3) == 0.900
    assert ramp(25, 0.2) == pytest.approx(0.6)
    assert [ramp(epoch, 0.2) for epoch in (30, 31, 99)] == pytest.approx([0.2] * 3)


def test_the_ramp_moves_between_epochs() -> None:
    operation = Finetune(epochs=3, schedule="ramp")
    assert [round(lr_factor(operation, 2, step), 3) for step in range(6)] == [0.015, 0.015, 0.031, 0.031, 0.108, 0.108]


@pytest.mark.parametrize(("epochs", "steps"), [(1, 7), (2, 5), (3, 40), (10, 1), (1, 2)])
def test_one_cycle_is_that_of_torch(epochs: int, steps: int) -> None:
    optimizer = sgd()
    reference = OneCycleLR(optimizer, max_lr=1.0, total_steps=epochs * steps, cycle_momentum=False)
    operation = Finetune(epochs=epochs, schedule="one-cycle")
    for step in range(epochs * steps):
        assert lr_factor(operation, steps, step) == pytest.approx(optimizer.param_groups[0]["lr"]), step
        optimizer.step()
        if step + 1 < epochs * steps:
            reference.step()


def test_one_cycle_of_a_single_step_is_a_number() -> None:
    assert 0 < lr_factor(Finetune(epochs=1, schedule="one-cycle"), 1, 0) <= 1


@pytest.mark.parametrize("watch", ["loss", "accuracy"])
@pytest.mark.parametrize("patience", [0, 1, 3])
def test_a_plateau_is_that_of_torch(watch: Literal["loss", "accuracy"], patience: int) -> None:
    optimizer = sgd()
    mode: Any = "min" if watch == "loss" else "max"
    reference = ReduceLROnPlateau(optimizer, mode=mode, factor=0.9, patience=patience)
    operation = Finetune(schedule="plateau", watch=watch, patience=patience, gamma=0.9)
    plateau = Plateau()
    values = torch.rand(60, generator=torch.Generator().manual_seed(patience)).add(0.2).tolist()
    values[30:40] = [values[29] * (1 + 1e-5 * number) for number in range(10)]
    seen = set()
    for value in values:
        plateau.see(operation, figures(value, 1.0) if watch == "accuracy" else figures(0.5, value))
        reference.step(value)
        assert lr_factor(operation, 5, 0, plateau.factor) == pytest.approx(optimizer.param_groups[0]["lr"])
        seen.add(plateau.factor)
    assert len(seen) > 3


def test_a_plateau_takes_a_loss_that_is_no_number_for_a_bad_one() -> None:
    operation, plateau = Finetune(schedule="plateau", patience=0, gamma=0.1), Plateau()
    for loss in (None, None, 2.0, None):
        plateau.see(operation, figures(0.5, loss))
    assert (plateau.best, plateau.factor) == (2.0, pytest.approx(0.01))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "multi-step", "plateau"])
def test_a_warm_up_rises_to_what_the_schedule_says(schedule: Any) -> None:
    operation = Finetune(epochs=8, schedule=schedule, warmup=2)
    without = Finetune(epochs=8, schedule=schedule)
    parts = [lr_factor(operation, 3, step) / lr_factor(without, 3, step) for step in range(24)]
    assert parts == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, *[1.0] * 19])
