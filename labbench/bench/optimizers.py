"""What turns gradients into steps."""

import torch
from torch import nn

from labbench.bench.errors import BenchError
from labbench.session.operations import Finetune

BETA_2 = 0.999  # of Adam, Kingma & Ba 2015


def optimizer_of(operation: Finetune, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of an operation over these parameters. Raises `BenchError` for Nesterov without momentum."""
    lr, decay, betas = operation.lr, operation.weight_decay, (operation.momentum, BETA_2)
    fused = True if operation.engine == "fast" else None  # one pass over each tensor instead of four
    match operation.optimizer:
        case "sgd":
            if operation.nesterov and not operation.momentum:
                raise BenchError("nesterov looks along the momentum: give a momentum above 0, or leave nesterov out")
            momentum, nesterov = operation.momentum, operation.nesterov
            return torch.optim.SGD(
                parameters, lr, momentum=momentum, weight_decay=decay, nesterov=nesterov, fused=fused
            )
        case "adam":
            return torch.optim.Adam(parameters, lr, betas=betas, weight_decay=decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, betas=betas, weight_decay=decay, fused=fused)
