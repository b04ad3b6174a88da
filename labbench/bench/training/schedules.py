"""How the learning rate moves over a run: factors of lr, as functions of the step; only a plateau has a memory."""

import math
from dataclasses import dataclass

from labbench.session.operations import Finetune
from labbench.session.snapshot import Accuracy

# One cycle, as in torch: Smith & Topin 2018, with the cosine of fast.ai.
CYCLE_UP = 0.3  # of all steps
CYCLE_START = 1 / 25
CYCLE_END = CYCLE_START / 1e4

# Ramp: up over 6 epochs as in Laine & Aila 2017, section 3; down from epoch 20 on, over 10.
RAMP_UP, RAMP_START, RAMP_SHARPNESS = 6, 0.5, 5
RAMP_TURN, RAMP_DOWN = 20, 10

PLATEAU_MARGIN = 1e-4  # a figure is better if it is so by more than this part of the best, as in torch


@dataclass
class Plateau:
    """What the plateau schedule remembers: the best validation figure, and since how many epochs it stands."""

    best: float | None = None
    waited: int = 0
    factor: float = 1.0

    def see(self, operation: Finetune, validation: Accuracy) -> None:
        """Take the figures after an epoch; lr falls by gamma after more than `patience` epochs without a better one."""
        if operation.watch == "loss":
            value = math.inf if validation.loss is None else validation.loss
            better = self.best is None or value < self.best * (1 - PLATEAU_MARGIN)
        else:
            value = validation.top1
            better = self.best is None or value > self.best * (1 + PLATEAU_MARGIN)
        if better:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited > operation.patience:
            self.factor, self.waited = self.factor * operation.gamma, 0


def lr_factor(operation: Finetune, steps: int, step: int, plateau: float = 1.0) -> float:
    """What lr is multiplied by at a step (from 0); `steps` is those of one epoch, `plateau` the factor of a `Plateau`.

    Cosine falls to 0 at the end. Multi-step and ramp move between epochs, the others with every step.
    """
    total = steps * operation.epochs
    rising = min(1.0, (step + 1) / (operation.warmup * steps)) if operation.warmup else 1.0
    match operation.schedule:
        case "constant":
            return rising
        case "cosine":
            return rising * 0.5 * (1 + math.cos(math.pi * step / total))
        case "multi-step":
            halves = (round(0.5 * operation.epochs), round(0.75 * operation.epochs))
            marks = operation.milestones or [max(1, mark) for mark in halves]
            return rising * operation.gamma ** sum(step >= mark * steps for mark in marks)
        case "one-cycle":
            return rising * one_cycle(step, total)
        case "plateau":
            return rising * plateau
        case "ramp":
            return rising * ramp(step // steps, operation.last)


def one_cycle(step: int, total: int) -> float:
    """From 1/25 up to 1 over the first 30 % of the steps, then down to 1/250,000, along cosines."""
    top, end = CYCLE_UP * total - 1, total - 1
    if step <= top:
        return _cosine(CYCLE_START, 1.0, step / top if top else 1.0)
    return _cosine(1.0, CYCLE_END, (step - top) / (end - top))


def ramp(epoch: int, last: float) -> float:
    """exp(−5(1 − clip(e, .5, 6)/6)²) before epoch 6, 1 up to epoch 20, then linearly to `last` over 10 epochs."""
    if epoch < RAMP_UP:
        return math.exp(-RAMP_SHARPNESS * (1 - max(epoch, RAMP_START) / RAMP_UP) ** 2)
    down = min(max(epoch - RAMP_TURN, 0) / RAMP_DOWN, 1.0)
    return 1.0 - down * (1.0 - last)


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))
