"""What keeps the members of a cluster equal while they train."""

import torch
from torch import Tensor, nn

from labbench.bench.centroids import centroids


class Tie:
    """One weight whose clusters train as one: they share one gradient, the mean, and one value, the first."""

    def __init__(self, weight: nn.Parameter, labels: Tensor) -> None:
        """`labels` on the weight's device: the cluster of each filter, or, in the weight's shape, of each entry."""
        self.weight = weight
        self._entries = labels.flatten(1) if labels.dim() > 1 else None
        if self._entries is None:
            alike = labels[:, None] == labels
            self._mean = alike.to(weight.dtype) / alike.sum(1, keepdim=True)
            self._first = alike.int().argmax(1)
        else:
            self._first = first_alike(self._entries)

    def share_gradient(self) -> None:
        """Give every member the mean gradient of its cluster."""
        gradient = self.weight.grad
        if gradient is None:
            return
        rows = gradient.flatten(1)
        shared = self._mean @ rows if self._entries is None else centroids(rows, self._entries)
        gradient.copy_(shared.view_as(gradient))

    def hold(self) -> None:
        """Make members equal to the last bit, however the optimizer rounds. Without gradients."""
        if self._entries is None:
            self.weight.copy_(self.weight[self._first])
        else:
            self.weight.copy_(self.weight.flatten(1).gather(0, self._first).view_as(self.weight))


def first_alike(labels: Tensor) -> Tensor:
    """For each entry the row of the first one in its cluster; each column has clusters of its own."""
    rows = torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels)
    firsts = torch.full((int(labels.max()) + 1, labels.shape[1]), len(labels), device=labels.device)
    return firsts.scatter_reduce_(0, labels, rows, "amin").gather(0, labels)
