"""Sets a task: its goals must be such as can be checked."""

from labbench.bench.errors import BenchError
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.goals import goals_of
from labbench.session.operations import Task


def apply(operation: Task, state: State, tools: Tools) -> Applied:
    """The same state. Raises `BenchError` for a goal that means nothing."""
    try:
        goals_of(operation)
    except ValueError as error:
        raise BenchError(str(error)) from None
    return Applied(state, operation)
