"""What an operation is given beside the state, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from labbench.bench.errors import never
from labbench.bench.pruning.gradients import Gradients, gradients
from labbench.bench.states.opened import Find
from labbench.bench.states.rescue import Rescue
from labbench.bench.states.state import State
from labbench.bench.states.user_model import OwnModels
from labbench.session.events import Metric, Probed, Progress, Sparsity
from labbench.session.measures import Measures, Scanned, Timing
from labbench.session.operations import AnyOperation


def nobody(_: Progress | Metric | Sparsity | Probed) -> None:
    """A callback that ignores events."""


@dataclass(frozen=True)
class Tools:
    """What an operation needs beside the state."""

    data: Find
    """A data set by name and checked options, at least so many pixels high and wide."""
    report: Callable[[Progress | Metric | Sparsity | Probed], None] = nobody
    stopped: Callable[[], bool] = never
    own: OwnModels = field(default_factory=OwnModels)
    """Code of the user's own that may be run; none unless somebody asked for it."""
    gradients: Callable[..., Gradients] = gradients
    """As `loss_gradients.gradients`; a worker remembers the last ones, for a preview is asked for at every key."""
    rescue: Rescue = field(default_factory=Rescue)
    """Where a finetuning leaves what it takes to go on, should it be interrupted; nowhere, unless somebody says so."""


class Applied(NamedTuple):
    """What came of an operation."""

    state: State
    operation: AnyOperation
    """As it was done: doing it again gives the same."""
    remarks: tuple[str, ...] = ()
    measures: Measures | None = None
    """What a look found that changes nothing; so are the next two."""
    scanned: Scanned | None = None
    timings: tuple[Timing, ...] = ()
