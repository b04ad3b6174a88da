"""The menus: what is shipped is what the operations say, and a knob says what may be typed."""

from typing import Annotated, Literal

import pytest
from msgspec import Meta

from labbench.session.catalogue import Knob, entry_of, knobs_of, operation_entries, options_type, shipped
from labbench.session.check import bounds, wrong
from labbench.session.operations import Finetune


def test_the_shipped_operations_are_those_of_this_version() -> None:
    assert shipped().operations == operation_entries()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("models", {"lenet-300-100", "lenet-5", "resnet-20", "resnet-18"}),
        ("datasets", {"digits", "shapes", "mnist", "fashion-mnist", "cifar10", "cifar100"}),
        ("methods", {"magnitude", "random", "group-magnitude"}),
        ("regularizers", {"l1", "hoyer", "hoyer-square", "transformed-l1", "group-lasso", "group-hoyer"}),
        ("regularizers", {"group-hoyer-square", "bn-l1", "unit-norm"}),
    ],
)
def test_what_is_promised_is_shipped(kind: str, names: set[str]) -> None:
    assert names <= {entry.name for entry in getattr(shipped(), kind)}
    assert shipped().entry(kind, "nope") is None


def example(
    shape: tuple[int, ...],
    *,
    depth: Annotated[int, Meta(ge=1, lt=9, description="how deep")] = 3,
    rate: Annotated[float, Meta(gt=0, description="how fast")] = 0.5,
    norm: Literal[1, 2] = 2,
    wide: bool = False,
    needed: int,
) -> None:
    """An example

    with more to say.
    """


def test_keyword_arguments_with_defaults_are_knobs() -> None:
    depth, rate, norm, wide = knobs_of(options_type(example))
    assert depth == Knob(name="depth", kind="int", default=3, low=1, high=9, high_open=True, help="how deep")
    assert rate == Knob(name="rate", kind="float", default=0.5, low=0, low_open=True, help="how fast")
    assert (norm.kind, norm.choices, norm.default) == ("choice", (1, 2), 2)
    assert (wide.kind, wide.default) == ("bool", False)
    assert (bounds(depth), bounds(rate), bounds(norm)) == (" from 1 below 9", " above 0", "")


def test_the_first_line_of_a_docstring_is_the_title() -> None:
    entry = entry_of("example", example.__doc__ or "", ())
    assert (entry.title, entry.about) == ("An example", "with more to say.")


@pytest.mark.parametrize(
    ("name", "right", "not_right"),
    [
        ("epochs", [1, 100_000], [0, 100_001, 1.0, "1", True, None]),
        ("lr", [1e-9, 1, 3.5], [0, -1, float("nan"), float("inf"), "0.1", False]),
        ("momentum", [0, 0.99], [1, -0.1]),
        ("optimizer", ["sgd", "adam"], ["SGD", "", 1, None]),
        ("milestones", [[], [1, 2], (3,)], [3, [1.5], ["1"], [True], [2**70]]),
        ("augment", [True, False], [0, 1, "true"]),
        ("device", ["", "cuda:1"], [0, None]),
    ],
)
def test_a_knob_takes_what_it_says_and_nothing_else(name: str, right: list[object], not_right: list[object]) -> None:
    knob = next(knob for knob in knobs_of(Finetune) if knob.name == name)
    for value in right:
        assert wrong(knob, value) == "", value
    for value in not_right:
        assert wrong(knob, value) != "", value
