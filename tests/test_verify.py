"""What a repeated step is compared with: what was in effect when it was recorded, whatever was left aside."""

from msgspec.structs import replace
from session_examples import HERE, LOAD, snapshot

from labbench.session.events import Finished, Ready
from labbench.session.jsonl import VERSION, Header
from labbench.session.operations import AnyOperation, Load, Prune, Undo
from labbench.session.session import Session
from labbench.verify import Checker, plan

MINE = replace(LOAD, model="net.py:build")


def doing(*operations: AnyOperation) -> Session:
    session = Session()
    session.append(0.0, Ready(environment=HERE))
    for number, operation in enumerate(operations):
        session.append(float(number), Finished(operation=operation, snapshot=snapshot()))
    return session


def reasons(code: str, *operations: AnyOperation) -> list[str]:
    """What is said of each step where the model of one's own is of that code here."""
    checker = Checker(plan(Header(labbench=VERSION, environment=HERE), doing(*operations)))
    here = [replace(one, code_sha256=code) if isinstance(one, Load) and one.code_sha256 else one for one in operations]
    for count in range(1, len(here) + 1):
        checker.judge(doing(*here[:count]))
    return [judgment.reason for judgment in checker.judgments.values()]


def test_other_code_is_told_of_the_model_in_effect_and_of_no_other() -> None:
    mine = replace(MINE, code_sha256="then")
    other = "net.py:build is not the code that was recorded"
    steps = (mine, Prune(), LOAD, Undo(), Prune(amount=0.7))
    assert reasons("then", *steps) == [""] * 5
    assert reasons("now", *steps) == [other, other, "", other, other]
