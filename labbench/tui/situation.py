"""What the bench screen may know beside the session: where the worker stands, what runs, what is open."""

from typing import Literal

from msgspec import Struct

from labbench.session.events import Progress
from labbench.session.operations import Note
from labbench.session.predictions import Verdict

Worker = Literal["starting", "ready", "restoring", "unrestored", "gone"]
"""unrestored: it is there, but could not be brought to where the session is."""


class Playing(Struct, frozen=True):
    """Where a player stands in its recording."""

    position: int
    total: int
    speed: float
    paused: bool
    ended: bool
    step: int = 0
    """Operations that were finished so far."""
    steps: int = 0
    """In the whole recording."""
    chapter: int = 0
    """From 1; 0 before the first."""
    chapters: int = 0
    told: Note | tuple[Verdict, ...] | None = None
    """What the audience is told in large: the note just reached, or what came of its predictions."""
    guesses: tuple[float, ...] = ()
    """What was predicted when that note asked before."""


class Situation(Struct, frozen=True):
    """Decides which keys work now, and why the others do not."""

    worker: Worker = "starting"
    running: str = ""
    """Name of the operation that runs or was sent, or ""."""
    model: bool = False
    undo: bool = False
    redo: bool = False
    recipe: str = ""
    """The recipe's next step in words, or "" where there is none."""
    file: str = ""
    """Name of the session file; "" until something is recorded."""
    recording: bool = False
    """Whether what happens is being written."""
    held: str = ""
    """Who else has this session open, in words: it can only be looked at then. "" where it is this one's."""
    restoring: Progress | None = None
    """How far the worker is in standing where the session is."""
    playing: Playing | None = None
    """Set in a player, which has no worker."""
    silent: float = 0.0
    """Seconds for which nothing was heard of the worker, once that is too long; else 0."""
    stopping: bool = False
    """Whether what runs was asked to stop."""
    clock: str = ""
    """The presenter's clock in words, or "" where it is hidden."""
