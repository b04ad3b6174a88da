"""A recipe done by hand, step by step."""

from msgspec import Struct

from labbench.session.operations import AnyOperation
from labbench.session.recipe import Recipe


class Stepper(Struct):
    """Where one stands in a recipe. A step counts as done when the bench has finished it."""

    recipe: Recipe
    position: int = 0
    running: bool = False
    """Whether the step at `position` was sent."""
    onward: bool = False
    """Whether the steps after it follow by themselves."""

    @property
    def next(self) -> AnyOperation | None:
        """The next step, or None after the last."""
        return self.recipe.steps[self.position] if self.position < len(self.recipe.steps) else None

    def finished(self) -> None:
        """The bench finished something: if that was the step, the one after it is next."""
        if self.running:
            self.position += 1
            self.running = False
            self.onward = self.onward and self.next is not None

    def failed(self) -> None:
        """The bench did not do it: the step stays, and none follows by itself."""
        self.running = self.onward = False

    def describe(self) -> str:
        """The next step in words, "" after the last."""
        if self.next is None:
            return ""
        total = len(self.recipe.steps)
        doing = "doing" if self.running else "next"
        return f"{self.recipe.title} · {doing} {self.position + 1} of {total}: {self.next.describe()}"
