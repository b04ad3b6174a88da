"""Which model of another session shall be compared."""

from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input, Static

from labbench import folders
from labbench.session.comparison import Subject
from labbench.session.jsonl import BadFile
from labbench.session.named import named_point
from labbench.tui import sources
from labbench.tui.menu import Line, Menu
from labbench.tui.screens.dialog import Buttons, Dialog, SmallForm

HINT = "a session ends in .jsonl; FILE is where it stands, FILE@3 or FILE@dense another point of it"


class OtherForm(SmallForm[Subject]):
    """Dismisses with the model, or None. Enter takes the session of the list, or the path that was typed."""

    DEFAULT_CSS = """
    OtherForm Dialog { width: 90; max-width: 100%; height: auto; max-height: 22; }
    OtherForm Menu { height: auto; max-height: 10; min-height: 3; }
    OtherForm Input { margin: 0 1; }
    OtherForm #state { min-height: 2; padding: 0 1 1 1; }
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._recent = sources.recent(folder)

    def compose(self) -> ComposeResult:
        """Recent sessions, a path, what is wrong with it, the buttons."""
        with Dialog("Compare with another session"):
            if self._recent:
                lines = [Line(str(one.path), one.title or one.path.stem, one.date) for one in self._recent]
                yield Menu("recent sessions", lines)
            yield Input(placeholder="or a path: session.jsonl, session.jsonl@3", compact=True)
            yield Static(HINT, id="state", markup=False)
            yield Buttons(("save", "Compare"), ("cancel", "Cancel"), hint="enter · tab next · esc cancel")

    def on_mount(self) -> None:
        """Choose, or type at once."""
        self.query_one(Menu if self._recent else Input).focus()

    @on(Menu.Entered)
    def _entered(self) -> None:
        value = self.query_one(Menu).value
        if value:
            self._take(value)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._take(self.query_one(Input).value.strip())

    def action_save(self) -> None:
        """Dismiss with what was typed, or with the session of the list."""
        typed = self.query_one(Input).value.strip()
        if typed or not self._recent:
            self._take(typed)
        else:
            self._entered()

    def _take(self, text: str) -> None:
        try:
            if not text:
                raise ValueError("type the path of a session")
            found, _ = named_point(text, folders.session_file)
        except (BadFile, ValueError) as error:
            self.judge(str(error))
            self.app.bell()
        else:
            self.dismiss(found)
