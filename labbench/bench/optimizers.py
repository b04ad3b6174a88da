"""What turns gradients into steps."""

import torch
from torch import nn

from labbench.bench.errors import BenchError
from labbench.session.operations import Finetune

BETA_2 = 0.999  # of Adam, Kingma & Ba 2015


def optimizer_of(operation: Finetune, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of an operation over these parameters. Raises `BenchError` for Nesterov without momentum."""
    lr, decay = operation.lr, operation.weight_decay
    match operation.optimizer:
        case "sgd":
            if operation.nesterov and not operation.momentum:
                raise BenchError("nesterov looks along the momentum: give a momentum above 0, or leave nesterov out")
            return torch.optim.SGD(
                parameters, lr, momentum=operation.momentum, weight_decay=decay, nesterov=operation.nesterov
            )
        case "adam":
            return torch.optim.Adam(parameters, lr, betas=(operation.momentum, BETA_2), weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, betas=(operation.momentum, BETA_2), weight_decay=decay)
