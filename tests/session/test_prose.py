"""Where there is room for words only, a note is told without the marks of Markdown."""

import pytest
from session_examples import LOAD, finished

from labbench.session import report
from labbench.session.history import rows
from labbench.session.operations import Note
from labbench.session.prose import in_one_line, plain
from labbench.session.session import Session

LESSON = """# Half is gone

Nobody **misses** `fc1`:

- see *loss*
  1. then ~~nothing~~

| a | b |
|---|---|
| 1 | 2 |
"""


def session_with(text):
    session = Session()
    for event in (*finished(LOAD), *finished(Note(text=text))):
        session.append(0.0, event)
    return session


def test_marks_go_and_the_order_of_blocks_items_and_rows_stays():
    assert plain(LESSON).splitlines() == [
        *("Half is gone", "Nobody misses fc1:", "• see loss", "  1. then nothing", "a | b", "1 | 2"),
    ]


@pytest.mark.parametrize(
    "text", ["2 * 3 * 4", "a_b_c", "50 %", "**", "see http://x.de/a_b", "<b>x</b>", "# ", "---", "[a](b)"]
)
def test_what_is_no_mark_stays(text):
    assert in_one_line(text) == " ".join(text.split())


def test_an_entity_of_markdown_cannot_turn_or_move_anything():
    assert plain("&#8238;a&#27;b&#x85;").isprintable()


def test_history_and_show_have_the_words_of_a_note_without_its_marks():
    session = session_with(LESSON)
    words = rows(session)[-1].words
    assert words.startswith("Half is gone Nobody misses fc1: • see loss")
    assert session.steps[-1].operation.describe().startswith("note: Half is gone Nobody misses fc1:")
    shown = "\n".join(report.history(session))
    assert "✎ Half is gone\n     Nobody misses fc1:\n     • see loss" in shown
    assert "**" not in shown and "#" not in shown.split("\n", 1)[1]
