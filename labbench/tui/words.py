"""Figures as people read them. Pure functions from numbers to short texts; no figure is ever cut."""

import math
import re

from labbench.cells import cells, head, tail
from labbench.printable import printable

THIN = "—"


def count(number: int) -> str:
    """A whole number with separators: 2,304."""
    return f"{number:,}"


def short(number: int) -> str:
    """A large number in four figures or fewer: 40.6 M."""
    for size, sign in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {sign}" if number < 999.5 * size else f"{number / size:.0f} {sign}"
    return str(number)


def rate(fraction: float | None) -> str:
    """A fraction in percent without its sign, as in a column: 30.0; never 100.0 for what is not all."""
    if fraction is None or not math.isfinite(fraction):
        return THIN
    value = 100 * fraction
    if fraction < 1:
        value = min(value, 99.9)
    return f"{value:.1f}"


def times(ratio: float) -> str:
    """A compression ratio: ×1.43."""
    if not math.isfinite(ratio):
        return "×∞"
    return f"×{ratio:.2f}" if ratio < 100 else f"×{ratio:,.0f}"


def clock(seconds: float) -> str:
    """A length of time: 0:12, 1:02:03."""
    whole = max(round(seconds), 0)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def figure(value: float | None) -> str:
    """A loss or a norm in three figures."""
    if value is None or not math.isfinite(value):
        return "∞"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.2e}"


def plural(number: int, noun: str) -> str:
    """1 operation, 2 operations."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def file_name(words: str) -> str:
    """Words as part of a file name: letters, digits, dots and hyphens."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", words)


def fitted(parts: list[str], width: int, gap: str = "   ") -> list[str]:
    """The leading parts that fit a width together; a part that does not fit and those after it are left out."""
    taken: list[str] = []
    used = 0
    for part in map(printable, parts):
        needed = cells(part) + (len(gap) if taken else 0)
        if taken and used + needed > width:
            break
        taken.append(part)
        used += needed
    return taken


def middle(name: str, width: int) -> str:
    """A name that fits: its middle goes first, since layers differ at their ends."""
    name = printable(name)
    if cells(name) <= width:
        return name
    if width < 2:
        return head(name, width)
    end = tail(name, (width - 1) * 2 // 3)
    return f"{head(name, width - 1 - cells(end))}…{end}"
