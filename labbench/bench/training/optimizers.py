"""What turns gradients into steps."""

import torch
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.session.operations import Finetune

BETA_2 = 0.999  # of Adam, Kingma & Ba 2015


def optimizer_of(operation: Finetune, parameters: list[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of an operation over these parameters. Raises `BenchError` for Nesterov without momentum.

    The fast engine goes through each tensor once; on a GPU its learning rate is a tensor, which a CUDA graph can read.
    """
    fast = operation.engine == "fast"
    captured = fast and device.type == "cuda"
    lr: float | Tensor = torch.tensor(operation.lr, device=device) if captured else operation.lr
    momentum, decay = operation.momentum, operation.weight_decay
    fused = True if fast else None
    match operation.optimizer:
        case "sgd":
            if operation.nesterov and not momentum:
                raise BenchError("nesterov looks along the momentum: give a momentum above 0, or leave nesterov out")
            return torch.optim.SGD(
                parameters, lr, momentum=momentum, weight_decay=decay, nesterov=operation.nesterov, fused=fused
            )
        case "adam" | "adamw":
            kind = torch.optim.Adam if operation.optimizer == "adam" else torch.optim.AdamW
            betas = momentum, BETA_2
            return kind(parameters, lr, betas=betas, weight_decay=decay, fused=fused, capturable=captured)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step; in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
