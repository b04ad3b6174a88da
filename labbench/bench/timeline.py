"""The states of one session: which changes are in effect, which can be redone, and the state after each of them, from
memory, from a checkpoint, or by doing the changes again."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from labbench.bench.apply import Applied, Tools, apply
from labbench.bench.checkpoints import Cache
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.loading import fresh
from labbench.bench.measure import fingerprint
from labbench.bench.state import State
from labbench.session.operations import (
    AnyOperation,
    Cluster,
    Evaluate,
    Finetune,
    Load,
    Measure,
    Note,
    Prune,
    Redo,
    Undo,
)
from labbench.session.session import walk

IN_MEMORY = 6  # states: enough to step back and forth without the disk; a ResNet-18 is 45 MB


@dataclass(frozen=True)
class Change:
    """One operation that made a state, and the name of that state."""

    operation: AnyOperation
    key: str
    """Hash of the operations since the load, and the fingerprint of what they made."""


class Timeline:
    """The walk of a session over states. Only `do` and `restore` move it."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.done: tuple[Change, ...] = ()
        self.undone: tuple[Change, ...] = ()
        self.recomputed = 0
        """Operations that `restore`, undo and redo had to do again so far."""
        self._states: OrderedDict[str, State] = OrderedDict()

    @property
    def state(self) -> State | None:
        """The state now, if anything was loaded; it is always in memory."""
        return self._states[self.done[-1].key] if self.done else None

    def do(self, operation: AnyOperation, tools: Tools, measure: Callable[[State], State]) -> Applied:
        """Do an operation and stand behind it. `measure` completes the figures of a state that was changed."""
        if isinstance(operation, Undo | Redo):
            return self._walk(operation, tools, measure)
        state = self._with_teacher(operation, self.done, self.state, tools, measure)
        applied = apply(operation, state, tools)
        made = measure(applied.state)
        if isinstance(operation, Note | Evaluate | Measure):
            if self.done:
                self._remember(self.done[-1].key, made)
            return applied._replace(state=made)
        change = Change(applied.operation, _key(self.done, applied.operation, fingerprint(made)))
        self.done, self.undone = walk(self.done, self.undone, operation, change)
        self._remember(change.key, made)
        return applied._replace(state=made)

    def restore(
        self,
        done: tuple[AnyOperation, ...],
        undone: tuple[AnyOperation, ...],
        fingerprints: tuple[str, ...],
        tools: Tools,
        measure: Callable[[State], State],
    ) -> None:
        """Stand where another timeline stood. Raises `BenchError` if that cannot be had; this one then is as it was."""
        if done and not isinstance(done[0], Load):
            raise BenchError("a session begins with load")
        marks = fingerprints if len(fingerprints) == len(done) + len(undone) else ("",) * (len(done) + len(undone))
        other = Timeline(self.cache)
        for operation, mark in zip(
            (*done, *reversed(undone)), (*marks[: len(done)], *reversed(marks[len(done) :])), strict=True
        ):
            key = _key(other.done, operation, mark)
            other.done = (*other.done, Change(operation, key))
        if undone:
            other.undone = tuple(reversed(other.done[len(done) :]))
            other.done = other.done[: len(done)]
        if other.done:
            other._remember(other.done[-1].key, other._state_of(other.done, tools, measure), keep=False)
        self.done, self.undone, self._states = other.done, other.undone, other._states
        self.recomputed += other.recomputed

    def _walk(self, operation: Undo | Redo, tools: Tools, measure: Callable[[State], State]) -> Applied:
        try:
            done, undone = walk(self.done, self.undone, operation, Change(operation, ""))
        except ValueError as error:
            raise BenchError(str(error)) from None
        state = self._state_of(done, tools, measure)
        self.done, self.undone = done, undone
        self._remember(done[-1].key, state, keep=False)
        return Applied(state, operation)

    def _state_of(self, changes: tuple[Change, ...], tools: Tools, measure: Callable[[State], State]) -> State:
        start = max(number for number, change in enumerate(changes) if isinstance(change.operation, Load))
        state: State | None = None
        missing: list[Change] = []
        for change in reversed(changes[start:]):
            state = self._kept(change, changes[start], tools)
            if state and is_whole(change.operation, state):
                state = self._with_dense(changes[: len(changes) - len(missing)], state, tools)
                break
            missing.append(change)
        for number, change in enumerate(reversed(missing), len(changes) - len(missing)):
            self.recomputed += 1
            state = self._with_teacher(change.operation, changes[:number], state, tools, measure)
            applied = apply(change.operation, state, tools)
            if _without_hash(applied.operation) != _without_hash(change.operation):
                raise Stopped  # half of it would be another state
            state = measure(applied.state)
            self.cache.put(change.key, state)
        assert state is not None
        return state

    def _kept(self, change: Change, load: Change, tools: Tools) -> State | None:
        if change.key in self._states:
            return self._states[change.key]
        assert isinstance(load.operation, Load)
        return self.cache.get(change.key, partial(fresh, load.operation, tools.data, tools.own))

    def _with_dense(self, changes: tuple[Change, ...], state: State, tools: Tools) -> State:
        """The state after these changes with the dense one that it came from, if that is in memory or in the cache."""
        dense = until_dense(changes)
        if state.dense or len(dense) == len(changes):
            return state
        load = next(change for change in reversed(changes) if isinstance(change.operation, Load))
        return replace(state, dense=self._kept(dense[-1], load, tools))

    def _with_teacher(
        self,
        operation: AnyOperation,
        changes: tuple[Change, ...],
        state: State | None,
        tools: Tools,
        measure: Callable[[State], State],
    ) -> State | None:
        """The state after these changes, with the dense one if the operation distills from it; computed if need be."""
        if state is None or state.dense or not isinstance(operation, Finetune):
            return state
        settings = state.paused.operation if operation.resume and state.paused else operation
        dense = until_dense(changes)
        if not settings.distill or len(dense) == len(changes):
            return state
        return replace(state, dense=self._state_of(dense, tools, measure))

    def _remember(self, key: str, state: State, *, keep: bool = True) -> None:
        self._states[key] = state
        self._states.move_to_end(key)
        while len(self._states) > IN_MEMORY:
            self._states.popitem(last=False)
        if keep:
            self.cache.put(key, state)


def _without_hash(operation: AnyOperation) -> AnyOperation:
    """The operation whatever code it was done with: whoever restores says that the code is another."""
    return msgspec.structs.replace(operation, code_sha256="") if isinstance(operation, Load) else operation


def is_whole(operation: AnyOperation, state: State) -> bool:
    """Whether a state from the cache has all that the operation leaves: of a stopped run, what it takes to go on."""
    return not (isinstance(operation, Finetune) and operation.steps) or state.paused is not None


def until_dense(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """The changes up to the last dense state: before the first prune or cluster since the load."""
    start = max((n for n, change in enumerate(changes) if isinstance(change.operation, Load)), default=0)
    cuts = (n for n in range(start, len(changes)) if isinstance(changes[n].operation, Prune | Cluster))
    return changes[: next(cuts, len(changes))]


def _key(before: tuple[Change, ...], operation: AnyOperation, mark: str) -> str:
    since = [change.operation for change in before]
    loads = [number for number, earlier in enumerate(since) if isinstance(earlier, Load)]
    chain = [operation] if isinstance(operation, Load) else [*since[loads[-1] :], operation]
    return f"{hashlib.sha256(msgspec.json.encode(chain)).hexdigest()[:24]}-{mark or 'unknown'}"
