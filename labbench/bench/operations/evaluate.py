"""Measures accuracy on a split."""

from labbench.bench.measuring.accuracy import measured
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import Evaluate


def apply(operation: Evaluate, state: State, tools: Tools) -> Applied:
    """The state with its figures on that split."""
    return Applied(measured(state, operation.split, tools.report, tools.stopped), operation)
