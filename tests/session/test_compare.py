"""Verdicts: when a step done again counts as the same, and what is said when it does not."""

import msgspec
import pytest
from session_examples import HERE, LOAD, accuracy, row, snapshot

from labbench.session.compare import Verdict, band, differences, elsewhere, environments, judge
from labbench.session.events import Finished, Ready
from labbench.session.operations import Finetune, Note, Operation, Prune, Unprune
from labbench.session.session import Session
from labbench.session.snapshot import Snapshot

OTHER = msgspec.structs.replace(HERE, torch="2.9", threads=8)


def verdict(
    old: Snapshot | None, new: Snapshot | None, *, away: bool = False, changes: tuple[Operation, ...] = (LOAD,)
) -> tuple[Verdict, str]:
    found = judge(Finished(operation=LOAD, snapshot=old), Finished(operation=LOAD, snapshot=new), changes, away)
    return found.verdict, found.reason


def test_equal_figures_are_identical_wherever_they_were_made() -> None:
    for away in (False, True):
        assert verdict(snapshot(test=0.9), snapshot(test=0.9), away=away) == (Verdict.IDENTICAL, "")


def test_times_and_remarks_are_never_compared() -> None:
    old = Finished(operation=LOAD, snapshot=snapshot(), seconds=1.0, remarks=("a",))
    new = Finished(operation=LOAD, snapshot=snapshot(), seconds=9.0)
    assert judge(old, new, (LOAD,), False).verdict == Verdict.IDENTICAL


def test_a_note_has_nothing_to_compare_and_is_identical() -> None:
    assert verdict(None, None) == (Verdict.IDENTICAL, "")


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (snapshot(row(), row("conv2", nonzero=74)), "conv2: nonzero 75, now 74"),
        (snapshot(row(), row("conv2", nonzero=75, norm=1.25)), "conv2: norm 1.5, now 1.25"),
        (snapshot(row(), row("fc", nonzero=75)), "the layers are not the same: conv2, fc"),
        (snapshot(row("conv2", nonzero=75), row()), "the layers are not the same: another order"),
        (snapshot(row(), row("conv2", nonzero=75), fingerprint="beef"), 'fingerprint "f00d", now "beef"'),
        (snapshot(row(), row("conv2", nonzero=75), test=0.91), "test: top1 0.9, now 0.91"),
    ],
)
def test_the_first_figure_that_is_not_the_same_here_is_named_with_both_values(new: Snapshot, reason: str) -> None:
    top1 = {"test": 0.9} if "test" in reason else {}
    old = snapshot(row(), row("conv2", nonzero=75), **top1)
    assert verdict(old, new)[0] == Verdict.DIFFERS
    assert reason in verdict(old, new)[1]


def test_elsewhere_weights_may_differ_and_accuracy_within_the_band() -> None:
    old, new = snapshot(fingerprint="1", validation=0.9), snapshot(fingerprint="2", validation=0.91)
    assert verdict(old, new, away=True)[0] == Verdict.WITHIN
    assert "90.00 %, now 91.00 % (band ±1.90)" in verdict(old, new, away=True)[1]
    assert verdict(old, snapshot(fingerprint="2", validation=0.88), away=True)[0] == Verdict.DIFFERS


def test_another_device_is_elsewhere() -> None:
    assert verdict(snapshot(fingerprint="1"), snapshot(fingerprint="2", device="cuda:0"))[0] == Verdict.WITHIN


@pytest.mark.parametrize(
    "changed", [row(nonzero=99), row(frozen=True), row(clusters=4), row(filters_unique=9), row(shape=(9, 1, 5, 2))]
)
def test_elsewhere_counts_are_still_exact(changed: object) -> None:
    assert isinstance(changed, type(row()))
    found, reason = verdict(snapshot(row()), snapshot(changed), away=True)
    assert found == Verdict.DIFFERS
    assert "counts must be equal" in reason


def test_elsewhere_a_global_cut_may_be_shared_out_differently_but_not_be_another_one() -> None:
    old = snapshot(row("a", nonzero=40), row("b", nonzero=60))
    new = snapshot(row("a", nonzero=41), row("b", nonzero=59))
    cut = (LOAD, Prune(scope="global"), Finetune())
    assert verdict(old, new, away=True)[0] == Verdict.DIFFERS
    assert verdict(old, new, away=True, changes=cut)[0] == Verdict.WITHIN
    more = snapshot(row("a", nonzero=41), row("b", nonzero=60))
    assert verdict(old, more, away=True, changes=cut)[0] == Verdict.DIFFERS
    assert verdict(old, more, away=True, changes=(*cut, Prune(layers=("b",))))[0] == Verdict.WITHIN


