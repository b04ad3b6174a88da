"""What is minimized: closed forms of the losses, and what the teaching switches teach."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_examples import Small, do, doing, state_of
from torch import Tensor, nn

from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.errors import BenchError
from labbench.bench.states.state import Data
from labbench.bench.training.losses import data_loss
from labbench.session.operations import Finetune, Freeze, Prune, Unprune


def batch(seed: int = 0, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (6,), generator=generator)


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def cross_entropy(rows: list[list[float]], labels: list[int], smoothing: float = 0.0) -> float:
    """Mean of −Σ q log p, in plain Python."""
    losses = []
    for row, label in zip(rows, labels, strict=True):
        wanted = [smoothing / len(row) + (1 - smoothing) * (number == label) for number in range(len(row))]
        losses.append(-sum(q * math.log(p) for q, p in zip(wanted, softmax(row), strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("loss", ["cross-entropy", "softmax", "scaled-softmax"])
def test_a_loss_is_its_closed_form(loss: Any, smoothing: float) -> None:
    logits, labels = batch()
    rows = logits.tolist()
    factor = {"softmax": 1.0, "scaled-softmax": 7.0}.get(loss)
    if factor:
        rows = [[factor * p for p in softmax(row)] for row in rows]
    made = data_loss(Finetune(loss=loss, scale=7.0, label_smoothing=smoothing), logits, labels)
    assert float(made) == pytest.approx(cross_entropy(rows, labels.tolist(), smoothing))


@pytest.mark.parametrize(("distill", "temperature"), [(1.0, 1.0), (0.3, 4.0)])
def test_distillation_is_its_closed_form(distill: float, temperature: float) -> None:
    logits, labels = batch()
    teacher, _ = batch(seed=1)
    operation = Finetune(distill=distill, temperature=temperature)
    divergence = 0.0
    for student, asked in zip(logits.tolist(), teacher.tolist(), strict=True):
        p, q = (softmax([value / temperature for value in row]) for row in (asked, student))
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / len(logits)
    hard = cross_entropy(logits.tolist(), labels.tolist())
    expected = (1 - distill) * hard + distill * temperature**2 * divergence
    assert float(data_loss(operation, logits, labels, teacher)) == pytest.approx(expected)
    assert float(data_loss(Finetune(distill=1.0), logits, labels, logits)) == pytest.approx(0, abs=1e-12)


def test_a_softmax_before_the_cross_entropy_cannot_get_near_zero_and_hardly_has_a_gradient() -> None:
    classes = 10
    labels = torch.arange(classes)
    logits = 50.0 * torch.eye(classes)
    right = data_loss(Finetune(loss="softmax"), logits, labels)
    assert float(right) == pytest.approx(math.log(1 + (classes - 1) / math.e))
    assert float(data_loss(Finetune(), logits, labels)) == pytest.approx(0, abs=1e-6)
    wrong = (50.0 * torch.eye(classes)).roll(1, 1).requires_grad_()
    data_loss(Finetune(loss="softmax"), wrong, labels).backward()
    assert wrong.grad is not None
    assert float(wrong.grad.abs().max()) < 1e-6, "what is surely wrong is not corrected"


def test_a_run_with_the_softmax_switch_learns_less_and_a_factor_gives_it_back() -> None:
    images = DATASETS["digits"].read(Reading(Path("/nowhere")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    state = state_of(model, Data("digits", images, False, 8))
    train: dict[str, Any] = {"epochs": 4, "lr": 0.1, "augment": False, "keep": "last"}
    accuracy = {
        loss: do(state, Finetune(**train, loss=loss, scale=5.0)).accuracy["validation"].top1
        for loss in ("cross-entropy", "softmax", "scaled-softmax")
    }
    assert accuracy["cross-entropy"] > 0.9
    assert accuracy["softmax"] < 0.7
    assert accuracy["scaled-softmax"] > 0.9


# The dense model


def test_the_dense_model_is_the_one_before_the_first_prune_since_the_load(small: Small) -> None:
    loaded = small()
    trained = do(loaded, Finetune(epochs=1, batch_size=40), Freeze(layers=("conv1",)))
    assert trained.dense is None
    once = do(trained, Prune(amount=0.5))
    assert once.dense is trained
    later = do(once, Finetune(epochs=1, batch_size=40), Unprune(), Prune(method="group-magnitude", amount=0.3))
    assert later.dense is trained


def test_without_a_dense_model_there_is_nothing_to_distill_from(small: Small) -> None:
    with pytest.raises(BenchError, match="no dense model to distill from: nothing was pruned or clustered since"):
        doing(small(), Finetune(distill=0.5))


def test_a_student_comes_nearer_to_the_answers_of_the_dense_model(small: Small) -> None:
    train = {"epochs": 3, "batch_size": 40, "augment": False, "lr": 0.02, "keep": "last", "schedule": "constant"}
    dense = do(small(), Finetune(epochs=8, batch_size=40, lr=0.05))
    cut = do(dense, Prune(method="group-magnitude", amount=0.5))
    images = dense.data.normalized(dense.data.on(dense.device)["train"][0])

    def distance(state: Any) -> float:
        with torch.no_grad():
            asked, given = dense.model(images).log_softmax(1), state.model(images).log_softmax(1)
        return float((asked.exp() * (asked - given)).sum(1).mean())

    alone, taught = do(cut, Finetune(**train)), do(cut, Finetune(**train, distill=1.0, temperature=2.0))
    assert distance(taught) < distance(alone) < distance(cut)
