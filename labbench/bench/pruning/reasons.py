"""Why channels cannot be removed one by one, in words: what the operations on their way do to them."""

import re
from collections.abc import Iterable
from typing import Any

import torch_pruning as tp

PADDED = "the channels run on into wider ones, through a shortcut that pads with zeros"
UNKNOWN = "its channels are split, or meet others in a way that is not traced"
SPLIT = "a split"
PICK = "a pick of channels by number"
PRODUCT = "a product of channels with each other"

WORDS = {
    "pixelshuffle": "a pixel shuffle",
    "pixelunshuffle": "a pixel unshuffle",
    "nativechannelshuffle": "a channel shuffle",
    "glu": "a gated linear unit, which pairs them",
    "softmax": "a softmax over channels",
    "logsoftmax": "a softmax over channels",
    "flip": "a reversal of their order",
    "roll": "a shift of channels",
    "cumsum": "a running sum over channels",
    "cumprod": "a running product over channels",
    "sort": "a sorting of channels",
    "topk": "a pick of the largest",
    "index": PICK,
    "indexselect": PICK,
    "gather": PICK,
    "select": PICK,
    "copyslices": "a part that is written over by number",
    "mean": "a mean over channels",
    "sum": "a sum over channels",
    "prod": "a product over channels",
    "amax": "a maximum over channels",
    "amin": "a minimum over channels",
    "max": "a maximum over channels",
    "min": "a minimum over channels",
    "std": "a deviation over channels",
    "var": "a variance over channels",
    "norm": "a norm over channels",
    "linalgvectornorm": "a norm over channels",
    "avgpool3d": "a norm over neighboring channels",
    "nativelayernorm": "a norm over channels",
    "nativegroupnorm": "a norm over channels",
    "fusedrmsnorm": "a norm over channels",
    "bmm": PRODUCT,
    "baddbmm": PRODUCT,
    "bilinear": PRODUCT,
    "convolution": "a convolution whose weight belongs to no layer",
}
"""An operation, as autograd calls it, and what it is where it works along the channels."""


def on_the_way(nodes: Iterable[Any]) -> str:
    """What lies on the way of the channels that reach these nodes of the graph, for a sentence; empty for nothing."""
    nodes = tuple(nodes)
    words = list(dict.fromkeys(words for words in map(_words, nodes) if words))
    if words:
        return f"the channels pass through {' and '.join(words)}"
    padded = any(_name(node) == "constantpadnd" and _over_channels(node.grad_fn) for node in nodes)
    return PADDED if padded else ""


def _words(node: Any) -> str:
    if node.type in (tp.ops.OPTYPE.SPLIT, tp.ops.OPTYPE.SLICE, tp.ops.OPTYPE.UNBIND):
        words = SPLIT
    elif node.type == tp.ops.OPTYPE.ELEMENTWISE:
        name = _name(node)
        words = PRODUCT if name.startswith("scaleddotproduct") else WORDS.get(name, "")
    else:
        words = ""
    return words if words and _over_channels(node.grad_fn) else ""


def _name(node: Any) -> str:
    name = node.grad_fn.name() if hasattr(node.grad_fn, "name") else ""
    return re.sub(r"backward\d*$", "", name.lower())


def _over_channels(grad_fn: Any) -> bool:
    """Whether an operation works along the dimension of the channels, as far as it tells."""
    if hasattr(grad_fn, "_saved_pad"):
        return any(grad_fn._saved_pad[4:6])
    if hasattr(grad_fn, "_saved_indices"):
        return any(index is not None for index in grad_fn._saved_indices[1:2])
    dims = getattr(grad_fn, "_saved_dim", getattr(grad_fn, "_saved_dims", None))
    if dims is None:
        return True
    dims = dims if isinstance(dims, tuple | list) else [dims]
    rank = _rank(grad_fn)
    return rank != 3 and any((dim - 2**64 if dim >= 2**63 else dim) in (1, 1 - rank) for dim in dims)


def _rank(grad_fn: Any) -> int:
    """Dimensions of what an operation was given; those of images where it does not tell."""
    saved = getattr(grad_fn, "_saved_self", getattr(grad_fn, "_saved_result", None))
    return len(getattr(grad_fn, "_saved_self_sym_sizes", getattr(saved, "shape", range(4))))
