"""The figures of a state that need no data: counts per layer, MACs, zeros, histograms. Changes nothing."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from labbench.bench.measuring.accuracy import finite
from labbench.bench.states.fingerprint import fingerprint, real_parts
from labbench.bench.states.state import Layer, State, numbers_in, trace_layers
from labbench.session.events import Sparsity
from labbench.session.figures import distinct_weights
from labbench.session.snapshot import LayerRow, Snapshot, Total

HISTOGRAM_BINS = 24
HASH_SEED = 1_000_003


def snapshot(state: State, *, final: bool = True) -> Snapshot:
    """What a screen may know of the state. A preview is not `final` and carries no fingerprint."""
    now = {layer.name: layer for layer in trace_layers(state.model, state.data.shape, state.device)}
    rows = tuple(row(state, layer, now[layer.name]) for layer in state.layers)
    prunable = [r for r in rows if r.prunable]
    return Snapshot(
        model=state.load.model,
        dataset=state.load.dataset,
        device=str(state.device),
        classes=state.data.classes,
        rows=rows,
        prunable=Total(
            loaded=sum(r.weights_loaded for r in prunable),
            now=sum(r.weights for r in prunable),
            nonzero=sum(r.nonzero for r in prunable),
        ),
        whole=Total(
            loaded=sum(layer.parameters for layer in state.layers),
            now=sum(map(numbers_in, state.model.parameters())),
            nonzero=sum(int(real_parts(p).count_nonzero()) for p in effective_parameters(state.model)),
        ),
        unique=sum(distinct_weights(r) for r in prunable),
        macs=sum(r.macs for r in rows),
        macs_loaded=sum(layer.macs for layer in state.layers),
        accuracy=dict(state.accuracy),
        fingerprint=fingerprint(state) if final else "",
    )


def row(state: State, loaded: Layer, now: Layer) -> LayerRow:
    """One layer's line of the table."""
    made = LayerRow(
        name=loaded.name,
        kind=loaded.kind,
        shape=(),
        parameters=now.parameters,
        weights=now.weights,
        weights_loaded=loaded.weights,
        nonzero=0,
        prunable=loaded.prunable,
        masked=loaded.name in state.masks and not bool(state.masks[loaded.name].all()),
        channels=now.channels,
        channels_loaded=loaded.channels,
        inputs=now.inputs,
        inputs_loaded=loaded.inputs,
        frozen=loaded.name in state.frozen,
        last=state.last.get(loaded.name, ""),
        macs=now.macs,
    )
    if not now.weights:
        return made
    weight = state.weight(loaded.name)
    clusters = state.clusters.get(loaded.name)
    counts, limit = histogram(weight)
    alive = weight != 0
    kernels = alive.reshape(*weight.shape[:2], -1).any(2) if loaded.prunable else None
    return LayerRow(
        **{name: getattr(made, name) for name in made.__struct_fields__}
        | {
            "shape": tuple(weight.shape),
            "nonzero": int(weight.count_nonzero()),
            "filters_zero": 0 if kernels is None else _zeros(kernels.any(1)),
            "inputs_zero": None if kernels is None else _zeros(kernels.any(0)),
            "kernels_zero": None if kernels is None else _zeros(kernels),
            "columns_zero": None if kernels is None else _zeros(alive.flatten(1).any(0)),
            "filters_unique": unique_filters(weight),
            "weights_unique": values_at_places(weight) if clusters is not None and clusters.dim() > 1 else None,
            "clusters": 0 if clusters is None else int(clusters.max()) + 1,
            "norm": finite(float(weight.cpu().double().norm())),
            "histogram": counts,
            "limit": limit,
        }
    )


def _zeros(alive: Tensor) -> int:
    return alive.numel() - int(alive.count_nonzero())


def effective_parameters(model: nn.Module) -> Iterator[Tensor]:
    """Every parameter as the forward pass uses it.

    Under `torch.nn.utils.prune` the one that is stored is `weight_orig`, whose zeros are in `weight_mask`.
    """
    buffers = dict(model.named_buffers())
    for name, parameter in model.named_parameters():
        mask = buffers.get(f"{name.removesuffix('_orig')}_mask") if name.endswith("_orig") else None
        yield parameter.detach() if mask is None else parameter.detach() * mask


def histogram(weight: Tensor) -> tuple[tuple[int, ...], float]:
    """Counts of the non-zero entries in equal bins from -limit to limit, and the limit; empty where there are none."""
    values = weight[weight != 0].float()
    limit = float(values.abs().max()) if len(values) else 0.0
    if not 0 < limit < float("inf"):
        return (), 0.0
    return tuple(int(n) for n in torch.histc(values.cpu(), HISTOGRAM_BINS, -limit, limit)), limit


def unique_filters(weight: Tensor) -> int:
    """How many of the filters (entries of the first dimension) differ in at least one bit.

    Each filter is hashed to 64 bits: exact but for a chance of about n²/2⁶⁵.
    """
    bits = (weight.flatten(1) if weight.dim() > 1 else weight[:, None]).cpu().float() + 0.0  # -0.0 is 0.0
    key = torch.Generator().manual_seed(HASH_SEED)
    factors = torch.randint(-(2**63), 2**63 - 1, (bits.shape[1],), generator=key) | 1
    return len((bits.contiguous().view(torch.int32).long() * factors).sum(1).unique())


def values_at_places(weight: Tensor) -> int:
    """Distinct values at each place of the filters (entries behind the first dimension), summed over the places."""
    ordered = weight.flatten(1).sort(dim=0).values
    return ordered.shape[1] + int((ordered[1:] != ordered[:-1]).count_nonzero())


def sparsity(state: State, model: nn.Module, epoch: int) -> Sparsity:
    """The layers of a model in training, for the table that follows it."""
    weights = {layer.name: model.get_parameter(f"{layer.name}.weight") for layer in state.layers if layer.prunable}
    return Sparsity(
        epoch=epoch,
        nonzero={name: int(weight.count_nonzero()) for name, weight in weights.items()},
        unique={name: unique_filters(weights[name].detach()) for name in state.clusters},
    )
