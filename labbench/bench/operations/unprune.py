"""Lets pruned weights train again."""

from dataclasses import replace

import torch

from labbench.bench.errors import BenchError
from labbench.bench.states.chosen_layers import choose, shortened
from labbench.bench.states.state import State, weight_of
from labbench.bench.tools import Applied, Tools
from labbench.session.check import listed
from labbench.session.operations import Unprune


def apply(operation: Unprune, state: State, tools: Tools) -> Applied:
    """The state without the masks of these layers: their zeros are ordinary values, or what they last were."""
    chosen = choose(state, operation.layers)
    masked = [name for name in chosen.layers if name in state.masks]
    if not masked:
        raise BenchError(f"no pruned weights in {listed(operation.layers)}: nothing there is held at zero")
    masks = {name: mask for name, mask in state.masks.items() if name not in masked}
    values = {name: value for name, value in state.values.items() if name not in masked}
    made = replace(state, masks=masks, values=values, last={**state.last, **dict.fromkeys(masked, "unpruned")})
    if operation.begin == "zero":
        return Applied(made, operation)
    lost = [name for name in masked if name not in state.values]
    if lost:
        raise BenchError(f"the last values of {shortened(lost)} are not known: the mask came with the weights")
    frozen = [name for name in masked if name in state.frozen]
    if frozen:
        raise BenchError(f"cannot change the weights of {shortened(frozen)}: frozen; unfreeze first, or leave it out")
    model = state.copy_model()
    with torch.no_grad():
        for name in masked:
            weight_of(model, name).copy_(torch.where(state.masks[name], state.weight(name), state.values[name]))
    clusters = {name: labels for name, labels in state.clusters.items() if name not in masked}
    untied = [name for name in masked if name in state.clusters]
    remarks = (f"no longer clustered, because single weights came back: {shortened(untied)}",) if untied else ()
    return Applied(replace(made, model=model, clusters=clusters, accuracy={}), operation, remarks)
