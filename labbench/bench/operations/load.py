"""Opens a model on a data set."""

from labbench.bench.states.opened import load
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.operations import Load


def apply(operation: Load, state: State | None, tools: Tools) -> Applied:
    """A new state, whatever was open before."""
    return Applied(*load(operation, tools.data, tools.own))
