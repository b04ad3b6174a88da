"""Names in letters that take two cells: columns stand where they do for others, and nothing is wider than it may be."""

import pytest
from everything import everything
from msgspec.structs import replace
from sample import accuracy, lenet_rows, pruned, resnet_rows, snapshot
from textual.geometry import Size

from labbench.cells import cells
from labbench.session import measures_report, report
from labbench.session.comparison import PARTS, part, subject, text_of
from labbench.session.events import Finished
from labbench.session.history import rows
from labbench.session.measures import LayerScan, Scanned
from labbench.session.operations import Name, Note, Prune
from labbench.session.scan_report import table
from labbench.session.session import Session
from labbench.tui.situation import Situation
from labbench.tui.widgets.big_figures import figures, laid_out, step_words
from labbench.tui.widgets.caption import strip
from labbench.tui.widgets.columns import NAME, place
from labbench.tui.widgets.heading import heading
from labbench.tui.widgets.history import _laid_out

WIDE = "卷积层"


def renamed(rows):
    """Every second layer has a wide name, one of them a long one."""
    names = {row.name: f"{WIDE * (1 + 5 * (n == 2))}.{n}" for n, row in enumerate(rows) if n % 2 == 0}
    return tuple(replace(row, name=names.get(row.name, row.name), last=f"{WIDE} 30 %") for row in rows)


ROWS = renamed(resnet_rows())


def wide_session():
    """Opened, pruned, noted and named, with wide words everywhere."""
    session = Session(WIDE * 9)
    dense = snapshot(renamed(lenet_rows()), {"validation": accuracy(0.98)}, f"{WIDE}网", f"数据{WIDE}")
    half = replace(dense, rows=pruned(dense.rows, 0.5), classes=tuple(WIDE + digit for digit in "0123456789"))
    load = next(event.operation for _, event in everything() if isinstance(event, Finished))
    for operation, made in (
        (replace(load, model=f"{WIDE}网", dataset=f"数据{WIDE}"), dense),
        (Prune(layers=(f"{WIDE}.0", f"{WIDE * 6}.2"), method=WIDE), half),
        (Note(text=f"# {WIDE * 30}\n\n{WIDE * 60} and words between them", chapter=WIDE), None),
        (Name(name="half"), None),
    ):
        session.append(1.0, Finished(operation=operation, snapshot=made, remarks=(f"{WIDE * 20} was left", WIDE)))
    return session


def place_of_last_words(lines):
    """In which cell the last column of each line ends."""
    return {cells(line) for line in lines}


@pytest.mark.parametrize("width", range(28, 201, 3))
def test_in_the_layer_table_each_column_begins_in_its_cell(width):
    placed = place(ROWS, width, 2)
    assert placed[-1].x + placed[-1].width <= width
    for row in ROWS:
        texts = [one.text(one.column.cell(row)) for one in placed]
        assert [cells(text) for text in texts] == [one.width for one in placed]
        name, text = next(
            (one.column.cell(row), text) for one, text in zip(placed, texts, strict=True) if one.column is NAME
        )
        assert text.strip() == name or "…" in text


@pytest.mark.parametrize("width", range(30, 141, 5))
def test_in_the_history_the_figures_stand_at_the_right_end(width):
    lines = _laid_out(rows(wide_session()), frozenset(), width)
    assert all(cells(text) <= width for _, _, text in lines)
    assert all(cells(text) == width for _, _, text in lines if text.endswith(" %"))
    assert sum(text.endswith(" %") for _, _, text in lines) == 2


@pytest.mark.parametrize("width", range(20, 141, 5))
def test_heading_strip_and_big_figures_are_as_wide_as_they_may_be(width):
    session = wide_session()
    assert heading(session, Situation(file=f"{WIDE * 9}.jsonl", recording=True), width).cell_len <= width
    shown = strip(session, Situation(recipe=f"{WIDE} 1 of 2"), width)
    assert all(cells(line) <= width for line in shown.plain.splitlines()[1:])
    picture = laid_out(figures(session), step_words(session), Size(width, 20))
    assert all(cells(line) <= width for line in picture.plain.splitlines())


def test_printed_tables_are_aligned():
    session = wide_session()
    columns = report.columns(
        [("a", "1", "x"), (WIDE, "22", "x"), ("e\N{COMBINING ACUTE ACCENT}", "3", "x")], [True, False, True]
    )
    assert place_of_last_words(columns) == {cells(WIDE) + 7}
    steps = [line for line in report.history(session) if line.endswith("0.0")]
    assert len(steps) == 2 and len(place_of_last_words(steps)) == 1
    layers = report.layer_table(
        replace(session.snapshot, rows=tuple(replace(row, last="same") for row in session.snapshot.rows))
    )
    assert len(place_of_last_words(layers[1:])) == 1
    assert len(place_of_last_words(measures_report.lines(session, "layers"))) == 1


def test_compared_models_and_scans_are_aligned():
    session = wide_session()
    subjects = [subject(session, 1), replace(subject(session, 2), name=WIDE * 9)]
    for which in PARTS[:3]:
        found = [line for line in text_of(part(subjects, which, everything=True)) if line.strip()]
        assert found
    lines = text_of(part(subjects, "layers", everything=True))[1:]
    assert len({cells(line[: line.index(" %")]) for line in lines if "sparsity" in line}) == 1
    scanned = Scanned(
        layers=tuple(LayerScan(layers=(row.name,), amounts=(0.5,), top1=(0.9,)) for row in session.snapshot.rows),
        top1=0.9,
    )
    assert len(place_of_last_words(table(scanned, width=40)[1:])) == 1
