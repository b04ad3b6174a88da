"""What is left of a recipe after a recording of its first operations."""

import pytest
from msgspec.structs import replace
from session_examples import LOAD

from labbench.session.operations import PLAIN, AnyOperation, Finetune, Load, Note, Prune
from labbench.session.unfinished import rest_of

TUNE = Finetune(epochs=5)
ASKED: tuple[AnyOperation, ...] = (LOAD, Prune(amount=0.5), TUNE, Note(text="done"))
DONE: tuple[AnyOperation, ...] = (
    replace(LOAD, code_sha256="abc"),
    Prune(amount=0.5, filters={"conv1": (1, 2)}),
    replace(TUNE, **PLAIN),
    Note(text="done"),
)


@pytest.mark.parametrize("count", range(5))
def test_what_was_not_done_is_left(count: int) -> None:
    assert rest_of(ASKED, DONE[:count]) == ASKED[count:]


def test_a_training_that_was_stopped_goes_on_and_may_be_stopped_again() -> None:
    stopped = replace(DONE[2], steps=7)
    goes_on = Finetune(resume=True)
    assert rest_of(ASKED, (*DONE[:2], stopped)) == (goes_on, *ASKED[3:])
    again = replace(stopped, resume=True, steps=9)
    assert rest_of(ASKED, (*DONE[:2], stopped, again)) == (goes_on, *ASKED[3:])
    assert rest_of(ASKED, (*DONE[:2], stopped, replace(again, steps=0))) == ASKED[3:]


def test_a_stop_that_was_asked_for_is_not_gone_on_with() -> None:
    asked = (LOAD, replace(TUNE, steps=7), Note(text="done"))
    assert rest_of(asked, asked[:2]) == asked[2:]


@pytest.mark.parametrize(
    "done",
    [
        (Load(model="lenet-5", dataset="shapes"),),
        (DONE[0], Prune(amount=0.6)),
        (*DONE[:2], Finetune(epochs=6)),
        (*DONE[:2], Note(text="done")),
        (*DONE, Note(text="more")),
        (*DONE[:2], replace(TUNE, resume=True)),
    ],
)
def test_what_is_something_else_is_refused_with_its_step(done: tuple[AnyOperation, ...]) -> None:
    with pytest.raises(ValueError, match=rf"its step {len(done)} is {done[-1].describe()[:10]}"):
        rest_of(ASKED, done)


def test_another_way_of_computing_than_was_asked_for_is_something_else() -> None:
    asked = (LOAD, replace(TUNE, precision="bf16"))
    with pytest.raises(ValueError, match="its step 2"):
        rest_of(asked, (LOAD, replace(TUNE, **PLAIN)))
