"""The presenter's clock: how long the presentation has lasted, pauses and questions too, and the time of day."""

from datetime import datetime
from time import monotonic

from labbench.tui.words import clock


class PresenterClock:
    """Runs from its making; hidden until it is asked for."""

    def __init__(self) -> None:
        self.shown = False
        self._began = monotonic()
        self._told = ""

    @property
    def words(self) -> str:
        """ "12:34 · 15:07", or "" where it is hidden."""
        if not self.shown:
            return ""
        return f"{clock(monotonic() - self._began)} · {datetime.now():%H:%M}"

    def moved(self) -> bool:
        """Whether the words are others than the last time."""
        before, self._told = self._told, self.words
        return before != self._told
