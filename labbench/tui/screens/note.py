"""Where words are typed: a note for the session, a path for a file."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static, TextArea

from labbench.session.catalogue import knobs_of
from labbench.session.check import convert
from labbench.session.operations import Note
from labbench.tui.choice import Choice
from labbench.tui.screens.confirm import Confirm
from labbench.tui.screens.dialog import Buttons, Dialog, SmallForm

LONGEST = 20_000  # characters of a note, as the operation says
FIGURES = next(knob.choices for knob in knobs_of(Note) if knob.name == "figure")
LINES = (
    ("chapter", "chapter", 60, "its title, where one begins here"),
    ("ask", "question", 200, "what the class predicts before the next step"),
)
"""Field, label, most characters, and what it is for."""


class NoteForm(SmallForm[Note]):
    """Dismisses with a note, or None. In the text enter makes a new line; in the other fields it saves, as ctrl+o."""

    DEFAULT_CSS = """
    NoteForm Dialog { height: 80%; max-height: 24; max-width: 90; }
    NoteForm TextArea { height: 1fr; border: none; padding: 0; }
    NoteForm .field { height: 1; }
    NoteForm .field Static { width: 10; text-style: bold; }
    NoteForm Input { width: 1fr; }
    NoteForm #state { height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+o", "save", "Save")]

    def compose(self) -> ComposeResult:
        """The text, how long it may be, and the buttons."""
        with Dialog("Note · a remark in the session, shown as a caption when it is played"):
            yield TextArea(tab_behavior="focus", compact=True, placeholder="Words; Markdown is shown as such.")
            for name, label, longest, purpose in LINES:
                with Horizontal(classes="field"):
                    yield Static(label, markup=False)
                    yield Input(compact=True, placeholder=purpose, max_length=longest, id=name)
            with Horizontal(classes="field"):
                yield Static("figure", markup=False)
                yield Choice(FIGURES, "accuracy", id="figure")
            yield Static("", id="state", markup=False)
            yield Buttons(("save", "Save"), ("cancel", "Cancel"), hint="ctrl+o save · esc cancel · tab to the fields")

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(TextArea).focus()

    def action_save(self) -> None:
        """Dismiss with the note; an empty one is refused."""
        text = self.query_one(TextArea).text.strip()
        problem = "a note needs at least one word" if not text else ""
        if len(text) > LONGEST:
            problem = f"{len(text):,} characters; a note has at most {LONGEST:,}"
        if problem:
            self.judge(problem)
            self.query_one(TextArea).focus()
        else:
            lines = {name: self.query_one(f"#{name}", Input).value.strip() for name, *_ in LINES}
            figure = self.query_one(Choice).value if lines["ask"] else "accuracy"
            note: Note = convert({"op": "note", "text": text, "figure": figure, **lines}, Note)
            self.dismiss(note)

    @on(Input.Submitted)
    def _entered(self) -> None:
        self.action_save()

    @on(TextArea.Changed)
    def _typed(self) -> None:
        self.judge("")


class PathForm(SmallForm[Path]):
    """Dismisses with the path of a file to be written, or None. Asks before a file is replaced.

    `formats` says which endings there may be, and what the file then is; without it any ending will do."""

    DEFAULT_CSS = """
    PathForm Dialog { max-width: 100; width: 96%; }
    PathForm Input { margin-top: 1; }
    PathForm #state { min-height: 2; padding-bottom: 1; }
    """

    def __init__(self, title: str, initial: str, formats: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__()
        self._title = title
        self._initial = initial
        self._formats = formats

    def compose(self) -> ComposeResult:
        """The path, what is there now, and the buttons."""
        with Dialog(self._title, small=True):
            yield Input(self._initial, compact=True, select_on_focus=False)
            yield Static("", id="state", markup=False)
            yield Buttons(("save", "Save"), ("cancel", "Cancel"), hint="enter save · esc cancel")

    def on_mount(self) -> None:
        """Type at once, at the end of the suggestion."""
        path = self.query_one(Input)
        path.focus()
        path.cursor_position = len(path.value)
        self._judge()

    @on(Input.Submitted)
    def action_save(self) -> None:
        """Dismiss with the path; one that is there is asked about, one that cannot be is not taken."""
        problem, _ = target(self.query_one(Input).value, self._formats)
        path = Path(self.query_one(Input).value).expanduser()
        if problem:
            self.app.bell()
        elif path.exists():
            question = f"{path} exists. Replace it?"
            self.app.push_screen(Confirm(question, "Replace", "Keep"), lambda yes: self._decided(bool(yes), path))
        else:
            self.dismiss(path)

    def _decided(self, replace: bool, path: Path) -> None:
        if replace:
            self.dismiss(path)

    @on(Input.Changed)
    def _judge(self) -> None:
        self.judge(*target(self.query_one(Input).value, self._formats))


def target(text: str, formats: Mapping[str, str]) -> tuple[str, str]:
    """What is wrong with this path as a file to be written ("" if nothing), and a remark on it and what is there."""
    if not text.strip() or "\0" in text:
        return "type the path of a file", ""
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            return "this is a folder; add the name of a file", ""
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}", ""
        if formats and path.suffix not in formats:
            return f"the ending says the format: {', '.join(formats)}", ""
        there = "the file exists: you will be asked before it is replaced" if path.exists() else "a new file"
        others = ", ".join(ending for ending in formats if ending != path.suffix)
        return "", f"{formats[path.suffix]} (or end in {others}) · {there}" if formats else there
    except OSError as error:
        return error.strerror or str(error), ""
