"""Notes are written in Markdown. They come from files, so nothing in them acts: no link, no picture, no raw HTML."""

from markdown_it import MarkdownIt

from labbench.printable import printable_lines

ACTING = ("link", "image", "autolink", "linkify", "html_inline", "html_block", "reference")
"""Rules of Markdown whose results could lead somewhere: what they would have read stays text."""


MOST_LINES, MOST_BARS = 200, 400
BREAKS = {"softbreak": " ", "hardbreak": "\n"}


def parser() -> MarkdownIt:
    """Markdown with tables and strikethrough, without anything that could be clicked."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(list(ACTING), ignoreInvalid=True)


def modest(text: str) -> bool:
    """Whether the text may be laid out as Markdown: every line and every cell of a table becomes a widget."""
    return text.count("\n") <= MOST_LINES and text.count("|") <= MOST_BARS


def plain(text: str) -> str:
    """The words without the marks of Markdown, one line for each block; what is too long for that as it is."""
    if not modest(text):
        return printable_lines(text)
    lines: list[str] = []
    for token in parser().parse(text):
        if token.type == "inline":
            lines.append("".join(BREAKS.get(part.type, part.content) for part in token.children or ()))
        elif token.type in ("fence", "code_block"):
            lines.append(token.content.rstrip("\n"))
    return printable_lines("\n".join(lines))  # only now: "&#8238;" stands for a sign that turns what follows
