"""What pulls tensors towards zero, or towards a form that prunes well, while they train. A regularizer has `penalty`:
one tensor in, one number out. Adding one: a file, a line here, a test of what is special about it.

`TENSORS` says which tensors it is for: "weights" (any), "filters" (out × in × …) or "scales" (of batch norms). Of an
all-zero tensor every penalty and its gradient are 0.
"""

from types import ModuleType

from labbench.bench.regularizers import (
    bn_l1,
    group_hoyer,
    group_hoyer_square,
    group_lasso,
    hoyer,
    hoyer_square,
    l1,
    transformed_l1,
    unit_norm,
)

REGULARIZERS: dict[str, ModuleType] = {
    "l1": l1,
    "hoyer": hoyer,
    "hoyer-square": hoyer_square,
    "transformed-l1": transformed_l1,
    "group-lasso": group_lasso,
    "group-hoyer": group_hoyer,
    "group-hoyer-square": group_hoyer_square,
    "bn-l1": bn_l1,
    "unit-norm": unit_norm,
}
