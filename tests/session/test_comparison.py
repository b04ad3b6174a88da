"""Models side by side: what differs, by how much, and the curves that led to each and to no other."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from session_examples import LOAD, accuracy, finished, row, snapshot
from test_session import session_of

from labbench.cells import cells
from labbench.session.comparison import (
    PARTS,
    Line,
    Subject,
    classes,
    heads,
    layers,
    legend,
    part,
    parting,
    subject,
    table,
    text_of,
    totals,
    trained,
)
from labbench.session.events import AnyEvent, Died, Failed, Finished, Metric, Started
from labbench.session.jsonl import BadFile, Header, Writer
from labbench.session.measures import Measures
from labbench.session.named import named_point
from labbench.session.operations import AnyOperation, Evaluate, Finetune, Jump, Measure, Name, Note, Prune
from labbench.session.session import Session
from labbench.session.snapshot import Snapshot
from labbench.session.training import training

HALF = Prune(amount=0.5)


def two(first: Snapshot, second: Snapshot) -> list[Subject]:
    session = session_of(*finished(LOAD, first), *finished(HALF, second))
    return [subject(session, 1), subject(session, 2)]


def named(lines: list[Line], *words: str) -> Line:
    return next(line for line in lines if tuple(word.strip() for word in line.words) == words)


def told(line: Line) -> list[str]:
    return [f"{cell.text} {cell.change}".strip() for cell in line.cells]


def run(*losses: float, operation: Finetune | None = None, first: int = 1) -> list[AnyEvent]:
    operation = operation or Finetune(epochs=len(losses))
    points = [Metric(name="validation/loss", x=float(x), y=y) for x, y in enumerate(losses, first)]
    return [Started(operation=operation), *points, Finished(operation=operation, snapshot=snapshot())]


# the curves of a branch


def test_the_curves_of_a_point_are_those_of_its_own_branch_joined_end_to_end() -> None:
    session = session_of(
        *finished(LOAD), *run(3.0, 2.0), *finished(HALF), *run(9.0, 9.0, 9.0), *finished(Jump(to="2")), *run(1.0)
    )  # fmt: skip
    assert session.tree.numbers() == (1, 2, 6)
    here, there = training(session, 6), training(session, 4)
    assert here.curves == {"validation/loss": ((1.0, 3.0), (2.0, 2.0), (3.0, 1.0))}
    assert (here.runs, here.epochs) == ((0.0, 2.0), 3.0)
    assert [y for _, y in there.curves["validation/loss"]] == [3.0, 2.0, 9.0, 9.0, 9.0]
    assert training(session, 1).curves == {} and training(session, 1).epochs == 0.0
    assert training(session, 3) == training(session, 2)


def test_a_run_that_failed_left_no_curve() -> None:
    broken = Finetune(epochs=2)
    session = session_of(
        *finished(LOAD), *run(3.0, operation=broken)[:2], Failed(error="inf", operation=broken), *run(2.0)
    )  # fmt: skip
    assert training(session, 2).curves == {"validation/loss": ((1.0, 2.0),)}


def test_a_resumed_run_is_one_with_the_run_it_goes_on_with() -> None:
    stopped, on = Finetune(epochs=3, steps=20), Finetune(epochs=3, resume=True)
    session = session_of(
        *finished(LOAD), *run(5.0), *run(4.0, 3.0, operation=stopped), *run(2.0, operation=on)
    )  # fmt: skip
    found = training(session, 4)
    assert found.runs == (0.0, 1.0)
    assert found.curves["validation/loss"] == ((1.0, 5.0), (2.0, 4.0), (3.0, 3.0), (4.0, 2.0))


def test_a_run_that_was_stopped_within_an_epoch_goes_on_there() -> None:
    """Its own axis begins where it was stopped: at 1¼ epochs, of which the last that was drawn is 1⅛."""
    stopped, on = Finetune(epochs=3, steps=20), Finetune(epochs=3, resume=True)
    drawn = [Metric(name="validation/loss", x=1.0, y=4.0), Metric(name="step/loss", x=1.125, y=3.5)]
    then = [
        Metric(name="step/loss", x=0.25, y=3.0),
        *(Metric(name="validation/loss", x=x, y=2.0) for x in (0.75, 1.75)),
    ]
    session = session_of(
        *finished(LOAD), *run(5.0),
        Started(operation=stopped), *drawn, Finished(operation=stopped, snapshot=snapshot()),
        Started(operation=on), *then, Finished(operation=on, snapshot=snapshot()),
    )  # fmt: skip
    found = training(session, 4)
    assert found.curves["validation/loss"] == ((1.0, 5.0), (2.0, 4.0), (3.0, 2.0), (4.0, 2.0))
    assert found.curves["step/loss"] == ((2.125, 3.5), (2.5, 3.0))
    assert (found.runs, found.epochs) == ((0.0, 1.0), 4.0)


def test_a_run_that_was_killed_and_gone_on_with_has_all_of_its_curve() -> None:
    killed = Finetune(epochs=4)
    points = [Metric(name="validation/loss", x=x, y=10 - x) for x in (1.0, 2.0, 3.0, 4.0)]
    session = session_of(
        *finished(LOAD), Started(operation=killed), *points[:3], Died(error="killed"), *finished(Note(text="again")),
        Started(operation=killed), *points[2:], Finished(operation=killed, snapshot=snapshot()),
    )  # fmt: skip
    assert training(session, 3).curves["validation/loss"] == ((1.0, 9.0), (2.0, 8.0), (3.0, 7.0), (4.0, 6.0))


def test_another_model_begins_its_own_curves() -> None:
    session = session_of(*finished(LOAD), *run(3.0, 2.0), *finished(LOAD), *run(1.0))
    assert training(session, 4).curves == {"validation/loss": ((1.0, 1.0),)}


def test_curves_part_where_the_branches_do() -> None:
    session = session_of(
        *finished(LOAD), *run(3.0, 2.0), *finished(HALF), *run(9.0), *finished(Jump(to="2")), *run(1.0)
    )  # fmt: skip
    found = [subject(session, number) for number in (4, 6, 2)]
    assert parting(found, "validation/loss") == 2.0
    assert parting([found[0], found[0]], "validation/loss") == 3.0
    assert parting([*found, subject(session, 1)], "validation/loss") == 0.0


# tables


def test_totals_say_what_differs_and_by_how_much() -> None:
    lines = totals(two(snapshot(validation=0.95), snapshot(row(nonzero=45), validation=0.9)))
    assert told(named(lines, "parameters")) == ["110", "110"]
    assert told(named(lines, "non-zero")) == ["110", "55 -55"]
    assert told(named(lines, "compression")) == ["×1.00", "×2.00"]
    assert told(named(lines, "sparsity")) == ["0.0 %", "55.0 % +55.0"]
    assert told(named(lines, "bytes (float32)")) == ["440", "440"]
    assert told(named(lines, "validation")) == ["95.0 %", "90.0 % -5.0"]
    assert {line.words[0] for line in lines if line.differs} >= {"non-zero", "compression", "sparsity", "validation"}
    assert not named(lines, "parameters").differs
    assert not any(line.words[0] in ("model", "data set") for line in lines)


def test_what_is_the_same_as_far_as_it_is_shown_does_not_differ() -> None:
    large = row(weights=1_000_000, weights_loaded=1_000_000, nonzero=1_000_000)
    lines = layers(two(snapshot(large), snapshot(replace(large, nonzero=999_998))))
    assert [(line.words[1], told(line)) for line in lines] == [("non-zero", ["1,000,000", "999,998 -2"])]


def test_what_was_not_measured_is_a_dash_and_no_difference() -> None:
    lines = totals(two(snapshot(validation=0.9, test=0.9), snapshot(fingerprint="2", validation=0.9)))
    assert told(named(lines, "test")) == ["90.0 %", "–"]
    assert not named(lines, "test").differs


def test_layers_are_listed_by_what_differs_in_them() -> None:
    before = snapshot(row("conv1"), row("fc"), row("bn", prunable=False))
    after = snapshot(row("conv1", clusters=3, filters_unique=3, frozen=True), row("fc"), row("bn", 5, prunable=False))
    found = layers(two(before, after))
    assert [(line.words, told(line)) for line in found] == [
        (("conv1", "clusters"), ["none", "3"]),
        (("conv1", "distinct"), ["100", "30 -70"]),
        (("conv1", "frozen"), ["no", "yes"]),
    ]
    everything = layers(two(before, after), everything=True)
    assert {line.words[0] for line in everything} == {"conv1", "fc"}
    assert [line for line in everything if line.differs] == found


def test_a_layer_that_only_one_of_the_models_has_differs() -> None:
    found = layers(two(snapshot(row("conv1")), snapshot(row("conv1"), row("more"))))
    assert {line.words[0] for line in found} == {"more"}
    assert told(named(found, "more", "channels")) == ["–", "10/10"]


def test_each_class_is_told_with_its_change() -> None:
    worse = replace(accuracy(0.6), confusion=((2, 2), (0, 4)))
    before, after = snapshot(validation=0.9), replace(snapshot(), accuracy={"validation": worse})
    assert [(line.words[0], told(line)) for line in classes(two(before, after), "validation")] == [
        ("0", ["80.0 %", "50.0 % -30.0"]),
        ("1", ["100.0 %", "100.0 %"]),
    ]
    assert classes(two(before, after), "test") == []


def test_what_was_measured_later_of_the_same_model_counts() -> None:
    first, other = snapshot(fingerprint="1", validation=0.9), snapshot(row(nonzero=40), fingerprint="2")
    session = session_of(*finished(LOAD, first), *finished(HALF, other), *finished(Jump(to="1"), first))
    for event in (
        *finished(Evaluate(), snapshot(fingerprint="1", test=0.7)),
        Finished(operation=Measure(), measures=Measures(layers=(), stored=77, stored_loaded=88)),
        *finished(Jump(to="2"), other),
    ):
        session.append(20.0, event)
    found = subject(session, 1)
    assert {split: one.top1 for split, one in found.snapshot.accuracy.items()} == {"validation": 0.9, "test": 0.7}
    assert told(named(totals([found, subject(session, 2)]), "bytes (gzip)")) == ["77", "–"]


def test_training_is_told_in_a_few_figures() -> None:
    session = session_of(*finished(LOAD), *run(3.0, 1.0, 2.0))
    lines = trained([subject(session, 1), subject(session, 2)])
    assert [told(line) for line in lines] == [["0", "3"], ["0", "1"], ["–", "–"], ["–", "1.0000"]]


# text


def four() -> list[Subject]:
    session = session_of(*finished(LOAD, snapshot(validation=0.95)))
    for nonzero in (90, 50, 10):
        for event in finished(HALF, snapshot(row(nonzero=nonzero), validation=nonzero / 100)):
            session.append(9.0, event)
    session.append(9.0, Finished(operation=Name(name="the smallest of them all")))
    return [subject(session, number) for number in (1, 2, 3, 4)]


def test_a_table_is_aligned_and_marks_what_differs_with_a_sign() -> None:
    subjects = four()
    lines = text_of(table(subjects, totals(subjects)))
    assert heads(subjects) == ("A 1", "B 2", "C 3", "D the smallest …")
    assert "D  step 4 «the smallest of them all» · prune" in legend(subjects)[3]
    sparsity = next(line for line in lines if line.startswith("sparsity"))
    assert sparsity.split() == [
        "sparsity",
        "0.0",
        "%",
        "≠10.0",
        "%",
        "+10.0",
        "≠50.0",
        "%",
        "+50.0",
        "≠90.0",
        "%",
        "+90.0",
    ]
    assert next(line for line in lines if line.startswith("parameters")).count("≠") == 0
    where = {line.index("%", 20) for line in lines if line.startswith(("sparsity", "validation", "frozen"))}
    assert len(where) == 1


@pytest.mark.parametrize("width", [None, 38, 78, 118, 198])
@pytest.mark.parametrize("names", [("", ""), ("dense", "the very smallest one"), ("層の名前", "é" * 30, "", "x" * 14)])
@pytest.mark.parametrize("which", ["totals", "layers", "classes", "curves"])
def test_every_head_ends_where_the_figures_under_it_end(which, names, width) -> None:
    layers_called = ("conv1", "conv1", "ここ", "conv1")
    shots = [
        snapshot(row(layer, 100 - 7 * number), row("fc", 90), validation=0.9 - number / 30)
        for number, layer in enumerate(layers_called)
    ]
    found = [replace(two(shots[0], shot)[1], name=name) for shot, name in zip(shots, names, strict=False)]
    lines = part(found, which, True, width)
    first = next(number for number, line in enumerate(lines) if "A " in line[-1][0])
    top = lines[first][-1][0]
    tops = heads(found) if heads(found)[0] in top else [head[0] for head in heads(found)]
    ends = [cells(top[: top.index(head) + len(head)]) for head in tops]
    for line in lines[first + 1 :]:
        at, seen = cells(line[0][0]), []
        for gap, figure in zip(line[1::2], line[2::2], strict=True):
            at += cells(gap[0])
            value = re.split(r" +[+-]", figure[0])[0].rstrip()
            seen.append(at + cells(value))
            at += cells(figure[0])
        assert seen == ends


def test_there_are_heads_for_any_number_of_models() -> None:
    many = two(snapshot(), snapshot())[:1] * 30
    assert heads(many)[25:28] == ("Z 1", "AA 1", "AB 1")
    assert len(legend(many)) == 30
    assert text_of(table(many, totals(many)))


def test_where_there_is_no_room_the_changes_go_and_no_figure_is_cut() -> None:
    subjects = four()
    wide = text_of(table(subjects, totals(subjects)))
    narrow = text_of(table(subjects, totals(subjects), 70))
    assert max(map(len, narrow)) <= 70 < max(map(len, wide))
    assert "+10.0" not in "".join(narrow) and "≠10.0 %" in "".join(narrow)


def test_four_models_fit_the_narrowest_screen_under_their_letters() -> None:
    large = snapshot(row(nonzero=13_776_000, weights=13_776_000, weights_loaded=13_776_000), validation=0.9)
    found = [replace(one, name="a name that is long") for one in two(large, large) * 2]
    lines = text_of(table(found, totals(found), 70))
    assert max(map(len, lines)) <= 70
    assert lines[0].split() == ["A", "B", "C", "D"]


def test_a_layer_is_named_once() -> None:
    subjects = two(snapshot(row("conv1")), snapshot(row("conv1", 40, masked=True)))
    lines = text_of(part(subjects, "layers"))
    assert [line.split()[0] for line in lines[1:]] == ["conv1", "non-zero", "held"]


@pytest.mark.parametrize("which", PARTS)
def test_of_two_equal_models_every_part_says_something_and_nothing_differs(which: str) -> None:
    subjects = two(snapshot(), snapshot())
    assert text_of(part(subjects, which))
    assert not any(differs for line in part(subjects, which) for _, differs in line)


def test_nothing_in_a_file_can_command_the_terminal() -> None:
    evil = "\x1b[31m\x07"
    session = session_of(*finished(LOAD, snapshot(row(evil))), *finished(Prune(layers=(evil,)), snapshot(row(evil, 3))))
    subjects = [subject(session, 1, evil), subject(session, 2, "other")]
    shown = [*legend(subjects), *(line for name in PARTS for line in text_of(part(subjects, name)))]
    assert all(line.isprintable() for line in shown)


# files


def written(path: Path, *operations: AnyOperation) -> Path:
    with Writer(path, Header(labbench=1)) as writer:
        for operation in operations:
            for event in finished(operation):
                writer.write(1.0, event)
    return path


def test_a_point_of_a_file_is_meant_by_number_by_name_or_as_where_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path / "a@b.jsonl", LOAD, HALF, Name(name="half"), Jump(to="1"))
    assert named_point(f"{path}@half")[0].number == 2
    assert named_point(f"{path}@2")[0].name == "half"
    assert named_point(str(path))[0].number == 1
    assert named_point(str(path))[0].source == "a@b"


def test_what_cannot_be_compared_is_refused_with_what_would_be_right(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", LOAD, HALF)
    empty = written(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="no point 7; points are 1, 2"):
        named_point(f"{path}@7")
    with pytest.raises(ValueError, match="no model was opened"):
        named_point(str(empty))
    with pytest.raises(BadFile):
        named_point(str(tmp_path / "none.jsonl@3"))
    with pytest.raises(ValueError, match="no figures"):
        subject(_without_figures(), 1)


def _without_figures() -> Session:
    return session_of(Started(operation=LOAD), Finished(operation=LOAD))
