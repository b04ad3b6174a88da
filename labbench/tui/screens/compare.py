"""Models side by side: totals, layers, classes, and the curves that led to each over each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from labbench.session.comparison import PARTS, Piece, Subject, legend, part
from labbench.tui.screens.dialog import Buttons, Dialog
from labbench.tui.screens.other import OtherForm
from labbench.tui.widgets.key_line import Key, KeyLine
from labbench.tui.widgets.overlay import KINDS, Overlay

MOST = 4
"""Models on the screen; the command line takes more."""


class CompareScreen(ModalScreen[None]):
    """One part at a time; numbers and tab choose it, the other moving keys scroll."""

    DEFAULT_CSS = """
    CompareScreen { align: center middle; }
    CompareScreen #models { height: auto; margin-bottom: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    CompareScreen KeyLine { height: 1; margin-bottom: 1; }
    CompareScreen ScrollableContainer { height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    CompareScreen #lines { width: auto; height: auto; }
    CompareScreen Overlay { height: 1fr; display: none; }
    CompareScreen.-curves Overlay { display: block; }
    CompareScreen.-curves ScrollableContainer { height: auto; max-height: 6; }
    CompareScreen.-low.-curves ScrollableContainer { display: none; }
    Overlay > .overlay--first { color: $primary; }
    Overlay > .overlay--second { color: $text-warning; }
    Overlay > .overlay--third { color: $text-success; }
    Overlay > .overlay--fourth { color: $text-error; }
    Overlay > .overlay--border { color: $secondary; }
    Overlay > .overlay--quiet { color: $text-muted; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-high")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,d,enter", "close", "Close"),
        *(Binding(str(number), f"choose('{name}')", name) for number, name in enumerate(PARTS, 1)),
        Binding("tab,right_square_bracket", "step(1)", "Next part"),
        Binding("shift+tab,left_square_bracket", "step(-1)", "Part before"),
        Binding("a", "everything", "All layers"),
        Binding("y", "kind", "Accuracy or loss"),
        Binding("z", "later", "From where they part"),
        Binding("o", "other", "Add a session"),
        Binding("j", "scroll(1)", "Down", show=False),
        Binding("k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, subjects: Sequence[Subject], sessions: Path) -> None:
        """`sessions` is the folder of the recent ones."""
        super().__init__()
        self.subjects = tuple(subjects)
        self.part = PARTS[0]
        self.everything = False
        self._sessions = sessions
        self._kind = KINDS[0]
        self._later = False
        self._keys = KeyLine()
        self._models = Static("", id="models", markup=False)
        self._lines = Static("", id="lines", markup=False)
        self._overlay = Overlay()

    def compose(self) -> ComposeResult:
        """Which models these are, the parts' names, one part, a button."""
        with Dialog("Compare"):
            yield self._models
            yield self._keys
            with ScrollableContainer():
                yield self._lines
            yield self._overlay
            yield Buttons(("close", "Close"), hint="1–4, tab part · ←→↑↓ scroll · o another session · esc")

    def on_mount(self) -> None:
        """The first part."""
        self.query_one(ScrollableContainer).focus()
        self.action_choose(self.part)

    def on_resize(self) -> None:
        """Where there is less room, the changes are left out."""
        self.call_after_refresh(self._show)

    def action_choose(self, name: str) -> None:
        """Show another part from its beginning."""
        self.part = name
        self._show()
        self.query_one(ScrollableContainer).scroll_home(animate=False)

    def action_step(self, step: int) -> None:
        """Show the part so many further."""
        self.action_choose(PARTS[(PARTS.index(self.part) + step) % len(PARTS)])

    def action_everything(self) -> None:
        """Show every figure of every layer, or only what differs."""
        self.everything = not self.everything
        self.action_choose("layers")

    def action_kind(self) -> None:
        """Draw the loss, or the accuracy again."""
        if self.part == "curves":
            self._kind = KINDS[(KINDS.index(self._kind) + 1) % len(KINDS)]
        self.action_choose("curves")

    def action_later(self) -> None:
        """Draw the curves from where they part, or from the beginning again."""
        if self.part == "curves":
            self._later = not self._later
        self.action_choose("curves")

    def action_scroll(self, lines: int) -> None:
        """Scroll by so many lines."""
        self.query_one(ScrollableContainer).scroll_relative(y=lines, animate=False)

    def action_other(self) -> None:
        """Ask for another session, and take its model in."""
        if len(self.subjects) >= MOST:
            self.notify(f"at most {MOST} models fit; labbench compare takes more", severity="warning", markup=False)
            return

        def take(found: Subject | None) -> None:
            if found is not None:
                self.subjects = (*self.subjects, found)
                self._show()

        self.app.push_screen(OtherForm(self._sessions), take)

    def action_close(self) -> None:
        """Enough."""
        self.dismiss(None)

    def _show(self) -> None:
        self.set_class(self.part == "curves", "-curves")
        self._models.update(Content("\n".join(legend(self.subjects))))
        keys = [Key(str(n), name, name, on=name == self.part) for n, name in enumerate(PARTS, 1)]
        if self.part == "layers":
            keys.append(Key("a", "only what differs" if self.everything else "all layers", "everything"))
        elif self.part == "curves":
            keys.append(Key("y", KINDS[1 - KINDS.index(self._kind)], "kind"))
            keys.append(Key("z", "all epochs" if self._later else "from where they part", "later"))
        self._keys.show(keys)
        width = self.query_one(ScrollableContainer).size.width - 1
        self._lines.update(_drawn(part(self.subjects, self.part, self.everything, width)))
        self._overlay.show(self.subjects, self._kind, self._later)

    @on(KeyLine.Chosen)
    def _chosen(self, event: KeyLine.Chosen) -> None:
        event.stop()
        match event.action:
            case "everything":
                self.action_everything()
            case "kind":
                self.action_kind()
            case "later":
                self.action_later()
            case name:
                self.action_choose(name)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Enough."""
        event.stop()
        self.dismiss(None)


def _drawn(table: Sequence[Sequence[Piece]]) -> Content:
    lines = [
        Content.assemble(
            *(Content.styled(text, "bold $text-accent") if differs else Content(text) for text, differs in line)
        )
        for line in table
    ]
    return Content("\n").join(lines)
