"""Trains on the training split."""

from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.bench.training.loop import finetune
from labbench.session.operations import Finetune


def apply(operation: Finetune, state: State, tools: Tools) -> Applied:
    """The state after training."""
    return Applied(*finetune(operation, state, tools.report, tools.stopped, tools.rescue))
