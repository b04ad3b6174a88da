"""What is set and which seeds are meant, and what becomes of the operations."""

import pytest
from session_examples import LOAD

from labbench.session.check import BadInput
from labbench.session.operations import AnyOperation, Cluster, Finetune, Load, Note, Prune
from labbench.session.vary import seeds_from, setting_from, shifted, varied

STEPS: tuple[AnyOperation, ...] = (
    Load(model="lenet-5", dataset="digits", weights="a.pt", sha256="hash"),
    Prune(method="group-magnitude", filters={"conv1": (1,)}, seed=3),
    Finetune(schedule="multi-step"),
    Prune(method="group-magnitude", amount=0.7, filters={"conv1": (2,)}),
    Note(text="done"),
)


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        ("2.amount=0.6", 2, Prune(method="group-magnitude", amount=0.6, seed=3)),
        ("2.amount=1", 2, Prune(method="group-magnitude", amount=1.0, seed=3)),
        ("2.layers=conv1, fc*", 2, Prune(method="group-magnitude", layers=("conv1", "fc*"), seed=3)),
        ("2.options.p=1", 2, Prune(method="group-magnitude", options={"p": 1}, seed=3)),
        ("2.amounts.layer1.*=0.3", 2, Prune(method="group-magnitude", amounts={"layer1.*": 0.3}, seed=3)),
        ("2.lenient=true", 2, Prune(method="group-magnitude", lenient=True, seed=3)),
        ("3.milestones=5,8", 3, Finetune(schedule="multi-step", milestones=(5, 8))),
        ("3.keep=last", 3, Finetune(schedule="multi-step", keep="last")),
        ("5.text=a=b", 5, Note(text="a=b")),
        ("5.text=12", 5, Note(text="12")),
        ("1.weights=", 1, Load(model="lenet-5", dataset="digits")),
    ],
)
def test_a_field_is_set_by_its_type(text: str, number: int, expected: AnyOperation) -> None:
    assert varied(STEPS, [setting_from(text)])[number - 1] == expected


def test_methods_choose_their_filters_again_from_the_varied_step_on() -> None:
    made = varied(STEPS, [setting_from("3.epochs=2")])
    assert made[:2] == STEPS[:2]
    assert made[3] == Prune(method="group-magnitude", amount=0.7)
    assert varied(STEPS, []) == STEPS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.amount=1", "no step 0; the steps are 1 to 5"),
        ("2.amount=50", "for 50 % write 0.5"),
        ("2.amount=nan", "amount must be a number from 0 to 1"),
        ("2.amount=much", "amount must be a number from 0 to 1, not 'much'"),
        ("2.amount.x=1", "amount of prune holds no values by name; write amount=VALUE"),
        ("2.options=1", "options of prune holds values by name; write options.NAME=VALUE"),
        ("2.filters=1", "write filters.NAME=VALUE"),
        ("2.options.q=1", "has no key 'q'"),
        ("3.optimizer=sdg", "optimizer must be one of sgd, adam, adamw"),
        ("3.milestones=a", "milestones must be a list of whole numbers"),
        ("5.amount=1", "note has no field amount; its fields are text"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_could(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        varied(STEPS, [setting_from(text)])
    assert words in str(refused.value) and str(refused.value).startswith(text)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("0-2", (0, 1, 2)), ("0,3,7", (0, 3, 7)), ("4-4", (4,)), ("1,0-2", (1, 0, 2))],
)
def test_seeds_are_a_range_a_list_or_a_count(text: str, seeds: tuple[int, ...]) -> None:
    assert seeds_from(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "a", "2-1", "1,,2", "-1", "0-99999999", "9" * 5000, "٣"])
def test_what_means_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        seeds_from(text)


def test_every_seed_is_shifted_and_filters_are_chosen_again() -> None:
    made = shifted((LOAD, *STEPS[1:3], Cluster(layers=("conv1",), seed=2**31 - 1), STEPS[4]), 2)
    assert [getattr(operation, "seed", None) for operation in made] == [2, 5, 2, 1, None]
    assert made[1].filters == {}  # type: ignore[union-attr]
    assert shifted(STEPS, 0) == STEPS
