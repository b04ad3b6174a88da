"""Figures derived from sessions, against closed forms and the golden ones of the reference projects."""

import math

import pytest
from msgspec.structs import replace
from session_examples import LOAD, accuracy, finished, row, snapshot

from labbench.session import figures, measures_report
from labbench.session.compare import Verdict, judge
from labbench.session.events import Finished
from labbench.session.measures import LayerMeasures, Measures
from labbench.session.operations import Cluster, Evaluate, Finetune, Measure, Prune, Undo
from labbench.session.session import Session
from labbench.session.snapshot import LayerRow, Snapshot

MEASURES = Measures(
    layers=(LayerMeasures(name="conv1", weights=100, connected=40, idle=10, distinct=50),),
    stored=1_000,
    stored_loaded=4_000,
)


def resnet_20(mixed: dict[str, int]) -> tuple[LayerRow, ...]:
    """The convolutions of ResNet-20, option A, with the last K that names them."""
    shapes = {"conv1": (16, 3, 3, 3)}
    width = 16
    for stage, out in enumerate((16, 32, 64), 1):
        for block in range(3):
            shapes[f"layer{stage}.{block}.conv1"] = (out, width, 3, 3)
            shapes[f"layer{stage}.{block}.conv2"] = (out, out, 3, 3)
            width = out
    rows = []
    for name, shape in shapes.items():
        k = [value for pattern, value in mixed.items() if name == pattern or name.startswith(f"{pattern}.")][-1]
        weights = math.prod(shape)
        rows.append(
            row(
                name,
                weights,
                shape=shape,
                weights=weights,
                weights_loaded=weights,
                channels=shape[0],
                channels_loaded=shape[0],
                filters_unique=k,
                clusters=k,
            )
        )
    return tuple(rows)


def test_saved_parameters_and_f_of_k_of_the_mixed_setting_are_those_of_the_reference() -> None:
    mixed = {
        "layer1": 12, "layer2": 28, "layer3": 58, "conv1": 16, "layer1.0.conv1": 15, "layer1.0.conv2": 15,
        "layer3.2.conv1": 52, "layer3.2.conv2": 52,
    }  # fmt: skip
    rows = resnet_20(mixed)
    assert sum(one.weights for one in rows) == 267_696
    assert figures.saved_parameters(rows) == 34_848
    unique = sum(map(figures.unique_parameters, rows)) / 267_696
    assert f"{unique:.3f}" == "0.870"
    assert figures.trade_off(snapshot(*rows, validation=0.7189)) == pytest.approx(0.7189 / unique)
    assert figures.trade_off(snapshot(*rows)) is None
    assert figures.trade_off(snapshot(row(kind="linear"), validation=0.9)) is None


def test_bits_are_indices_and_centroids_where_clustered_and_floats_elsewhere() -> None:
    assert figures.bits(row(clusters=4, filters_unique=4)) == 10 * 2 + 32 * 4 * 10
    assert figures.bits(row(clusters=3, filters_unique=3)) == math.ceil(10 * math.log2(3)) + 32 * 3 * 10
    assert figures.bits(row(clusters=1, filters_unique=1)) == 32 * 10
    assert figures.bits(row()) == 3200


def test_shares_of_parts_are_of_what_is_there_now() -> None:
    found = figures.zero_shares(
        row(shape=(10, 4, 5, 2), filters_zero=2, inputs_zero=1, kernels_zero=30, columns_zero=8)
    )
    assert found == {"kernel": 0.75, "filter": 0.2, "channel": 0.25, "row": 0.2, "column": 0.2}
    assert figures.zero_shares(row(shape=(10, 20), kind="linear", inputs_zero=5, kernels_zero=9, columns_zero=5)) == {
        "kernel": None, "filter": 0.0, "channel": 0.25, "row": 0.0, "column": 0.25,
    }  # fmt: skip
    assert figures.zero_shares(row())["channel"] is None  # an older recording


def test_what_is_cut_away_shows_as_a_prune_ratio_though_no_zero_is_left() -> None:
    cut = row(nonzero=60, weights=60, shape=(6, 1, 5, 2), channels=6, filters_unique=6)
    assert cut.nonzero == cut.weights  # the trap: there is no zero to count
    assert cut.channels_cut == pytest.approx(0.4)
    words = "\n".join(measures_report.layer_lines(snapshot(cut), None))
    assert "40.0 %" in words


def test_macs_of_weights_that_are_not_zero() -> None:
    assert row(nonzero=25, macs=100 * 64).macs_nonzero == 25 * 64
    assert figures.macs_nonzero(snapshot(row(nonzero=25, macs=6400), row("b", 0, macs=6400))) == 1600


