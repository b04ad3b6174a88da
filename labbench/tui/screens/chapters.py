"""The chapters and steps of a recording, to go to any of them at once. What is ahead is not told before it is
asked for: the audience looks on."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from labbench.session.chapters import chapter_at, chapters
from labbench.session.operations import Note
from labbench.session.session import Session, Step
from labbench.tui.screens.dialog import Buttons, Dialog
from labbench.tui.words import rate

AHEAD = "…"


class ChaptersScreen(ModalScreen[int | None]):
    """Dismisses with the number of the step to go to, or None. The cursor begins where the player stands.

    Of the steps ahead only the numbers are shown, until the key for all is pressed."""

    DEFAULT_CSS = """
    ChaptersScreen { align: center middle; }
    ChaptersScreen Dialog { max-width: 100; max-height: 100%; }
    ChaptersScreen OptionList { height: 1fr; border: none; padding: 0; background: $background; }
    ChaptersScreen OptionList:focus { border: none; }
    ChaptersScreen OptionList > .option-list--option { padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,c", "close", "Close"),
        Binding("a", "ahead", "What is ahead"),
        Binding("right", "chapter(1)", "Next chapter", show=False),
        Binding("left", "chapter(-1)", "Previous chapter", show=False),
        Binding("j", "down", "Down", show=False),
        Binding("k", "up", "Up", show=False),
    ]

    def __init__(self, recording: Session, step: int, furthest: int) -> None:
        """`step` is where the player stands, `furthest` the last step that was played."""
        super().__init__()
        self._furthest = furthest
        self._chapters = chapters(recording)
        self._steps = recording.steps
        self._step = step

    def compose(self) -> ComposeResult:
        """One line for each step; those that open a chapter stand out."""
        with Dialog(f"Chapters {len(self._chapters)}" if self._chapters else f"Steps {len(self._steps)}"):
            yield OptionList(
                *(Option(line, id=str(step.number)) for line, step in zip(self._lines(), self._steps, strict=True)),
                markup=False,
            )
            arrows = "←→ chapters · " if self._chapters else ""
            yield Buttons(("go", "Go there"), ("close", "Close"), hint=f"↑↓ steps · {arrows}a ahead · ⏎ go · esc")

    def _lines(self) -> list[Content]:
        titles = {chapter.step: (number, chapter.title) for number, chapter in enumerate(self._chapters, 1)}
        return [
            _line(step, titles.get(step.number), step.number == self._step, step.number > self._furthest)
            for step in self._steps
        ]

    def on_mount(self) -> None:
        """Choose at once, from where the player stands."""
        found = self.query_one(OptionList)
        found.highlighted = max(self._step - 1, 0) if self._steps else None
        found.focus()

    def action_ahead(self) -> None:
        """Show what is ahead, too."""
        self._furthest = len(self._steps)
        for number, line in enumerate(self._lines()):
            self.query_one(OptionList).replace_option_prompt_at_index(number, line)

    def action_chapter(self, by: int) -> None:
        """To the next chapter's line, or to the beginning of this one or the one before."""
        found = self.query_one(OptionList)
        if not self._chapters or found.highlighted is None:
            return
        here = found.highlighted + 1
        number = chapter_at(self._chapters, here)
        at_its_line = number > 0 and self._chapters[number - 1].step == here
        wanted = number + 1 if by > 0 else number - 1 if at_its_line else number
        found.highlighted = self._chapters[min(max(wanted, 1), len(self._chapters)) - 1].step - 1

    def action_down(self) -> None:
        """One line down."""
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """One line up."""
        self.query_one(OptionList).action_cursor_up()

    def action_close(self) -> None:
        """Stay."""
        self.dismiss(None)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(int(event.option_id or 0))

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        here = self.query_one(OptionList).highlighted
        self.dismiss(here + 1 if event.button.id == "go" and here is not None else None)


def _line(step: Step, chapter: tuple[int, str] | None, here: bool, ahead: bool) -> Content:
    sign = "▸" if here else " "
    if chapter:
        return Content.styled(f"{sign}{chapter[0]:>3}  {AHEAD if ahead else chapter[1]}", "bold")
    if ahead:
        return Content(f"{sign}     {step.number:>3}  {AHEAD}")
    words = step.operation.describe()
    if isinstance(step.operation, Note):
        words = f"✎ {words.removeprefix('note: ')}"
    measured = step.event.snapshot.accuracy if step.event.snapshot else {}
    split = next((split for split in ("validation", "test") if split in measured), "")
    figure = f"   {split} {rate(measured[split].top1)} %" if split else ""
    return Content(f"{sign}     {step.number:>3}  {words}{figure}")
