"""Which layers change together when filters are cut, as plain data."""

from torch import nn

from labbench.bench import surgery
from labbench.bench.state import CONV, State
from labbench.session.events import Coupled


def groups(state: State) -> tuple[Coupled, ...]:
    """Every group of coupled layers in forward order, those that cannot be cut too."""
    graph = surgery.Graph(state.copy_model().to("cpu"), state.data.shape)
    order = [layer.name for layer in state.layers]
    found: list[Coupled] = []
    for layer in state.layers:
        if not layer.prunable or any(layer.name in group.layers for group in found):
            continue
        channels = len(state.weight(layer.name))
        try:
            group = graph.group(layer.name)
        except surgery.Uncuttable as error:
            found.append(Coupled(layers=(layer.name,), channels=channels, refused=error.reason))
            continue
        members = [name for name in order if name in group.outputs]
        layers = [name for name in members if isinstance(state.module(name), (*CONV, nn.Linear))]
        found.append(
            Coupled(
                layers=tuple(layers),
                readers=tuple(name for name in order if name in group.inputs),
                norms=tuple(name for name in members if name not in layers),
                channels=channels,
                blocks=group.blocks,
                why=group.why,
            )
        )
    return tuple(found)
