"""The names of states: whoever has the session file has the names of its checkpoints."""

import msgspec
import pytest
from session_examples import LOAD, OPERATIONS, finished, snapshot

from labbench.session.keys import keys_of, state_key
from labbench.session.operations import AnyOperation, Finetune, Note, Prune, Undo
from labbench.session.session import Session

LATER = [
    (LOAD, "3d36e27b80364cb3e7f609ee"),
    (Prune(layers=("conv*",), amount=0.25, options={"p": 1}), "5466c4fcf7b6ecea40527f1b"),
    (Finetune(epochs=3, lr=0.01, steps=7), "c132fc25299361d7f6058b82"),
]
"""Written down once: a field that is added to an operation must not lose the checkpoints and archives of before."""


@pytest.mark.parametrize(("operation", "key"), LATER, ids=str)
def test_what_an_earlier_version_kept_is_found(operation: AnyOperation, key: str) -> None:
    assert state_key("a-b", operation, "f00d") == f"{key}-f00d"


def test_other_operations_and_other_ways_have_other_names() -> None:
    names = [state_key("a-b", operation, "") for operation in OPERATIONS]
    assert len(set(names)) == len({msgspec.json.encode(operation) for operation in OPERATIONS})
    assert state_key("a-b", Prune(), "x") != state_key("c-b", Prune(), "x")
    assert state_key("a-b", Prune(), "x") == state_key("a-c", Prune(), "x"), "what was done counts"
    assert state_key("a-b", LOAD, "x") == state_key("", LOAD, "x"), "a load begins anew"
    assert state_key("", LOAD, "").endswith("-unknown")


def test_the_points_of_a_session_have_names_and_the_rest_has_none() -> None:
    session = Session()
    for operation in (LOAD, Note(text="hello"), Prune(), Undo(), Prune(amount=0.9)):
        for event in finished(operation, None if isinstance(operation, Note) else snapshot(fingerprint="f00d")):
            session.append(0.0, event)
    first = state_key("", LOAD, "f00d")
    assert keys_of(session) == {
        1: first,
        3: state_key(first, Prune(), "f00d"),
        5: state_key(first, Prune(amount=0.9), "f00d"),
    }


def test_a_field_that_is_new_and_as_before_changes_no_name() -> None:
    later = msgspec.defstruct("Prune", [("novelty", int, 0)], bases=(Prune,), frozen=True, kw_only=True, tag="later")
    assert state_key("", later(amount=0.3), "") == state_key("", Prune(amount=0.3), "")
    assert state_key("", later(amount=0.3, novelty=1), "") != state_key("", Prune(amount=0.3), "")
