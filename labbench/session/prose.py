"""Notes are written in Markdown. They come from files, so nothing in them acts: no link, no picture, no raw HTML."""

from functools import lru_cache
from typing import TYPE_CHECKING

from labbench.printable import printable_lines

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

ACTING = ("link", "image", "autolink", "linkify", "html_inline", "html_block", "reference")
"""Rules of Markdown whose results could lead somewhere: what they would have read stays text."""


MOST_LINES, MOST_BARS = 200, 400
MOST = 500  # characters of a note that one line may say


def parser() -> "MarkdownIt":
    """Markdown with tables and strikethrough, without anything that could be clicked."""
    from markdown_it import MarkdownIt  # the first picture needs no parser

    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(list(ACTING), ignoreInvalid=True)


def modest(text: str) -> bool:
    """Whether the text may be laid out as Markdown: every line and every cell of a table becomes a widget."""
    return text.count("\n") <= MOST_LINES and text.count("|") <= MOST_BARS


@lru_cache(maxsize=1024)
def plain(text: str, soft: str = " ") -> str:
    """The words without the marks of Markdown, a line for each block, item and row; what is too long stays as it is.

    `soft` stands where a line ends within a block: such an end means no more than a blank, but the writer chose it.
    """
    if not modest(text):
        return printable_lines(text)
    lines: list[str] = []
    row: list[str] | None = None
    lead = ""
    breaks = {"softbreak": soft, "hardbreak": "\n"}
    for token in parser().parse(text):
        match token.type:
            case "list_item_open":
                lead = "  " * (token.level // 2) + (f"{token.info}. " if token.info else "• ")
            case "tr_open":
                row = []
            case "tr_close":
                lines.append(" | ".join(row or ()))
                row = None
            case "inline":
                words = "".join(breaks.get(part.type, part.content) for part in token.children or ())
                if row is not None:
                    row.append(words)
                else:
                    lines.append(lead + words)
                    lead = ""
            case "fence" | "code_block":
                lines.append(lead + token.content.rstrip("\n"))
                lead = ""
    return printable_lines("\n".join(lines))  # only now: "&#8238;" stands for a sign that turns what follows


def in_one_line(text: str) -> str:
    """The beginning of a note as words in one line."""
    return " ".join(plain(text[:MOST]).split()) or " ".join(text[:MOST].split())  # nothing but marks: these
