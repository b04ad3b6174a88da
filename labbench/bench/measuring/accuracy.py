"""Accuracy of a model on a split, in fp32. Changes nothing."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labbench.bench.errors import Stopped, never
from labbench.bench.states.copies import seeded
from labbench.bench.states.state import Data, State
from labbench.session.events import Progress
from labbench.session.snapshot import Accuracy

EVALUATION_BATCH = 256
RANDOM_SEED = 0


def measured(state: State, split: str, report: Callable[[Progress], None], stopped: Callable[[], bool]) -> State:
    """The state with its accuracy on a split. Raises `Stopped`."""
    with seeded(state.device, RANDOM_SEED):  # of a model that is random in eval mode
        accuracy = evaluate(state.model, state.data, state.device, split, report, stopped)
    return replace(state, accuracy={**state.accuracy, split: accuracy})


def evaluate(
    model: nn.Module,
    data: Data,
    device: torch.device,
    split: str,
    report: Callable[[Progress], None],
    stopped: Callable[[], bool] = never,
) -> Accuracy:
    """Accuracy of a model in eval mode on every image of a split, in fp32. Raises `Stopped` between two batches."""
    x, y = data.on(device)[split]
    classes = len(data.classes)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    losses: list[Tensor] = []
    among_five = torch.zeros((), dtype=torch.int64, device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(x), EVALUATION_BATCH):
                if stopped():
                    raise Stopped
                images, truth = x[start : start + EVALUATION_BATCH], y[start : start + EVALUATION_BATCH]
                logits = model(data.normalized(images)).float()
                losses.append(F.cross_entropy(logits, truth, reduction="sum"))
                confusion += torch.bincount(truth * classes + logits.argmax(1), minlength=classes * classes)
                among_five += among_best(logits, truth, 5).sum()
                report(Progress(phase="measure", fraction=min(1.0, (start + EVALUATION_BATCH) / len(x))))
    finally:
        model.train(was_training)
    loss = float(torch.stack(losses).cpu().double().mean()) * len(losses) / len(x)
    top5 = int(among_five) / len(x) if classes > 5 else None
    return accuracy_of(confusion.view(classes, classes).cpu(), loss, data.classes, top5)


def among_best(logits: Tensor, truth: Tensor, count: int) -> Tensor:
    """Whether each true class is among the `count` best answers: bool of length N. Of equals the first is the best."""
    own = logits.gather(1, truth[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < truth[:, None]
    better = (logits > own) | ((logits == own) & earlier)
    return ((better.sum(1) < count) & ~own[:, 0].isnan()) | (logits.argmax(1) == truth)


def accuracy_of(confusion: Tensor, loss: float, classes: tuple[str, ...], top5: float | None = None) -> Accuracy:
    """Figures from a confusion matrix (row = true class) and the mean loss. Classes without images do not count."""
    seen = confusion.sum(1)
    recall = (confusion.diag().double() / seen).nan_to_num(nan=2.0)
    worst = int(recall.argmin())
    return Accuracy(
        images=int(seen.sum()),
        top1=float(confusion.diag().sum()) / int(seen.sum()),
        macro=float(recall[seen > 0].mean()),
        worst=float(recall[worst]),
        worst_class=classes[worst],
        loss=finite(loss),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        top5=top5,
    )


def finite(value: float) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if abs(value) < float("inf") else None
