"""Where a point of the history gets its name."""

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input, Static

from labbench.session.check import BadInput, operation_from
from labbench.session.operations import Name
from labbench.session.session import Step
from labbench.session.tree import Tree
from labbench.tui.screens.dialog import Buttons, Dialog, SmallForm

RULE = "a name begins with a letter; letters, digits, blanks, _ . - follow; at most 40 in all"


class NameForm(SmallForm[Name]):
    """Dismisses with what names the point, or None."""

    DEFAULT_CSS = """
    NameForm Input { margin-top: 1; }
    NameForm #state { min-height: 2; padding-bottom: 1; }
    """

    def __init__(self, tree: Tree[Step], point: int) -> None:
        super().__init__()
        self._tree = tree
        self._point = point

    def compose(self) -> ComposeResult:
        """The name it has, what is wrong with it, the buttons."""
        words = self._tree.items[self._point].operation.describe()
        with Dialog(f"Name of step {self._point}: {words}", small=True):
            yield Input(self._tree.name_of(self._point), compact=True, placeholder="such as dense")
            yield Static("", id="state", markup=False)
            yield Buttons(("save", "Save"), ("cancel", "Cancel"), hint="enter save · esc cancel")

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(Input).focus()
        self._judge()

    @on(Input.Submitted)
    def action_save(self) -> None:
        """Dismiss with the operation, or say what is wrong with the name."""
        given = self._given()
        if isinstance(given, Name):
            self.dismiss(given)
        else:
            self.app.bell()
            self._judge(submitted=True)

    @on(Input.Changed)
    def _typed(self) -> None:
        self._judge()

    def _given(self) -> Name | str:
        """The operation, or why there is none."""
        try:
            given = operation_from({"op": "name", "name": self.query_one(Input).value.strip(), "at": str(self._point)})
        except BadInput:
            return RULE
        assert isinstance(given, Name)
        try:
            self._tree.check(given)
        except ValueError as error:
            return str(error)
        return given

    def _judge(self, submitted: bool = False) -> None:
        given = self._given()
        problem = given if isinstance(given, str) else ""
        empty = not self.query_one(Input).value.strip() and not submitted
        self.judge("" if empty else problem, RULE if problem else "jump finds it by this name")