@pytest.mark.parametrize("change", [Prune(method="threshold"), Unprune()])
def test_elsewhere_zeros_that_the_weights_decide_about_may_differ_a_little(change: Operation) -> None:
    old, near, far = (snapshot(row(nonzero=nonzero, weights_loaded=100)) for nonzero in (50, 55, 56))
    assert verdict(old, near, away=True, changes=(LOAD, Prune()))[0] == Verdict.DIFFERS
    assert verdict(old, near, away=True, changes=(LOAD, change))[0] == Verdict.WITHIN
    assert verdict(old, near, away=True, changes=(LOAD, change))[1].startswith("counts are near")
    assert verdict(old, far, away=True, changes=(LOAD, change)) == (
        Verdict.DIFFERS,
        "conv1: nonzero 50, now 56 (5 may differ)",
    )


def test_elsewhere_another_filter_may_have_lost_all_of_its_weights() -> None:
    old, near, far = (snapshot(row(filters_unique=count, channels_loaded=10)) for count in (9, 8, 7))
    assert verdict(old, near, away=True)[0] == Verdict.DIFFERS
    assert verdict(old, near, away=True, changes=(LOAD, Prune()))[0] == Verdict.WITHIN
    assert verdict(old, far, away=True, changes=(LOAD, Prune()))[0] == Verdict.DIFFERS


@pytest.mark.parametrize("away", [False, True])
def test_what_was_measured_on_one_side_only_is_not_comparable(away: bool) -> None:
    found = verdict(snapshot(test=0.9), snapshot(), away=away)
    assert found == (Verdict.INCOMPARABLE, "accuracy on test was not measured here")
    found = verdict(snapshot(), snapshot(test=0.9), away=away)
    assert found == (Verdict.INCOMPARABLE, "accuracy on test was not measured in the recording")
    assert verdict(snapshot(fingerprint=""), snapshot(), away=away)[0] == Verdict.INCOMPARABLE
    assert verdict(snapshot(), None, away=away)[0] == Verdict.INCOMPARABLE


def test_figures_that_both_have_count_even_where_another_is_missing() -> None:
    assert verdict(snapshot(test=0.9), snapshot(row(nonzero=3)))[0] == Verdict.DIFFERS


def test_accuracies_on_different_images_are_not_comparable() -> None:
    old = msgspec.structs.replace(snapshot(fingerprint="1"), accuracy={"test": accuracy(0.9, images=300)})
    new = msgspec.structs.replace(snapshot(fingerprint="2"), accuracy={"test": accuracy(0.9, images=360)})
    assert verdict(old, new, away=True) == (Verdict.INCOMPARABLE, "test: 300 images then, 360 now")


def test_the_band_is_two_standard_errors_and_at_least_one_percent() -> None:
    assert band(accuracy(0.9, images=1000)) == pytest.approx(2 * (0.9 * 0.1 / 1000) ** 0.5)
    assert band(accuracy(0.99, images=10_000)) == 0.01
    assert band(accuracy(1.0, images=10)) == 0.01
    assert band(accuracy(0.0, images=0)) == 0.01


def test_differences_of_the_environment_are_listed_and_decide() -> None:
    assert differences(HERE, HERE) == []
    assert differences(HERE, OTHER) == ["torch 2.8 then, 2.9 now", "threads 2 then, 8 now"]
    assert elsewhere(HERE, OTHER) and not elsewhere(HERE, HERE)
    assert elsewhere(None, HERE)


def test_a_device_that_was_not_used_does_not_decide() -> None:
    gpu = msgspec.structs.replace(HERE, device="cuda:0", devices=("cuda:0", "cpu"))
    assert differences(HERE, gpu) == ["device cpu then, cuda:0 now"]
    assert not elsewhere(HERE, gpu)


def test_each_step_knows_where_it_was_done() -> None:
    session = Session()
    for event in (
        Finished(operation=LOAD, snapshot=snapshot()),
        Ready(environment=OTHER),
        Finished(operation=Note(text="moved")),
    ):
        session.append(0.0, event)
    assert environments(session, HERE) == [HERE, OTHER]
