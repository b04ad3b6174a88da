"""A session as text: aligned, complete, and harmless to the terminal that shows it."""

import pytest
from session_examples import LOAD, OPERATIONS, finished, row, snapshot

from labbench.cells import cells
from labbench.session import report
from labbench.session.events import AnyEvent, Finished, Metric
from labbench.session.operations import Note, Prune
from labbench.session.session import Session


def session_of(*events: AnyEvent) -> Session:
    session = Session()
    for event in events:
        session.append(0.0, event)
    return session


def test_every_operation_has_one_aligned_line_under_the_head() -> None:
    session = session_of(*[e for op in OPERATIONS for e in finished(op, snapshot(validation=0.978))])
    width = report.operations_width(OPERATIONS)
    lines = [report.step_head(width), *(report.step_line(step, width) for step in session.steps)]
    assert len({cells(line) for line in lines}) == 1
    assert lines[1].split()[:6] == ["1", "open", "lenet-5", "on", "digits", "0.0"]
    assert "110/110" in lines[1] and "97.8 %" in lines[1]


def test_a_figure_that_was_not_measured_is_a_dash() -> None:
    session = session_of(*finished(LOAD, snapshot()))
    assert report.step_line(session.steps[0], 20).split()[-3:-1] == ["–", "–"]


def test_notes_are_shown_in_full_and_remarks_below_their_operation() -> None:
    note = Note(text="what we see\n" + "word " * 60)
    session = session_of(
        *finished(LOAD), *finished(note), Finished(operation=Prune(), snapshot=snapshot(), remarks=("fc left out",))
    )
    lines = report.history(session)
    assert lines[2] == "  2✎ what we see"
    assert lines[3].count("word") == 60
    assert lines[-1] == "     · fc left out"


def test_nothing_in_a_file_can_command_the_terminal() -> None:
    text = "\x1b]0;title\x07\x1b[31mred\r\x9b2J\u202e"
    session = session_of(*finished(LOAD, snapshot(row(text, last=text))), *finished(Note(text=text)))
    assert session.snapshot
    shown = "\n".join(
        [*report.history(session), *report.layer_table(session.snapshot), *report.totals(session.snapshot)]
    )
    assert "red" in shown
    assert all(char.isprintable() or char == "\n" for char in shown)


def test_the_layers_are_a_table_of_what_can_be_pruned() -> None:
    found = snapshot(row("conv1", nonzero=50, frozen=True, clusters=4, filters_zero=2), row("bn", prunable=False))
    head, line = report.layer_table(found)
    assert dict(zip(head.replace("last operation", "last").split(), line.split(), strict=False)) == {
        "layer": "conv1", "kind": "conv", "shape": "10×1×5×2", "non-zero": "50", "loaded": "100", "sparsity": "50.0",
        "filters": "%", "unique": "8/10", "k": "10", "inputs": "4", "MACs": "1/1", "frozen": "0", "last": "frozen",
    }  # fmt: skip


def test_the_sums_say_what_is_left_even_if_that_is_nothing() -> None:
    words = "\n".join(report.totals(snapshot(row(nonzero=0), test=0.1)))
    assert "0 not zero of 100 now, 100 loaded: 100.0 % gone, ∞ fewer" in words
    assert "test              10.0 % of 1,000 images" in words


@pytest.mark.parametrize(
    ("fraction", "words"),
    [(0.5, "50.0 %"), (1.0, "100.0 %"), (0.9997, "99.97 %"), (0.999999, "99.99 %"), (0.0, "0.0 %"), (None, "–")],
)
def test_a_share_is_never_rounded_to_all(fraction: float | None, words: str) -> None:
    assert report.share(fraction) == words


def test_the_curves_of_all_training_are_told_in_a_line_each_the_penalty_beside_the_loss() -> None:
    session = session_of(
        *(Metric(name="step/loss", x=x / 2, y=3.0) for x in range(6)),
        *(Metric(name="train/loss", x=x, y=y) for x, y in enumerate((2.0, None, 0.5, 0.75), 1)),
        *(Metric(name="train/penalty", x=x, y=1 / x) for x in (1, 2)),
    )
    assert [line.split() for line in report.curve_table(session)] == [
        ["curve", "first", "lowest", "highest", "last", "points"],
        ["train/loss", "2.0000", "0.5000", "2.0000", "0.7500", "4"],
        ["train/penalty", "1.0000", "0.5000", "1.0000", "0.5000", "2"],
    ]
    assert report.curve_table(session_of()) == []
