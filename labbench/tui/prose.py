"""Notes are written in Markdown. They come from files, so nothing in them acts: no link, no picture, no raw HTML."""

from markdown_it import MarkdownIt

from labbench.tui.words import printable

ACTING = ("link", "image", "autolink", "linkify", "html_inline", "html_block", "reference")
"""Rules of Markdown whose results could lead somewhere: what they would have read stays text."""


BREAKS = {"softbreak": " ", "hardbreak": "\n"}


def parser() -> MarkdownIt:
    """Markdown with tables and strikethrough, without anything that could be clicked."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(list(ACTING), ignoreInvalid=True)


def plain(text: str) -> str:
    """The words without the marks of Markdown, one line for each block."""
    lines: list[str] = []
    for token in parser().parse(printable(text)):
        if token.type == "inline":
            lines.append("".join(BREAKS.get(part.type, part.content) for part in token.children or ()))
        elif token.type in ("fence", "code_block"):
            lines.append(token.content.rstrip("\n"))
    return "\n".join(lines)
