"""The names of states: what a checkpoint is called, so that whoever has a session can tell which are its own."""

import hashlib

import msgspec
from msgspec.structs import fields

from labbench.session.operations import AnyOperation, Load
from labbench.session.session import Session

UNKNOWN = "unknown"


def state_key(before: str, operation: AnyOperation, fingerprint: str) -> str:
    """The name of the state that an operation made of the state called `before`: all that was done since the load,
    hashed, and the fingerprint of what came of it.

    Fields that are as by default do not count: a later labbench that has more of them finds what this one kept.
    """
    chain = b"" if isinstance(operation, Load) else before.partition("-")[0].encode()
    digest = hashlib.sha256(chain + msgspec.json.encode(_said(operation))).hexdigest()
    return f"{digest[:24]}-{fingerprint or UNKNOWN}"


def _said(operation: AnyOperation) -> tuple[str, dict[str, object]]:
    """The kind of an operation, and the fields that are not as by default, by their names."""
    found = {field.name: getattr(operation, field.name) for field in fields(operation) if field.required}
    for field in fields(operation):
        if not field.required:
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            if (value := getattr(operation, field.name)) != default:
                found[field.name] = value
    return type(operation).__name__, dict(sorted(found.items()))


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
