"""A recording on the screen: the events that its player gives become a session again."""

from labbench.client import Player
from labbench.session.events import AnyEvent, Finished, Started
from labbench.session.operations import Load
from labbench.session.session import Session
from labbench.tui.situation import Playing, Situation
from labbench.tui.widgets.columns import Changes, changed


class Playback:
    """One recording, as far as it was played."""

    def __init__(self, recording: Session, name: str = "") -> None:
        """`name` is that of the file."""
        self._name = name or recording.title
        self.player = Player(recording)
        self.session = Session(recording.title)
        self.fresh: Changes = frozenset()
        """Cells that the last operation changed."""

    @property
    def situation(self) -> Situation:
        """What the screen may know beside the session."""
        player = self.player
        playing = Playing(player.position, len(player.recording.events), player.speed, player.paused, player.ended)
        return Situation(
            worker="ready",
            running=type(self.session.running).__name__.lower() if self.session.running else "",
            model=self.session.snapshot is not None,
            file=self._name,
            playing=playing,
        )

    def take(self, event: AnyEvent) -> None:
        """One event of the recording, the one at the player's position."""
        self._append(self.player.recording.events[self.player.position - 1][0], event)

    def forward(self) -> None:
        """To the end of the next operation."""
        start = self.player.position
        self.player.step()
        for seconds, event in self.player.recording.events[start : self.player.position]:
            self._append(seconds, event)

    def back(self) -> None:
        """To before the last operation."""
        self.session, self.fresh = self.player.back(), frozenset()

    def _append(self, seconds: float, event: AnyEvent) -> None:
        before = self.session.snapshot
        self.session.append(seconds, event)
        if isinstance(event, Started):
            self.fresh = frozenset()
        elif isinstance(event, Finished) and not isinstance(event.operation, Load):
            self.fresh = changed(before, event.snapshot)
