"""The frame of every screen that lies over the bench: a border with a title, the content, one line of buttons."""

from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from labbench.printable import printable, printable_lines

Result = TypeVar("Result")


class SmallForm(ModalScreen[Result | None], Generic[Result]):
    """A few fields, a line `#state` that judges them, and buttons named after actions: "save", which whoever fills it
    with fields says, and "cancel". Dismisses with what was filled in, or None."""

    DEFAULT_CSS = """
    SmallForm { align: center middle; }
    SmallForm Input { background: $surface; padding: 0 1; }
    SmallForm #state { height: auto; color: $text-muted; }
    SmallForm #state.-wrong { color: $text-error; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def action_cancel(self) -> None:
        """Dismiss with nothing."""
        self.dismiss(None)

    def judge(self, problem: str, remark: str = "") -> None:
        """Say what is wrong, or, where nothing is, this."""
        state = self.query_one("#state", Static)
        state.set_class(bool(problem), "-wrong")
        state.update(Content(printable_lines(f"✗ {problem}" if problem else remark)))

    @on(Button.Pressed)
    async def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        await self.run_action(str(event.button.id))


class Dialog(Vertical):
    """A framed box. Full size on a small terminal, centred on a large one."""

    DEFAULT_CSS = """
    Dialog {
        width: 100%; max-width: 150; height: 100%; max-height: 44;
        border: round $primary; border-title-color: $foreground; border-title-style: bold;
        border-subtitle-color: $text-muted; background: $background; padding: 0 1;
    }
    Dialog.-small { width: 72; max-width: 100%; height: auto; max-height: 100%; }
    """

    def __init__(self, title: str, subtitle: str = "", small: bool = False) -> None:
        super().__init__(classes="-small" if small else "")
        self.border_title = Content(printable(title))
        self.border_subtitle = Content(printable(subtitle))


class Buttons(Horizontal):
    """The last line of a dialog: what can be decided, and with which keys."""

    DEFAULT_CSS = """
    Buttons { dock: bottom; height: 1; background: $background; }
    Buttons Button { margin-right: 2; min-width: 10; height: 1; }
    Buttons Button:focus { text-style: bold reverse; }
    Buttons Static { width: 1fr; height: 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, *names: tuple[str, str], hint: str = "") -> None:
        """`names` are pairs of id and label; the first is the primary one."""
        super().__init__()
        self._names = names
        self._hint = hint

    def compose(self) -> ComposeResult:
        """The buttons, then the keys in words."""
        for number, (name, label) in enumerate(self._names):
            yield Button(Content(label), id=name, variant="default" if number else "primary", compact=True)
        yield Static(self._hint, markup=False)
