"""Multiply-accumulates of a forward pass by whose weight they are of: of convolutions and linear layers, transposed and
recurrent ones, and of functions that are given a parameter."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
"""Layers that multiply by a weight, which may be computed from parameters."""
WHOLE = (nn.RNNBase, nn.RNNCellBase, nn.Bilinear)
"""Layers that a kernel of their own computes: each weight is used once for each place of the output."""
UNSEEN = (*WHOLE, ParametrizationList)
"""What these multiply is not looked at: it is counted as a whole, or computes a weight, once for all images."""


class Products(TorchDispatchMode):
    """Counts what torch multiplies while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.by_weight: dict[str, int] = {}
        """Multiply-accumulates by the name of a parameter, or of a module that computes its weight from others."""
        self.of_features = 0
        """Multiply-accumulates of features with each other, as in attention."""
        places = {place_of(p): name for name, p in reversed([*model.named_parameters(remove_duplicate=False)])}
        self._parameters = {place: name for place, name in places.items() if place}  # 0 has no place: meta, or empty
        self._names = {module: name for name, module in model.named_modules()}
        self._within: list[nn.Module] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count, and know in the call of which module that has a weight of its own one is."""
        hooks = []
        for module in self._names:
            if isinstance(module, (*UNSEEN, *WEIGHTED)):
                hooks.append(module.register_forward_pre_hook(self._enter))
                hooks.append(module.register_forward_hook(self._leave, always_call=True))
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one kernel for many products
        try:
            with self:
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, _: object) -> None:
        self._within.append(module)

    def _leave(self, module: nn.Module, _: object, out: object) -> None:
        self._within.pop()
        if isinstance(module, WHOLE):
            answer = next(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
            weights = sum(p.numel() for name, p in module.named_parameters() if name.startswith("weight"))
            self._add(self._names[module], answer.numel() // answer.shape[-1] * weights)

    def _add(self, owner: str, macs: int) -> None:
        self.by_weight[owner] = self.by_weight.get(owner, 0) + macs

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, and count it."""
        out = func(*args, **(kwargs or {}))
        formula = MACS.get(getattr(func, "overloadpacket", None))
        if formula is None or (self._within and isinstance(self._within[-1], UNSEEN)):
            return out
        macs = formula(out, *args)
        factors = args[1:3] if func.overloadpacket in BIASED else args[:2]
        owner = next((name for factor in factors if (name := self._parameters.get(place_of(factor)))), None)
        if owner or self._within:
            self._add(owner or self._names[self._within[-1]], macs)
        else:
            self.of_features += macs
        return out


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    transposed = rest[4]
    return (x if transposed else out).numel() * math.prod(weight.shape[1:])


def _attention(out: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    return query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


aten = torch.ops.aten
MACS: dict[Any, Callable[..., int]] = {
    aten.mm: lambda out, one, other: out.numel() * one.shape[-1],
    aten.bmm: lambda out, one, other: out.numel() * one.shape[-1],
    aten.mv: lambda out, one, other: one.numel(),
    aten.addmm: lambda out, bias, one, other: out.numel() * one.shape[-1],
    aten.baddbmm: lambda out, bias, one, other: out.numel() * one.shape[-1],
    aten.addmv: lambda out, bias, one, other: one.numel(),
    aten.linear: lambda out, x, weight, *_: out.numel() * x.shape[-1],
    aten.convolution: _convolution,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
}
"""By what is called: multiply-accumulates of its answer and of what it was given. `torch.utils.flop_counter` has the
same figures, but imports a compiler, for as long as half of torch."""
BIASED = (aten.addmm, aten.baddbmm, aten.addmv)
"""What comes first here is added, not multiplied."""


def place_of(tensor: Tensor) -> int:
    """Where the numbers of a tensor lie: the same for all its views."""
    return tensor.untyped_storage().data_ptr()
