"""What does not fit a line goes on under its words."""

import pytest
from textual.content import Content

from labbench.cells import cells
from labbench.tui.widgets.hanging import hanging


def laid_out(text, width):
    return [line.plain.rstrip() for line in hanging(Content(text), width)]


def test_words_go_on_under_words_and_not_under_their_label():
    assert laid_out("row         0.0 % of the rows of the weight are all zero", 44) == [
        "row         0.0 % of the rows of the weight",
        "            are all zero",
    ]
    assert laid_out("last change  卷积层卷积层 30 % of all of them", 40) == [
        "last change  卷积层卷积层 30 % of all of",
        "             them",
    ]
    assert laid_out("  · kept epoch 7 of 8, the best on validation", 30) == [
        "  · kept epoch 7 of 8, the",
        "    best on validation",
    ]
    assert laid_out("no label here, only words", 14) == ["no label here,", "only words"]


@pytest.mark.parametrize("width", range(2, 60, 3))
def test_no_line_is_wider_than_there_is_room_and_no_word_is_lost(width):
    text = "   0:14  ✓ prune 卷积层卷积层, fc* to 90 % (magnitude)  and more than one label"
    lines = laid_out(text, width)
    assert all(cells(line) <= max(width, 2) for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
