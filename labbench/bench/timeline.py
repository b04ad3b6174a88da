"""The states of one session: the tree of its changes, where one stands in it, and the state after each of them, from
memory, from a checkpoint, or by doing the changes again."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.opened import fresh
from labbench.bench.states.rescue import Place, Rescue
from labbench.bench.states.state import State
from labbench.bench.tools import Applied, Tools
from labbench.session.events import Restore
from labbench.session.keys import run_key, state_key
from labbench.session.operations import PLAIN, AnyOperation, Cluster, Finetune, Load, Prune, Standing, Walk, as_asked
from labbench.session.store import UNDER_WAY
from labbench.session.tree import Tree

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
        self.tree: Tree[Change] = Tree()
        self.recomputed = 0
        """Operations that `restore`, undo, redo and jump had to do again so far."""
        self._states: OrderedDict[str, State] = OrderedDict()
        self._run: Place | None = None
        """Where the last finetuning left something for the case of its interruption."""

    @property
    def done(self) -> tuple[Change, ...]:
        """The changes in effect, the load first."""
        return self.tree.path()

    @property
    def state(self) -> State | None:
        """The state now, if anything was loaded; it is always in memory."""
        return self._states[self.tree.items[self.tree.now].key] if self.tree.now else None

    def do(self, operation: AnyOperation, tools: Tools, measure: Callable[[State], State]) -> Applied:
        """Do an operation and stand behind it. `measure` completes the figures of a state that was changed.

        A disk that takes no checkpoints is a remark, once.
        """
        self.settle()
        with _sentences():
            self.tree.check(operation)
        done = self.done
        if isinstance(operation, Walk):
            goal = self.tree.path(self.tree.goal(operation))
            found = self._state_of(goal, tools, measure)
            self._stand(operation, goal[-1], found, keep=False)
            return Applied(found, operation, self.cache.unkept.said())
        state = self._with_teacher(operation, done, self.state, tools, measure)
        applied = apply(operation, state, replace(tools, rescue=self._rescue(operation, state)))
        made = measure(applied.state)
        if isinstance(operation, Standing):
            change = done[-1]
        else:
            key = state_key(done[-1].key if done else "", applied.operation, fingerprint(made))
            change = Change(applied.operation, key)
        self._stand(operation, change, made)
        return applied._replace(state=made, remarks=(*applied.remarks, *self.cache.unkept.said()))

    def settle(self) -> None:
        """Whoever asked for the last operation has heard what came of it: nothing of it is to be rescued any more."""
        if self._run:
            self._run.drop()
            self._run = None

    def restore(self, request: Restore, tools: Tools, measure: Callable[[State], State]) -> None:
        """Stand where another timeline stood. Raises `BenchError` if that cannot be had; this one then is as it was."""
        other = Timeline(self.cache)
        tree = other.tree
        for point in request.points:
            if not (0 < point.number <= request.count and point.number not in tree.items):
                raise BenchError(f"point {point.number} of the session does not follow")
            if point.parent not in (0, *tree.items):
                raise BenchError(f"point {point.number} was made from point {point.parent}, which is not there")
            if not point.parent and not isinstance(point.operation, Load):
                raise BenchError("a session begins with load")
            before = tree.items[point.parent].key if point.parent else ""
            key = state_key(before, point.operation, point.fingerprint)
            tree.items[point.number], tree.parents[point.number] = Change(point.operation, key), point.parent
        if request.now not in (0, *tree.items):
            raise BenchError(f"the session stands at point {request.now}, which is not there")
        tree.latest = {n: child for n, child in request.latest.items() if tree.parents.get(child) == n}
        tree.names = {name: number for name, number in request.names.items() if number in tree.items}
        tree.now, tree.count = request.now, request.count
        if tree.now:
            other._remember(other.done[-1].key, other._state_of(other.done, tools, measure), keep=False)
        self.tree, self._states = other.tree, other._states
        self.recomputed += other.recomputed

    def _rescue(self, operation: AnyOperation, state: State | None) -> Rescue:
        """Where this operation leaves what it takes to go on: under a name that only the same one here will have."""
        if state is None or not isinstance(operation, Finetune):
            return Rescue()
        done = self.done[-1].key.partition("-")[0]
        name = run_key(f"{done}-{fingerprint(state)}", operation, operation.device or str(state.device))
        self._run = Place(self.cache.store.folder / UNDER_WAY, name, self.cache.unkept)
        return Rescue(self._run)

    def _stand(self, operation: AnyOperation, change: Change, state: State, *, keep: bool = True) -> None:
        self.tree.take(operation, change)
        self._remember(change.key, state, keep=keep)

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
            if _unrecorded(applied.operation) != _unrecorded(change.operation):
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


def _unrecorded(operation: AnyOperation) -> AnyOperation:
    """The operation whatever code it was done with (whoever restores says that the code is another), and whether or not
    it says which filters went and how a run computed."""
    match operation:
        case Load():
            return msgspec.structs.replace(operation, code_sha256="")
        case Finetune():
            return msgspec.structs.replace(operation, **dict.fromkeys(PLAIN, "auto"))
    return as_asked(operation)


def is_whole(operation: AnyOperation, state: State) -> bool:
    """Whether a state from the cache has all that the operation leaves: of a stopped run, what it takes to go on."""
    if not (isinstance(operation, Finetune) and operation.steps):
        return True
    return state.paused is not None and _unrecorded(state.paused.operation) == _unrecorded(operation)


def until_dense(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """The changes up to the last dense state: before the first prune or cluster since the load."""
    start = max((n for n, change in enumerate(changes) if isinstance(change.operation, Load)), default=0)
    cuts = (n for n in range(start, len(changes)) if isinstance(changes[n].operation, Prune | Cluster))
    return changes[: next(cuts, len(changes))]


@contextmanager
def _sentences() -> Iterator[None]:
    """What the tree refuses is the user's mistake."""
    try:
        yield
    except ValueError as error:
        raise BenchError(str(error)) from None
