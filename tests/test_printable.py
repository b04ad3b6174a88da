"""What comes from files is shown without anything that a terminal would act on."""

import json
import tomllib

import pytest

from labbench.printable import REPLACED, escaped_json, escaped_toml, harmless, printable, printable_lines

ACTING = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u200b\u200e\u200f\u202a\u202e\u2066\u2069\u2028\ufeff",
]


@pytest.mark.parametrize("char", ACTING, ids=lambda char: f"U+{ord(char):04X}")
def test_nothing_a_terminal_acts_on_is_left(char):
    assert printable(f"a{char}b") == ("a b" if char in "\t\n\r" else f"a{REPLACED}b")
    assert printable_lines(f"a{char}b").replace("\n", " ").isprintable()


@pytest.mark.parametrize("text", ["conv1", "卷积", "größer", "e\u0301", "a\u00a0b", "三\u3000四", "× → ▸ ❄", "🙂"])
def test_words_in_any_script_stay_as_they_are(text):
    assert printable(text) == printable_lines(text) == text


def test_joiners_are_left_out_since_they_shift_cells():
    assert printable("می\u200cخواهم 👨\u200d👩") == "میخواهم 👨👩"


def test_line_ends_stay_and_tabs_become_columns_where_lines_are_wanted():
    assert printable_lines("a\tb\n\n\x1bc") == f"a   b\n\n{REPLACED}c"


CHARACTERS = "".join(map(chr, (*range(0x20, 0x3100), *range(0xE0000, 0xE0080), 0xF0000, 0x1F642)))
"""Of each plane that has any, those that act, and thousands that do not."""


def test_json_with_escapes_says_the_same_and_nothing_in_it_acts():
    written = escaped_json(json.dumps({CHARACTERS: CHARACTERS}, ensure_ascii=False))
    assert all(map(harmless, written))
    assert json.loads(written) == {CHARACTERS: CHARACTERS}
    assert "ÿ" in written and "卷" in escaped_json("卷")


def test_toml_with_escapes_says_the_same_and_nothing_in_it_acts():
    text = CHARACTERS.replace('"', "").replace("\\", "").replace("\x7f", "")
    written = escaped_toml(f'text = "{text}"')
    assert all(map(harmless, written))
    assert tomllib.loads(written) == {"text": text}
