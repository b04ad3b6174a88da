"""Which preview to ask for: one at a time, then the latest that was wanted, so that a slow worker is never behind."""

from labbench.session.operations import AnyOperation


class Previews:
    """What was asked and what is wanted since."""

    def __init__(self) -> None:
        self._asked = False
        self._wanted: AnyOperation | None = None

    def want(self, operation: AnyOperation) -> AnyOperation | None:
        """The form shows another operation; returns what to ask the worker now, if anything."""
        if self._asked:
            self._wanted = operation
            return None
        self._asked = True
        return operation

    def answered(self) -> AnyOperation | None:
        """An answer came; returns what to ask next, if anything."""
        wanted, self._wanted = self._wanted, None
        self._asked = wanted is not None
        return wanted

    def forget(self) -> None:
        """The worker is another one, and owes nothing."""
        self._asked, self._wanted = False, None
