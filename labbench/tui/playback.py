"""A recording on the screen: the events that its player gives become a session again."""

from labbench.client import Player
from labbench.session.chapters import chapter_at, chapters
from labbench.session.events import AnyEvent, Finished, Started
from labbench.session.operations import Load, Note
from labbench.session.predictions import Verdict, verdicts
from labbench.session.session import Session
from labbench.tui.situation import Playing, Situation
from labbench.tui.widgets.columns import Changes, changed


class Playback:
    """One recording, as far as it was played, and what its audience predicted."""

    def __init__(self, recording: Session, name: str = "") -> None:
        """`name` is that of the file."""
        self.name = name or recording.title or "recording"
        self.player = Player(recording)
        self.session = Session(recording.title)
        self.fresh: Changes = frozenset()
        """Cells that the last operation changed."""
        self.chapters = chapters(recording)
        self.furthest = 0
        """The last step that the audience has seen; what lies behind it is ahead."""
        self.guessed: dict[int, tuple[float, ...]] = {}
        """The guesses that were made, by the number of the note that asked; they are nowhere else."""

    @property
    def situation(self) -> Situation:
        """What the screen may know beside the session."""
        player, step = self.player, len(self.session.steps)
        playing = Playing(
            player.position,
            len(player.recording.events),
            player.speed,
            player.paused,
            player.ended,
            step=step,
            steps=len(player.recording.steps),
            chapter=chapter_at(self.chapters, step),
            chapters=len(self.chapters),
            told=self.told,
            guesses=self.guessed.get(step, ()),
        )
        return Situation(
            worker="ready",
            running=type(self.session.running).__name__.lower() if self.session.running else "",
            model=self.session.snapshot is not None,
            file=self.name,
            playing=playing,
        )

    @property
    def told(self) -> Note | tuple[Verdict, ...] | None:
        """What the audience is told in large: the note that was just reached, or what came of its predictions."""
        if self.session.running or not self.session.steps:
            return None
        operation = self.session.steps[-1].operation
        if isinstance(operation, Note):
            return operation
        return verdicts(self.session, self.guessed) or None

    def take(self, event: AnyEvent) -> None:
        """One event of the recording, the one at the player's position."""
        self._append(self.player.recording.events[self.player.position - 1][0], event)
        if self.player.pausing and self.told:
            self.player.pause()

    def guess(self, guesses: tuple[float, ...]) -> None:
        """Keep what the audience answers to the note that was just reached."""
        self.guessed[len(self.session.steps)] = guesses

    def forward(self) -> None:
        """To the end of the next operation."""
        start = self.player.position
        self.player.step()
        for seconds, event in self.player.recording.events[start : self.player.position]:
            self._append(seconds, event)

    def back(self) -> None:
        """To before the last operation."""
        self.session, self.fresh = self.player.back(), frozenset()

    def go(self, step: int) -> None:
        """To the end of an operation by its number, forward or back; 0 is the beginning."""
        self.session, self.fresh = self.player.go(step), frozenset()
        self.furthest = max(self.furthest, step)

    def _append(self, seconds: float, event: AnyEvent) -> None:
        before = self.session.snapshot
        self.session.append(seconds, event)
        self.furthest = max(self.furthest, len(self.session.steps))
        if isinstance(event, Started):
            self.fresh = frozenset()
        elif isinstance(event, Finished) and not isinstance(event.operation, Load):
            self.fresh = changed(before, event.snapshot)
