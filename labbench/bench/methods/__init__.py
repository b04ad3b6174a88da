"""What is removed first. A method is a module with a `GRANULARITY` and one function, whose keyword-only arguments are
its knobs. Adding one: a file, a line here, a test of what is special about it.

"weight": `select` chooses as many weights as it is told to, or, with `OWN_TARGET`, `below` all that its own rule means.
"filter": `score` ranks the coupled channels, or `keep` names those that stay. With `NEEDS_GRADIENTS` the weights that
`score` finds in the group are replaced by what `salience` makes of each weight and its gradients.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from labbench.bench.methods import (
    bn_scale,
    fpgm,
    group_magnitude,
    hessian,
    kmeans,
    lamp,
    magnitude,
    n_m,
    percentile,
    random,
    random_filters,
    std_ratio,
    taylor,
    threshold,
)

METHODS: dict[str, ModuleType] = {
    "magnitude": magnitude,
    "random": random,
    "threshold": threshold,
    "std-ratio": std_ratio,
    "percentile": percentile,
    "n-m": n_m,
    "group-magnitude": group_magnitude,
    "bn-scale": bn_scale,
    "lamp": lamp,
    "fpgm": fpgm,
    "taylor": taylor,
    "hessian": hessian,
    "kmeans": kmeans,
    "random-filters": random_filters,
}


def function_of(method: ModuleType) -> Callable[..., Any]:
    """The function of a method that has its docstring and its knobs."""
    return next(getattr(method, name) for name in ("select", "below", "score", "keep") if hasattr(method, name))


def has_own_target(method: ModuleType) -> bool:
    """Whether it goes by a rule of its own instead of an amount."""
    return bool(getattr(method, "OWN_TARGET", False))


def needs_gradients(method: ModuleType) -> bool:
    """Whether it looks at the gradients of the training loss."""
    return bool(getattr(method, "NEEDS_GRADIENTS", False))
