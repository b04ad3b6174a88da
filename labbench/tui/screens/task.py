"""Where a task is set: its name, its goals, and what to do in words. Says where the model stands while one types."""

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input, Static

from labbench.session.check import BadInput, operation_from
from labbench.session.goals import FIGURES, goals_of
from labbench.session.operations import AnyOperation, Task
from labbench.session.snapshot import Snapshot
from labbench.tui.screens.dialog import Buttons, Dialog, SmallForm

FIELDS = {
    "name": "name",
    "goals": "goals, with commas between",
    "text": "what to do, in words (may be empty)",
}


class TaskForm(SmallForm[AnyOperation]):
    """Dismisses with a task, or None."""

    DEFAULT_CSS = """
    TaskForm Dialog { max-width: 100; width: 96%; }
    TaskForm #state { min-height: 3; padding: 1 0; color: $foreground; }
    TaskForm #figures { height: auto; color: $text-muted; padding-bottom: 1; }
    """

    def __init__(self, snapshot: Snapshot | None, last: Task | None = None) -> None:
        """`snapshot` is the model now; `last` the task that stands in the form at first."""
        super().__init__()
        self._snapshot = snapshot
        self._last = last

    def compose(self) -> ComposeResult:
        """The fields, where the model stands, the figures there are, and the buttons."""
        last = self._last
        values = {
            "name": last.name if last else "small and good",
            "goals": ", ".join(last.goals) if last else "parameters < 25 %, accuracy > 92.5 %",
            "text": last.text if last else "",
        }
        with Dialog("Task · goals that the bench checks as one works", small=True):
            for name, words in FIELDS.items():
                yield Static(words, markup=False)
                yield Input(values[name], id=name, compact=True, select_on_focus=False)
            yield Static("", id="state", markup=False)
            yield Static(f"figures: {', '.join(FIGURES)}; < > ≤ ≥", id="figures", markup=False)
            yield Buttons(("save", "Set the task"), ("cancel", "Cancel"), hint="enter set · esc cancel")

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one("#goals", Input).focus()
        self._judge()

    @on(Input.Submitted)
    def action_save(self) -> None:
        """Dismiss with the task, or ring: what is wrong stands there already."""
        try:
            self.dismiss(self._typed())
        except BadInput:
            self.app.bell()

    @on(Input.Changed)
    def _judge(self) -> None:
        try:
            goals = goals_of(self._typed())
        except BadInput as error:
            self.judge(str(error))
        else:
            now = [goal.state(self._snapshot) if self._snapshot else goal.describe() for goal in goals]
            self.judge("", f"now: {' · '.join(now)}")

    def _typed(self) -> Task:
        """The task as it was typed. Raises `BadInput`."""
        typed = {name: self.query_one(f"#{name}", Input).value.strip() for name in FIELDS}
        goals = [goal.strip() for goal in typed["goals"].split(",") if goal.strip()]
        task = operation_from({"op": "task", **typed, "goals": goals})
        assert isinstance(task, Task)
        try:
            goals_of(task)
        except ValueError as error:
            raise BadInput(str(error)) from None
        return task
