"""The one function that makes a new state from an operation. It checks before it acts and never changes the state it
was given; undo, redo and jump go over states and belong to the timeline."""

import importlib.util
from dataclasses import replace

from labbench.bench.errors import BenchError, listening
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import Annotation, AnyOperation, Change, Cluster, Finetune, Load, Prune, Walk


def apply(operation: AnyOperation, state: State | None, tools: Tools) -> Applied:
    """Do an operation. Raises `BenchError` where it cannot be done, `Stopped` where nothing of it is worth keeping."""
    if state is None and not isinstance(operation, Load):
        raise BenchError("no model is open: load one first")
    if isinstance(operation, Walk):
        raise BenchError(f"{operation.describe()} goes over the timeline; there is no state to apply it to")
    with listening(tools.stopped):
        applied = _do(operation, state, tools)
    made = applied.state
    if isinstance(operation, Prune | Cluster) and state:
        made = replace(made, dense=state.dense or state)
    if isinstance(operation, Change) and not isinstance(operation, Finetune):
        made = replace(made, paused=None)
    return applied._replace(state=made)


def _do(operation: AnyOperation, state: State | None, tools: Tools) -> Applied:
    """What the file of the operation does. An annotation may go without one."""
    name = f"labbench.bench.operations.{type(operation).__name__.lower()}"
    if isinstance(operation, Annotation) and state and importlib.util.find_spec(name) is None:
        return Applied(state, operation)
    applied: Applied = importlib.import_module(name).apply(operation, state, tools)
    return applied
