"""The points of a session as a tree: every change of the model stands under the one it was made from, nothing is lost,
and undo, redo and jump only say where one stands."""

from typing import Generic, TypeVar

from msgspec import Struct

from labbench.session.operations import AnyOperation, Change, Jump, Name, Redo, Undo, Walk

Item = TypeVar("Item")


class Tree(Struct, Generic[Item]):
    """What one bench or session knows of its points. A point has the number of the operation that made it."""

    items: dict[int, Item] = {}
    """Number → what stands for the change that made it, in the order of time."""
    parents: dict[int, int] = {}
    """Number → the point it was made from; 0 for the first."""
    latest: dict[int, int] = {}
    """Number → which of the points under it one stood at, or under, last: where redo leads."""
    names: dict[str, int] = {}
    now: int = 0
    """Where one stands; 0 before the first change."""
    count: int = 0
    """Operations that were finished so far, those that change nothing among them."""

    def take(self, operation: AnyOperation, item: Item) -> None:
        """One more finished operation; `item` stands for it. Raises `ValueError`, for the user, where it cannot be."""
        match operation:
            case Undo() | Redo() | Jump():
                self._stand(self.goal(operation))
            case Name():
                self._name(operation)
            case Change():
                number = self.count + 1
                self.items[number], self.parents[number] = item, self.now
                if self.now:
                    self.latest[self.now] = number
                self.now = number
        self.count += 1

    def goal(self, operation: Walk) -> int:
        """The point where undo, redo or jump lead. Raises `ValueError`, for the user, where they lead nowhere."""
        match operation:
            case Undo():
                if not self.parents.get(self.now):
                    raise ValueError("nothing to undo: the model is as it was opened")
                return self.parents[self.now]
            case Redo():
                if self.now not in self.latest:
                    raise ValueError("nothing to redo: nothing was undone since the last change")
                return self.latest[self.now]
            case Jump():
                return self.point(operation.to)
            case _:
                raise AssertionError(f"{operation} leads to no point")

    def point(self, called: str) -> int:
        """The number of a point by number or name; "" is where one stands. Raises `ValueError`, for the user."""
        if not called and self.now:
            return self.now
        if called in self.names:
            return self.names[called]
        number = int(called) if called.isdecimal() and len(called) < 10 else 0
        if number in self.items:
            return number
        if 0 < number <= self.count:
            raise ValueError(f"step {number} changed nothing, so it is no point; points are {self._listed()}")
        raise ValueError(f"no point {called}; points are {self._listed()}")

    def check(self, operation: AnyOperation) -> None:
        """Raise `ValueError`, for the user, where `take` would."""
        if isinstance(operation, Walk):
            self.goal(operation)
        elif isinstance(operation, Name):
            self._nameable(operation)

    def path(self, number: int | None = None) -> tuple[Item, ...]:
        """What leads to a point (where one stands, if none is given), the first change first."""
        return tuple(self.items[n] for n in self.numbers(number))

    def numbers(self, number: int | None = None) -> tuple[int, ...]:
        """The points on the way to a point (where one stands, if none is given), the first one first."""
        found = []
        at = self.now if number is None else number
        while at:
            found.append(at)
            at = self.parents[at]
        return tuple(reversed(found))

    def ahead(self) -> tuple[Item, ...]:
        """What redo after redo would do, the next one last."""
        found, at = [], self.now
        while at := self.latest.get(at, 0):
            found.append(self.items[at])
        return tuple(reversed(found))

    def under(self, number: int) -> tuple[int, ...]:
        """The points made from a point, in the order of time."""
        return tuple(child for child, parent in self.parents.items() if parent == number)

    def name_of(self, number: int) -> str:
        """What a point is called, or ""."""
        return next((name for name, point in self.names.items() if point == number), "")

    def _stand(self, number: int) -> None:
        self.now = number
        while parent := self.parents[number]:
            self.latest[parent] = number
            number = parent

    def _name(self, operation: Name) -> None:
        number = self._nameable(operation)
        self.names = {name: point for name, point in self.names.items() if point != number} | {operation.name: number}

    def _nameable(self, operation: Name) -> int:
        if not self.now:
            raise ValueError("no point to name: no model is open")
        number = self.point(operation.at)
        if self.names.get(operation.name, number) != number:
            raise ValueError(
                f"{operation.name} is what step {self.names[operation.name]} is called; choose another name"
            )
        return number

    def _listed(self) -> str:
        named = [f"{number} ({name})" if (name := self.name_of(number)) else str(number) for number in self.items]
        return ", ".join(named if len(named) <= 12 else [*named[:5], "…", *named[-5:]]) or "none yet"
