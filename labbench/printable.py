"""Text of files as a terminal may have it: nothing in it moves a cursor, sets a title or turns the order of letters.

`printable` is for whatever is shown or printed. Data that is written for programs says the same with escapes.
"""

import re
from collections.abc import Callable
from unicodedata import category

REPLACED = "\N{REPLACEMENT CHARACTER}"
JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # ordinary in some scripts, but they shift cells: left out
BLANKS = "\t\n\r"
TAB = 4


def harmless(char: str) -> bool:
    """Whether a character is a letter, a sign or a blank, and not one that a terminal acts on or nobody sees."""
    return char.isprintable() or category(char) == "Zs"


def printable(text: str) -> str:
    """The text in one line: a tab or a line end becomes a blank, all else that is not harmless `REPLACED`."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """The same for a text whose line ends stay."""
    return "\n".join(map(printable, text.expandtabs(TAB).split("\n")))


def _shown(char: str) -> str:
    if harmless(char):
        return char
    if char in BLANKS:
        return " "
    return "" if char in JOINERS else REPLACED


def escaped_json(text: str) -> str:
    r"""A JSON text that says the same and is safe to print: what is not harmless is \uXXXX."""
    return _escaped(text, lambda char: re.sub("(....)", r"\\u\1", char.encode("utf-16-be").hex()))


def escaped_toml(text: str) -> str:
    r"""A TOML text that says the same and is safe to print: what is not harmless is \uXXXX or \UXXXXXXXX."""
    return _escaped(text, lambda char: f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return re.sub(r"[^\x00-\x7e]", lambda found: found[0] if harmless(found[0]) else escape(found[0]), text)
