"""Lets frozen layers train again."""

from dataclasses import replace

from labbench.bench.errors import BenchError
from labbench.bench.states.chosen_layers import choose, shortened
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import Unfreeze


def apply(operation: Unfreeze, state: State, tools: Tools) -> Applied:
    """The state with fewer names frozen."""
    chosen = choose(state, operation.layers, norms=True)
    names = set(chosen.layers)
    names |= {layer.norm for layer in state.layers if layer.name in names and layer.norm}
    if not names & state.frozen:
        raise BenchError(f"none of these is frozen: {shortened(chosen.layers)}")
    return Applied(replace(state, frozen=state.frozen - names), operation)