def test_compression_says_what_it_counts() -> None:
    shot = snapshot(row(nonzero=25))
    assert [one.ratio for one in figures.compressions(shot, MEASURES)] == [4.0, 110 / 35, 4.0]
    assert len(figures.compressions(shot, None)) == 2
    assert figures.compressions(snapshot(row(nonzero=0)), None)[0].ratio == math.inf
    assert figures.effective_sparsity(shot, MEASURES) == pytest.approx(0.6)
    words = "\n".join(measures_report.model_lines(shot, MEASURES))
    assert all(one.counts in words for one in figures.compressions(shot, MEASURES))


def session_of(*pairs: object) -> Session:
    session = Session()
    for operation, shot in zip(pairs[::2], pairs[1::2], strict=True):
        for event in finished(operation, shot):  # type: ignore[arg-type]
            session.append(0.0, event)
    return session


def shot(mark: str, masked: bool = False, **top1: float) -> Snapshot:
    return snapshot(row(masked=masked), fingerprint=mark, **top1)


def test_the_dense_model_is_the_last_measured_one_before_anything_was_pruned() -> None:
    session = session_of(
        LOAD, shot("a", validation=0.1),
        Finetune(), shot("b", validation=0.9, test=0.88),
        Prune(), shot("c", masked=True, validation=0.3),
        Undo(), shot("b", validation=0.9, test=0.88),
        Finetune(), shot("d", validation=0.95),
        Cluster(layers=("*",)), replace(shot("e", validation=0.5), rows=(row(clusters=2),)),
        Finetune(), shot("f", masked=True, validation=0.7, test=0.6),
    )  # fmt: skip
    validation, test = (figures.dense_accuracy(session, split) for split in ("validation", "test"))
    assert validation and validation.top1 == 0.95
    assert test and test.top1 == 0.88
    assert figures.dense_accuracy(session_of(LOAD, shot("a", validation=0.1)), "validation") is None


def test_what_was_measured_later_of_the_dense_model_counts() -> None:
    session = session_of(
        LOAD, shot("a"), Evaluate(), shot("a", test=0.5), Prune(), shot("b", masked=True, test=0.4)
    )  # fmt: skip
    found = figures.dense_accuracy(session, "test")
    assert found and found.top1 == 0.5


def test_classes_are_compared_with_the_dense_model() -> None:
    now = replace(accuracy(), confusion=((1, 3), (0, 0)))
    then = replace(accuracy(), confusion=((4, 0), (0, 5)))
    shown = replace(snapshot(), accuracy={"test": now})
    first, second = figures.class_figures(shown, "test", then)
    assert (first.images, first.recall, first.dense, first.change, first.mistaken) == (4, 0.25, 1.0, -0.75, "1")
    assert (second.images, second.recall, second.change, second.mistaken) == (0, None, None, "")
    words = "\n".join(measures_report.class_lines(shown, "test", then))
    assert "-75.0" in words and "dense model had top-1" in words


def test_a_close_look_belongs_to_the_model_it_was_taken_of() -> None:
    session = session_of(LOAD, shot("a"))
    session.append(1.0, Finished(operation=Measure(), measures=MEASURES))
    assert figures.measures_of(session) == MEASURES
    assert session.steps[-1].snapshot == shot("a") and len(session.done) == 1
    for event in finished(Prune(), shot("b", masked=True)):
        session.append(2.0, event)
    assert figures.measures_of(session) is None
    for event in finished(Undo(), shot("a")):
        session.append(3.0, event)
    assert figures.measures_of(session) == MEASURES


def test_a_repeated_close_look_is_compared_and_older_recordings_lack_nothing() -> None:
    then = Finished(operation=Measure(), measures=MEASURES)
    assert judge(then, then, (), False).verdict is Verdict.IDENTICAL
    other = replace(then, measures=replace(MEASURES, stored=999))
    assert judge(then, other, (), False).verdict is Verdict.DIFFERS
    assert "stored 1000, now 999" in judge(then, other, (), False).reason
    assert judge(then, other, (), True).verdict is Verdict.INCOMPARABLE
    old = Finished(operation=LOAD, snapshot=snapshot(row(), validation=0.5))
    new_accuracy = {"validation": replace(accuracy(0.5), top5=0.9)}
    newer = replace(snapshot(row(kernels_zero=1, inputs_zero=0, columns_zero=2)), accuracy=new_accuracy)
    assert judge(old, replace(old, snapshot=newer), (), False).verdict is Verdict.IDENTICAL
    back = judge(replace(old, snapshot=newer), old, (), False)
    assert back.verdict is Verdict.DIFFERS
