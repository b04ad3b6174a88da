"""Times the forward pass against the model as it was opened."""

from labbench.bench.measuring.latency import timed, timing_remarks
from labbench.bench.states.opened import fresh
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import Time


def apply(operation: Time, state: State, tools: Tools) -> Applied:
    """The same state, and how long each batch size takes."""
    loaded = fresh(state.load, tools.data, tools.own).model
    timings = timed(operation, state, loaded, tools.report, tools.stopped)
    return Applied(state, operation, timing_remarks(state, timings), timings=timings)
