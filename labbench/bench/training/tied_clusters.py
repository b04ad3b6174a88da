"""What keeps the members of a cluster equal while they train."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labbench.bench.training.forwards import compute_by, has_own_forward
from labbench.bench.vectors.centroids import centroids

UNIQUE_CHANNELS = 64  # narrower convolutions are not faster with fewer filters: what follows costs as much
UNIQUE_SHARE = 0.5  # nor are those with more distinct filters than this part of all


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


def compute_unique(conv: nn.Module, labels: Tensor, mask: Tensor | None) -> bool:
    """Let a convolution in training compute each distinct filter once and copy its answer; whether that is done.

    The gradient of a cluster then lies with its first member, as a sum: its mean over the members is the same as ever.
    Only for wide 2-D convolutions of whole clustered filters, of which the members are equal and pruned alike.
    """
    if type(conv) is not nn.Conv2d or conv.groups > 1 or conv.padding_mode != "zeros" or labels.dim() > 1:
        return False
    if has_own_forward(conv):
        return False
    members, clusters = (labels[:, None] == labels).int().argmax(1).unique(return_inverse=True)
    if len(labels) < UNIQUE_CHANNELS or len(members) > UNIQUE_SHARE * len(labels):
        return False
    first = members[clusters]
    if not torch.equal(conv.weight, conv.weight[first]) or (mask is not None and not torch.equal(mask, mask[first])):
        return False
    copies = F.one_hot(clusters, len(members)).to(conv.weight.dtype)[:, :, None, None]
    compute_by(conv, _unique_forward, conv, members, copies)
    return True


def _unique_forward(conv: nn.Conv2d, members: Tensor, copies: Tensor, x: Tensor) -> Tensor:
    if not conv.training:
        return nn.Conv2d.forward(conv, x)
    out = F.conv2d(x, conv.weight[members], None, conv.stride, conv.padding, conv.dilation)
    return F.conv2d(out, copies, conv.bias)


def first_alike(labels: Tensor) -> Tensor:
    """For each entry the row of the first one in its cluster; each column has clusters of its own."""
    rows = torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels)
    firsts = torch.full((int(labels.max()) + 1, labels.shape[1]), len(labels), device=labels.device)
    return firsts.scatter_reduce_(0, labels, rows, "amin").gather(0, labels)
