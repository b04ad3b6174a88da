"""How a command ends: the exit codes, and the sentence on stderr that goes with one."""

import sys

from labbench.printable import printable

SAME, DIFFERS, BAD, CANNOT, BUG, INTERRUPTED = 0, 1, 2, 3, 70, 130
"""Done or the same · refused or differs · bad file or command line · cannot run here · a bug · ctrl+c."""


def say(sentence: str, code: int = SAME) -> int:
    """Print a sentence on stderr; returns the exit code. What a terminal could take for a command is replaced."""
    print(f"labbench: {printable(sentence)}", file=sys.stderr)
    return code
