"""What a player tells its audience in large: the note that was reached, the question it asks, and what came of the
predictions. Words of a file are Markdown in which nothing acts."""

from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from labbench.printable import printable, printable_lines
from labbench.session.check import BadInput
from labbench.session.operations import Note
from labbench.session.predictions import PERCENT, Verdict, parse
from labbench.session.prose import modest, parser
from labbench.tui.digits import draw, height, largest
from labbench.tui.situation import Playing
from labbench.tui.words import count, rate

SHARE, SHARE_BESIDE = 0.6, 0.45  # of the screen's rows at most: the rest is the bench, or, with the second, big figures
LINES = 60  # of a note, more than there is room for: the reader has them all
NAMES = {"accuracy": "accuracy", "sparsity": "sparsity", "parameters": "parameters that are not zero", "macs": "MACs"}


class Guess(Input):
    """A line for numbers. No other letter is typed, and none acts: who guesses does not know the player's keys.
    Space and arrows mean the player while the line is empty; escape leaves it."""

    LETTERS: ClassVar[str] = "0123456789.,;%kKMmGg "
    PASSED: ClassVar[tuple[str, ...]] = ("pause", "forward", "back")
    """The player's actions whose keys act while the line is empty."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False),
        Binding("up,down,pageup,pagedown", "leave", "Leave", show=False),
    ]

    class Left(Message):
        """No answer, for now."""

    class Refused(Message):
        """A letter that no number has."""

    class Passed(Message):
        """Space or an arrow in an empty line means the player."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    async def _on_key(self, event: events.Key) -> None:
        letter = event.character or ""
        if not event.is_printable or (letter in self.LETTERS and (self.value or letter != " ")):
            return  # Input types it, or does what the key is bound to
        event.prevent_default()
        event.stop()
        self.post_message(self.Passed("pause") if letter == " " else self.Refused())

    def action_cursor_right(self, select: bool = False) -> None:
        """Within the text; without any, the next step."""
        if self.value:
            super().action_cursor_right(select)
        else:
            self.post_message(self.Passed("forward"))

    def action_cursor_left(self, select: bool = False) -> None:
        """Within the text; without any, the previous step."""
        if self.value:
            super().action_cursor_left(select)
        else:
            self.post_message(self.Passed("back"))

    def action_leave(self) -> None:
        """Back to the bench."""
        self.post_message(self.Left())


