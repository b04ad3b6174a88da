"""Filters by their numbers in the loaded model: what a structured prune records, and what it cuts when it is given."""

from collections.abc import Iterable, Mapping, Sequence

from labbench.bench.errors import BenchError
from labbench.bench.pruning.graph import Group
from labbench.bench.states.chosen_layers import shortened
from labbench.bench.states.state import State
from labbench.session.check import listed


def numbers_of(units: Iterable[int], group: Group, state: State) -> tuple[int, ...]:
    """The numbers, in the loaded model, of the filters that these units of a group stand for."""
    kept = _kept(group.root, state)
    return tuple(sorted(kept[unit + block * group.units] for unit in units for block in range(group.blocks)))


def units_of(filters: Sequence[int], group: Group, state: State) -> list[int]:
    """The units that the filters of a group's root with these numbers are.

    Raises `BenchError` for a filter that is not there, for all of them, and for one that cannot go without others.
    """
    name, places = group.root, {number: place for place, number in enumerate(_kept(group.root, state))}
    if missing := sorted(set(filters) - places.keys()):
        loaded = next(layer.channels for layer in state.layers if layer.name == name)
        if unknown := [number for number in missing if not 0 <= number < loaded]:
            raise BenchError(f"{name} has no filter {unknown[0]}: it was loaded with {loaded}, numbered from 0")
        raise BenchError(f"filters of {name} that are already gone: {shortened(list(map(str, missing)))}")
    going = {places[number] for number in filters}
    units = {place % group.units for place in going}
    if len(going) != len(units) * group.blocks:
        raise BenchError(f"the channels of {name} lie in {group.blocks} groups: the same places must go from each")
    if len(units) == group.units:
        raise BenchError(f"filters names all of {name}: one must stay")
    return sorted(units)


def check_layers(filters: Mapping[str, Sequence[int]], groups: Iterable[Group], why: Mapping[str, str]) -> None:
    """Raise `BenchError` where filters are named of a layer that is none of the groups' roots.

    `why` tells of some layers why their group cannot be cut.
    """
    roots = {group.root: group for group in groups}
    for name in filters:
        if name in roots:
            continue
        if name in why:
            raise BenchError(f"{name} cannot be cut: {why[name]}")
        for root, group in roots.items():
            if name in group.outputs:
                raise BenchError(f"{name} loses the same filters as {root}: name them there")
        raise BenchError(f"filters names {name}, which is not among the layers to cut: {listed(roots) or 'none'}")


def _kept(name: str, state: State) -> Sequence[int]:
    """The numbers in the loaded model of a layer's filters."""
    kept = state.kept.get(name)
    return kept.outputs if kept and kept.outputs is not None else range(len(state.weight(name)))
