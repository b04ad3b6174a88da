"""Text measured in the cells that a terminal gives it: a Chinese letter takes two, an accent none."""

import textwrap
from itertools import accumulate, takewhile

CUT = "…"


def cells(text: str) -> int:
    """How many cells the text takes."""
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len  # what the screens are laid out by; most text needs no table

    return cell_len(text)


def head(text: str, width: int) -> str:
    """As much of the beginning as so many cells hold."""
    return text[: sum(1 for _ in takewhile(lambda used: used <= width, accumulate(map(cells, text))))]


def tail(text: str, width: int) -> str:
    """As much of the end as so many cells hold."""
    return head(text[::-1], width)[::-1]


def cut(text: str, width: int) -> str:
    """The text in so many cells; a sign at its end says that there was more."""
    return text if cells(text) <= width else f"{head(text, width - 1)}{CUT}" if width > 0 else ""


def left(text: str, width: int) -> str:
    """The text with blanks behind it, so many cells in all."""
    return text.ljust(_letters(text, width))


def right(text: str, width: int) -> str:
    """The text with blanks before it, so many cells in all."""
    return text.rjust(_letters(text, width))


def center(text: str, width: int) -> str:
    """The text with blanks on both sides, so many cells in all."""
    return text.center(_letters(text, width))


def _letters(text: str, width: int) -> int:
    """How many letters the text must have in all, filled up with blanks, to take so many cells."""
    return width - cells(text) + len(text)


def wrapped(text: str, width: int, **how: int | str) -> list[str]:
    """The text in lines of so many cells at most; `how` is what `textwrap.wrap` takes."""
    return _Wrapper(width, **how).wrap(text)  # type: ignore[arg-type]


class _Wrapper(textwrap.TextWrapper):
    """Wraps by cells; where letters are wide no blanks stand between words, so that a line may end at any of them."""

    def _split(self, text: str) -> list[str]:
        chunks = super()._split(text)
        return [_Chunk(part) for chunk in chunks for part in (chunk if cells(chunk) > len(chunk) else (chunk,))]


class _Chunk(str):
    """A part of a line, as long as it is wide."""

    def __len__(self) -> int:
        return cells(str.__str__(self))
