"""Which layers an operation means, and whether a function's options are right."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from torch import Tensor, nn

from labbench.bench.errors import BenchError
from labbench.bench.states.state import CONV, State
from labbench.session.catalogue import knobs_of, options_type
from labbench.session.check import BadInput, check_fields, listed, meant
from labbench.session.operations import Prune, Value

NAMES_SHOWN = 12
WILD = frozenset("*?[")


@dataclass(frozen=True)
class Chosen:
    """Layers in forward order, and how they were named."""

    layers: tuple[str, ...]
    literal: frozenset[str]
    """Those that were named in full: what cannot be done to them is refused, not left out."""
    prunable: frozenset[str]
    """Every conv and linear layer of the model."""
    remarks: tuple[str, ...] = ()


def choose(state: State, patterns: Iterable[str], *, norms: bool = False) -> Chosen:
    """The conv and linear layers (and, with `norms`, any layer) that names and globs mean.

    A name of a module that holds layers means all of them: layer1 is layer1.*. Raises `BenchError` for a name that is
    not there, a glob that matches nothing, or no name at all.
    """
    names = [layer.name for layer in state.layers if layer.prunable or norms]
    found: set[str] = set()
    literal: set[str] = set()
    for pattern in patterns:
        if pattern in names:
            literal.add(pattern)
            continue
        found |= matching(pattern, names, state)
    if not found | literal:
        raise BenchError("no layer was named; name layers, or * for all of them")
    prunable = frozenset(layer.name for layer in state.layers if layer.prunable)
    return Chosen(tuple(n for n in names if n in found | literal), frozenset(literal), prunable)


def matching(pattern: str, names: Sequence[str], state: State) -> set[str]:
    """The names that one name, glob, or name of a module that holds layers means. Raises `BenchError` for none."""
    if found := _fitting(pattern, names):
        return found
    if what := _what_else(pattern, state):
        raise BenchError(f"{what}; the layers that can be meant here are {shortened(names)}")
    what = f"no layer matches {pattern}" if WILD & set(pattern) else f"no such layer: {pattern}"
    raise BenchError(f"{what}; the layers are {shortened(names)}{meant(pattern, names)}")


def _fitting(pattern: str, names: Sequence[str]) -> set[str]:
    if pattern in names:
        return {pattern}
    glob = pattern if WILD & set(pattern) else f"{pattern}.*"
    return {name for name in names if fnmatch.fnmatchcase(name, glob)}


def _what_else(pattern: str, state: State) -> str:
    """What of the model a name or glob means that is no conv or linear layer, in words; empty for nothing at all."""
    modules = dict(state.model.named_modules())
    rows = [layer.name for layer in state.layers]
    if pattern and pattern in modules:
        kind = type(modules[pattern]).__name__.removeprefix("Parametrized")
        if isinstance(modules[pattern], (*CONV, nn.Linear)):
            return f"{pattern} is a {kind} whose weight is computed, shared or complex, so nothing of it is pruned"
        inside = sorted(_fitting(pattern, rows) - {pattern})
        if inside:
            return f"{pattern} is a {kind} without a conv or linear layer: it holds {shortened(inside)}"
        own = any(True for _ in modules[pattern].parameters())
        return (
            f"{pattern} is a {kind}, no conv or linear layer" if own else f"{pattern} is a {kind}, without parameters"
        )
    if pattern in rows:
        return f"{pattern} is a parameter that belongs to no conv or linear layer"
    others = [name for name in rows if name in _fitting(pattern, rows)]
    return f"{pattern} means {shortened(others)}, no conv or linear layer" if others else ""


def choose_unfrozen(state: State, patterns: Iterable[str], what: str) -> Chosen:
    """The layers for an operation that changes weights: frozen ones are left out of globs, and refused by name."""
    chosen = choose(state, patterns)
    frozen = [name for name in chosen.layers if name in state.frozen]
    refused = [name for name in frozen if name in chosen.literal]
    if refused:
        raise BenchError(f"cannot {what} {listed(refused)}: frozen; unfreeze first, or leave it out")
    rest = tuple(name for name in chosen.layers if name not in state.frozen)
    if not rest:
        raise BenchError(f"nothing to {what}: every layer that was named is frozen; unfreeze some first")
    remarks = (f"left out, frozen: {shortened(frozen)}",) if frozen else ()
    return Chosen(rest, chosen.literal, chosen.prunable, remarks)


def refuse_endless(parameters: Mapping[str, Tensor], why: str) -> None:
    """Raise `BenchError` where one of these, by name, has an entry that is NaN or infinite."""
    endless = [name for name, values in parameters.items() if not bool(values.isfinite().all())]
    if endless:
        raise BenchError(f"{shortened(endless)}: not finite (NaN or inf), so {why}; undo to before that")


def amounts_of(operation: Prune, state: State, chosen: Chosen) -> dict[str, float]:
    """The amount for each chosen layer: `amount`, or that of the last name or glob of `amounts` that means it.

    Raises `BenchError` for a name or glob that means no layer, or none of the chosen ones.
    """
    amounts = dict.fromkeys(chosen.layers, operation.amount)
    if operation.amounts and operation.scope == "global":
        raise BenchError("amounts are for each layer: the scope must be layer, not global")
    for pattern, amount in operation.amounts.items():
        meant_layers = choose(state, [pattern]).layers
        if not amounts.keys() & set(meant_layers):
            raise BenchError(f"amounts: {pattern} is none of the layers to prune: {shortened(chosen.layers)}")
        amounts |= {name: amount for name in meant_layers if name in amounts}
    return amounts


def shortened(names: Sequence[str]) -> str:
    """Names for a sentence, at most a dozen of them."""
    return listed(names[:NAMES_SHOWN]) + (f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else "")


def checked_options(function: Callable[..., Any], options: Mapping[str, Value], owner: str) -> dict[str, Any]:
    """The keyword arguments that these options mean. Raises `BenchError` for a wrong name, type or range."""
    kind = options_type(function)
    try:
        check_fields(owner, knobs_of(kind), options)
        return msgspec.structs.asdict(msgspec.convert(dict(options), kind))
    except (BadInput, msgspec.ValidationError) as error:
        raise BenchError(str(error)) from None