class Card(Vertical):
    """Hidden unless there is something to tell."""

    DEFAULT_CSS = """
    Card {
        height: auto; display: none; padding: 0 1; background: $surface;
        border: heavy $primary; border-title-color: $foreground; border-title-style: bold;
        border-subtitle-color: $text-muted;
    }
    Card #words { height: auto; scrollbar-size-vertical: 1; }
    Card Markdown { padding: 0 1; max-width: 100; }
    Card Markdown MarkdownH1 { content-align: left middle; }
    Card Markdown > *:first-child { margin-top: 0; }
    Card Markdown > *:last-child { margin-bottom: 0; }
    Card #question { height: auto; padding: 0 1; text-style: bold; max-width: 102; }
    Card #line { height: auto; padding: 0 1; }
    Card Guess { width: 1fr; max-width: 60; margin: 0 1; }
    Card #advice { height: auto; padding: 0 1; color: $text-muted; }
    Card #verdict { height: auto; padding: 0 1; }
    """

    class Guessed(Message):
        """The audience predicts this; nothing, if the question is skipped."""

        def __init__(self, guesses: tuple[float, ...]) -> None:
            super().__init__()
            self.guesses = guesses

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.asking = False
        """Whether a question waits for an answer."""
        self._told: Note | tuple[Verdict, ...] | None = None
        self._shown: object = None
        self._question = Static("", id="question", markup=False)
        self._guess = Guess(id="guess", compact=True)
        self._advice = Static("", id="advice", markup=False)
        self._verdict = Static("", id="verdict", markup=False)
        self._words = VerticalScroll(id="words", can_focus=False)

    def compose(self) -> ComposeResult:
        """The words, the question, the line for the answer, the verdict."""
        yield self._words
        yield self._question
        yield self._guess
        yield self._advice
        yield self._verdict

    @property
    def told(self) -> bool:
        """Whether anything is told."""
        return self._told is not None

    def show(self, playing: Playing, title: str) -> None:
        """Tell what there is to tell where a player stands; it asks only while it is paused."""
        told = playing.told
        asking = isinstance(told, Note) and bool(told.ask) and playing.paused
        now = (told, playing.step, asking, playing.guesses)
        if now == self._shown:
            return
        self._shown = now
        self._told, self.asking = told, asking
        had = self._guess.has_focus
        self.display = told is not None
        note = told if isinstance(told, Note) else None
        self._words.display = note is not None
        self._verdict.display = isinstance(told, tuple)
        self._question.display = note is not None and bool(note.ask)
        self._guess.display = self._advice.display = asking
        self.border_title = Content(printable(title))
        if note:
            self._tell(note, playing.guesses)
        elif told:
            assert isinstance(told, tuple)
            self._judge()
        if had and not asking:
            self.post_message(Guess.Left())
        self.call_after_refresh(self._fit)

    def _tell(self, note: Note, guesses: tuple[float, ...]) -> None:
        self._words.remove_children()
        self._words.mount(worded("\n".join(note.text.splitlines()[:LINES])))
        self._words.scroll_home(animate=False)
        predicted = ", ".join(written(guess, note.figure) for guess in guesses)
        answered = f"   predicted: {predicted}" if predicted and not self.asking else ""
        self._question.update(Content(f"? {printable(note.ask)}{answered}"))
        if self.asking:
            self._guess.value = predicted
            self._guess.cursor_position = len(self._guess.value)
            self._advise()
            self._guess.focus()

    def _advise(self, problem: str = "") -> None:
        assert isinstance(self._told, Note)
        name = NAMES[self._told.figure]
        kind = f"{name} in %, such as 92.5" if self._told.figure in PERCENT else f"{name}, such as 250k or 1.2M"
        self._advice.update(Content(problem or f"{kind}; several with commas"))

    @property
    def _share(self) -> int:
        return round(self.screen.size.height * (SHARE_BESIDE if self.screen.has_class("-big") else SHARE))

    def _judge(self) -> None:
        if isinstance(self._told, tuple):
            rows = max(self._share - self.gutter.height, 4)
            columns = max(self.screen.size.width - self.gutter.width - 2, 20)
            self._verdict.update(verdict_text(self._told, columns, rows))

    def _fit(self) -> None:
        """Give the words what the question leaves of the share."""
        if not self.display:
            return
        limit = max(self._share, 6) - self.gutter.height
        others = sum(one.outer_size.height for one in (self._question, self._guess, self._advice) if one.display)
        self._words.styles.max_height = max(limit - others, 1)
        self.call_after_refresh(self._remark)

    def _remark(self) -> None:
        longer = self._words.display and self._words.max_scroll_y > 0
        answer = "⏎ answers · empty skips" if self.asking else "space goes on"
        self.border_subtitle = Content(f"⏎ reads it all · {answer}" if longer and not self.asking else answer)

    def on_resize(self) -> None:
        """Another size, another share."""
        self.fit()

    def fit(self) -> None:
        """Take no more room than there is."""
        self._judge()
        self.call_after_refresh(self._fit)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if not isinstance(self._told, Note):
            return
        try:
            guesses = parse(event.value, self._told.figure)
        except BadInput as error:
            self._advise(f"✗ {error}")
        else:
            self.post_message(self.Guessed(guesses))

    @on(Guess.Refused)
    def _refused(self, event: Guess.Refused) -> None:
        event.stop()
        self._advise("✗ only numbers are typed here; after esc letters are keys again")

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.asking:
            self._advise()


def worded(text: str) -> Widget:
    """A widget for the words of a note: Markdown, or, where that would be too many widgets, as they stand.

    Markdown is imported when the first note is there: the first picture needs none."""
    from textual.widgets import Markdown

    if not modest(text):
        return Static(printable_lines(text), markup=False)
    return Markdown(printable_lines(text), parser_factory=parser, open_links=False)


def written(value: float, figure: str) -> str:
    """A figure as people write it: "92.5 %", "262,233"."""
    return f"{100 * value:.4g} %" if figure in PERCENT else f"{value:.0f}"


def told(value: float, figure: str) -> str:
    """A figure as people read it."""
    return f"{rate(value)} %" if figure in PERCENT else count(round(value))


def difference(guess: float, actual: float, figure: str) -> str:
    """How far a guess is off, in words."""
    off = guess - actual
    if told(guess, figure) == told(actual, figure):
        return "exactly"
    size = f"{100 * abs(off):.1f} points" if figure in PERCENT else count(round(abs(off)))
    return f"{size} too {'high' if off > 0 else 'low'}"


def verdict_text(found: tuple[Verdict, ...], width: int, rows: int) -> Text:
    """Question, the actual figure in large digits, and every guess by its closeness, as many as there is room for."""
    text = Text()
    room = rows // len(found)
    for number, verdict in enumerate(found):
        figure = verdict.question.figure
        actual = told(verdict.actual, figure)
        digits = actual.replace(" ", "").replace(",", " ")
        scale = min(largest(digits, width, max(room - 3, 3)), 3)
        if number:
            text.append("\n\n")
        text.append(printable(verdict.question.ask), "bold")
        if scale and room > height(scale) + 2:
            for line in draw(digits, scale):
                text.append(f"\n{line}", "bold")
        else:
            text.append(f"\n{actual}", "bold")
        left = max(room - (height(scale) if scale else 1) - 1, 1)
        shown = verdict.guesses[: left if len(verdict.guesses) <= left else left - 1]
        for place, guess in enumerate(shown, 1):
            text.append(f"\n{place:>2}. {told(guess, figure):>10}   {difference(guess, verdict.actual, figure)}")
        if len(shown) < len(verdict.guesses):
            text.append(f"\n    and {len(verdict.guesses) - len(shown)} more that are farther off")
    return text
