"""How wide texts are in a terminal, where some characters take two cells and some none: tables stand by these."""

import unicodedata


def width(text: str) -> int:
    """The cells that a text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def left(text: str, cells: int) -> str:
    """The text at the left of so many cells."""
    return text + " " * (cells - width(text))


def right(text: str, cells: int) -> str:
    """The text at the right of so many cells."""
    return " " * (cells - width(text)) + text


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
