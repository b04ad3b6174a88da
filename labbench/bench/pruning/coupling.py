"""Which layers change together when filters are cut, as plain data."""

from collections.abc import Callable, Iterable

from torch import nn

from labbench.bench.errors import never
from labbench.bench.pruning.graph import Graph, Group, Uncuttable
from labbench.bench.pruning.twin import check_twin, sound
from labbench.bench.states.state import CONV, State
from labbench.bench.states.surgery import Gone, part
from labbench.session.events import Coupled


def groups(state: State, stopped: Callable[[], bool] = never) -> tuple[Coupled, ...]:
    """Every group of coupled layers in forward order, those that cannot be cut too. Raises `Stopped`.

    Whether a group can be cut is tried with one of its channels.
    """
    model = state.copy_model().to("cpu")
    graph = Graph(state.copy_model().to("cpu"), state.data.shape, stopped)
    found: dict[str, Group] = {}
    refused: dict[str, str] = {}
    for layer in state.layers:
        if layer.prunable and not any(layer.name in group.outputs for group in found.values()):
            try:
                found[layer.name] = graph.group(layer.name)
            except Uncuttable as error:
                refused[layer.name] = error.why
    several = [group for group in found.values() if group.units > 1]
    _, wrong = sound(several, lambda some: check_twin(model, _one_of_each(some), state.data.shape, stopped))
    refused |= {group.root: group.differs(error.reason, error.detail).why for group, error in wrong}
    names = [layer.name for layer in state.layers if layer.name in found or layer.name in refused]
    return tuple(_coupled(state, name, found.get(name), refused.get(name, "")) for name in names)


def _one_of_each(groups: Iterable[Group]) -> Gone:
    gone: Gone = {}
    for group in groups:
        for name, (outputs, inputs) in group.without([0]).items():
            before = gone.get(name, (set(), set()))
            gone[name] = (before[0] | outputs, before[1] | inputs)
    return gone


def _coupled(state: State, name: str, group: Group | None, refused: str) -> Coupled:
    channels = len(state.weight(name))
    if group is None:
        return Coupled(layers=(name,), channels=channels, refused=refused)
    members = [layer.name for layer in state.layers if layer.name in group.outputs]
    layers = [other for other in members if isinstance(part(state.model, other), (*CONV, nn.Linear))]
    return Coupled(
        layers=tuple(layers),
        readers=tuple(layer.name for layer in state.layers if layer.name in group.inputs),
        norms=tuple(other for other in members if other not in layers),
        channels=channels,
        blocks=group.blocks,
        why=group.why,
        refused=refused,
    )
