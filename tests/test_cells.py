"""Text takes the cells that a terminal gives it, not as many as it has letters."""

import pytest

from labbench import cells

WIDE = "卷积层一"  # four letters, eight cells
ACCENTED = "e\N{COMBINING ACUTE ACCENT}tage"  # six letters, five cells


def test_wide_letters_take_two_cells_and_accents_none():
    assert [cells.cells(text) for text in ("conv1", WIDE, ACCENTED, "")] == [5, 8, 5, 0]


@pytest.mark.parametrize("width", range(9))
@pytest.mark.parametrize("text", ["convolution", f"a{WIDE}", ACCENTED * 3])
def test_a_cut_text_fits_and_says_that_it_was_cut(text, width):
    shown = cells.cut(text, width)
    assert cells.cells(shown) <= width
    assert not width or shown.endswith("…")
    assert text.startswith(shown.removesuffix("…"))


def test_what_fits_is_not_cut():
    assert cells.cut(WIDE, 8) == WIDE
    assert cells.cut(WIDE, 7) == "卷积层…"
    assert cells.cut(WIDE, 6) == "卷积…"  # half a letter cannot be shown


def test_beginning_and_end_hold_as_many_cells():
    assert (cells.head(WIDE, 5), cells.tail(WIDE, 5)) == ("卷积", "层一")
    assert cells.head(ACCENTED, 1) == "e\N{COMBINING ACUTE ACCENT}"


@pytest.mark.parametrize("fill", [cells.left, cells.right, cells.center])
@pytest.mark.parametrize("text", ["fc", WIDE, ACCENTED])
def test_filled_up_all_take_the_same_cells(fill, text):
    assert cells.cells(fill(text, 11)) == 11
    assert fill(text, 11).strip() == text


def test_wide_letters_are_wrapped_between_any_two_and_words_only_between_them():
    assert cells.wrapped(f"see {WIDE} here", 8) == ["see 卷积", "层一", "here"]
    assert cells.wrapped("prune conv1 again", 8) == ["prune", "conv1", "again"]


def test_what_is_wrapped_never_takes_more_cells_than_there_are():
    text = f"{WIDE * 5} conv1 {ACCENTED} {'x' * 30} {WIDE}"
    for width in range(2, 40):
        assert all(cells.cells(line) <= width for line in cells.wrapped(text, width))
        assert "".join(cells.wrapped(text, width)).replace(" ", "") == text.replace(" ", "")
