"""Which weights lie on a path from the input to the output: the network is run forward and backward with zeros and ones
in place of numbers, so that nothing can overflow, cancel or underflow.

Effective sparsity: Vysogorets and Kempe 2023, "Connectivity Matters", section 3. They multiply numbers of paths, which
overflow in deep networks; here every product is cut back to 0 or 1.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from labbench.bench.states.state import State, weight_of

WEIGHTED = {"conv1d", "conv2d", "conv3d", "linear"}
SCALED = {"batch_norm": 3, "instance_norm": 3, "layer_norm": 2, "group_norm": 2}
"""Norms, and where their scale stands among the arguments."""
PASSED = frozenset(
    {
        *("relu", "relu_", "relu6", "hardtanh", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "prelu"),
        *(
            "softplus",
            "softsign",
            "sigmoid",
            "hardsigmoid",
            "logsigmoid",
            "hardswish",
            "tanh",
            "softmax",
            "log_softmax",
        ),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
        *("abs", "neg", "div", "true_divide", "__truediv__"),
    }
)
"""Let through what comes in, whatever they make of it."""
SUMS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__", "sub", "sub_", "__sub__", "__isub__", "__rsub__"})
PRODUCTS = frozenset({"mul", "mul_", "__mul__", "__imul__", "__rmul__"})
POOLS: dict[str, Callable[..., Tensor]] = {
    "max_pool1d": F.avg_pool1d,
    "max_pool2d": F.avg_pool2d,
    "max_pool3d": F.avg_pool3d,
    "adaptive_max_pool1d": F.adaptive_avg_pool1d,
    "adaptive_max_pool2d": F.adaptive_avg_pool2d,
    "adaptive_max_pool3d": F.adaptive_avg_pool3d,
}
"""A maximum would let only one of equals through; the mean lets all."""


class Truth(torch.autograd.Function):
    """1 for whatever is not 0, of values on the way forward and of gradients on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return (x != 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Any shape to the same."""
        return (gradients[0] != 0).to(gradients[0].dtype)


class Paths(TorchFunctionMode):
    """Every function of torch as it acts on paths: weights join, activations and norms let through, no bias."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, or what stands for it."""
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        if name in WEIGHTED:
            x, weight, *rest = args
            rest = [None, *rest[1:]] if rest else rest  # the bias
            return _truth(func(_truth(x), weight, *rest, **{**kwargs, **({"bias": None} if "bias" in kwargs else {})}))
        if name in SCALED:
            scale = kwargs.get("weight", args[SCALED[name]] if len(args) > SCALED[name] else None)
            return _scaled(args[0], scale, last=name == "layer_norm")
        if name in PASSED:
            return args[0]
        if name in SUMS | PRODUCTS and len(args) > 1:
            return _joined(args[0], args[1], scaled=name in PRODUCTS)
        if name in POOLS and not kwargs.get("return_indices"):
            return _pooled(name, args, kwargs)
        return func(*args, **kwargs)


def connected(state: State) -> dict[str, Tensor]:
    """Layer → bool tensor of its weight's shape: not zero, and on a path from an input to an output.

    Padding is no input. A norm whose scale is 0 lets nothing through.
    """
    model = copy.deepcopy(state.model).eval()
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        parameter.data = (parameter.data != 0).float()
        parameter.requires_grad_(True)
    with torch.enable_grad(), Paths():
        out = model(torch.ones(1, *state.data.shape, device=state.device))
        _truth(out).sum().backward()
    weights = {layer.name: weight_of(model, layer.name) for layer in state.layers if layer.prunable}
    return {name: _reached(weight) for name, weight in weights.items()}


def _reached(weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        return torch.zeros_like(weight, dtype=torch.bool)
    return (weight.detach() != 0) & (weight.grad != 0)


def _truth(x: Tensor) -> Tensor:
    made: Tensor = Truth.apply(x)
    return made


def _scaled(x: Tensor, scale: Tensor | None, last: bool) -> Tensor:
    if scale is None:
        return _truth(x)
    return _truth(x * (scale if last else scale.view(-1, *[1] * (x.dim() - 2))))


def _joined(one: Any, other: Any, scaled: bool) -> Tensor:
    """A path through either goes on: a gate that is constant is still open. Numbers and parameters begin no path, but
    a parameter that is 0 ends one where it is multiplied."""
    inputs = [x for x in (one, other) if isinstance(x, Tensor) and not isinstance(x, nn.Parameter)]
    parameter = next((x for x in (one, other) if isinstance(x, nn.Parameter)), None)
    if len(inputs) == 2:
        return _truth(inputs[0] + inputs[1])
    if parameter is None or not scaled:
        return inputs[0] if inputs else one
    return inputs[0] * parameter if inputs else parameter


def _pooled(name: str, args: Any, kwargs: Mapping[str, Any]) -> Tensor:
    if name.startswith("adaptive"):
        return POOLS[name](args[0], kwargs.get("output_size", args[1] if len(args) > 1 else None))
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
    return POOLS[name](
        args[0],
        given["kernel_size"],
        given.get("stride") or None,
        given.get("padding", 0),
        ceil_mode=given.get("ceil_mode", False),
    )
