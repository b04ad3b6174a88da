"""The names of states: what a checkpoint is called, so that whoever has a session can tell which are its own."""

import hashlib

import msgspec

from labbench.session.operations import AnyOperation, Load
from labbench.session.session import Session

UNKNOWN = "unknown"


def state_key(before: str, operation: AnyOperation, fingerprint: str) -> str:
    """The name of the state that an operation made of the state called `before`: all that was done since the load,
    hashed, and the fingerprint of what came of it."""
    chain = b"" if isinstance(operation, Load) else before.partition("-")[0].encode()
    digest = hashlib.sha256(chain + msgspec.json.encode(operation)).hexdigest()
    return f"{digest[:24]}-{fingerprint or UNKNOWN}"


def run_key(state: str, operation: AnyOperation, device: str) -> str:
    """The name of a run under way: the operation, the state called so that it began with, and where it computes."""
    content = msgspec.json.encode((state, operation, device))
    return hashlib.sha256(content).hexdigest()[:24]


def keys_of(session: Session) -> dict[int, str]:
    """The name of the state at each point of a session, by its number."""
    found: dict[int, str] = {0: ""}
    for number, step in session.tree.items.items():
        mark = step.snapshot.fingerprint if step.snapshot else ""
        found[number] = state_key(found[session.tree.parents[number]], step.operation, mark)
    return {number: key for number, key in found.items() if number}
