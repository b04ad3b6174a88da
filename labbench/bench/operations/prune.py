"""Removes weights, which are held at zero, or filters, which are cut out."""

from dataclasses import replace

from labbench.bench.errors import BenchError, NothingLeft
from labbench.bench.methods import needs_gradients
from labbench.bench.pruning import filters, weights
from labbench.bench.states.chosen_layers import checked_options, choose_unfrozen
from labbench.bench.states.state import State
from labbench.bench.threads import one_thread
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import Prune


def apply(operation: Prune, state: State, tools: Tools) -> Applied:
    """The state with weights held at zero, or with filters cut out, as the method's granularity says."""
    method = weights.method_of(operation)
    chosen = choose_unfrozen(state, operation.layers, "prune")
    found = None
    if operation.filters and method.GRANULARITY == "weight":
        raise BenchError(f"filters names whole filters: {operation.method} takes single weights, so leave it out")
    if needs_gradients(method) and not operation.filters:
        options = checked_options(method.score, operation.options, operation.method)
        found = tools.gradients(state, options["batches"], operation.seed, tools.report, tools.stopped)
    try:
        with one_thread():
            if method.GRANULARITY == "weight":
                made, remarks = weights.zero(operation, state, chosen)
            else:
                made, operation, remarks = filters.cut(operation, state, chosen, found, tools.report, tools.stopped)
    except NothingLeft as error:
        if not operation.lenient:
            raise
        return Applied(replace(state), operation, (f"nothing changed: {error}",))
    return Applied(made, operation, remarks)
