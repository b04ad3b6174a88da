"""One name for all the numbers of a state."""

import hashlib

import torch
from torch import Tensor

from labbench.bench.states.state import State


def fingerprint(state: State) -> str:
    """Hash of every weight and buffer, the masks, the clusters and the frozen names: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    tensors = {
        **state.model.state_dict(),
        **{f"mask {n}": t for n, t in state.masks.items()},
        **{f"clusters {n}": t for n, t in state.clusters.items()},
    }
    for name in sorted(tensors):
        digest.update(name.encode())
        numbers = real_parts(tensors[name].detach()).cpu().reshape(-1)
        digest.update(numbers.view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    digest.update(" ".join(sorted(state.frozen)).encode())
    return digest.hexdigest()


def real_parts(tensor: Tensor) -> Tensor:
    """The real numbers that a tensor holds."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
