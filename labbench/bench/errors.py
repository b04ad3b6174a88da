"""The one error that is the user's to mend; everything else that is raised in the bench is a bug."""


class BenchError(Exception):
    """An operation cannot be done. The message says what was wrong and what would be right; the state stands."""
