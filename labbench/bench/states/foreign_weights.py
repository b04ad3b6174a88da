"""State dicts as other programs leave them: wrapped in a checkpoint, with prefixes of a wrapper, with the pairs of
`torch.nn.utils.prune`. What was undone is told."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from labbench.bench.errors import BenchError

WRAPPINGS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep the state_dict of their model, the commonest first."""
PREFIXES = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Plain:
    """Tensors under the names that a model gives them."""

    tensors: dict[str, Tensor]
    masks: dict[str, Tensor] = field(default_factory=dict)
    """Tensor name → bool tensor of its shape; False is held at zero. Only those that hold something."""
    remarks: tuple[str, ...] = ()


def unwrapped(content: Any) -> Any:
    """The state_dict of a checkpoint such as {'state_dict': …, 'epoch': 3}; anything else as it is."""
    if isinstance(content, Mapping):
        return next((content[key] for key in WRAPPINGS if isinstance(content.get(key), Mapping)), content)
    return content


def plain(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Plain:
    """The tensors of a file as a model with the state_dict `expected` names them.

    A prefix is stripped when all carry it and the model has it not; weight_orig · weight_mask becomes weight
    (`torch.nn.utils.prune`); a missing num_batches_tracked (torch before 0.4.1) is taken from the model. Raises
    `BenchError` for a mask of another shape than what it masks.
    """
    named, stripped = _stripped(tensors, expected)
    folded, masks = _folded(named)
    counters = [name for name in expected if name.rpartition(".")[2] == COUNTER and name not in folded]
    remarks = list(stripped)
    if pairs := len(named) - len(folded):
        remarks.append(f"folded {_plural(pairs, 'pair')} of _orig and _mask (torch.nn.utils.prune)")
    if counters:
        remarks.append(f"{COUNTER} is not in the file (an older torch): left at 0")
    kinds = {
        str(value.dtype).removeprefix("torch.") for name, value in folded.items() if _narrowed(name, value, expected)
    }
    if kinds:
        remarks.append(f"stored as {' and '.join(sorted(kinds))}; float32 from here on")
    return Plain({**folded, **{name: expected[name] for name in counters}}, masks, tuple(remarks))


def _stripped(tensors: Mapping[str, Tensor], expected: Collection[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Without the prefixes that all names carry, where the model has them not: those of a wrapper that is known, and
    any other that stands before names of the model."""
    named, remarks = dict(tensors), []
    while (prefix := _common(named)) and not _all_carry(prefix, expected):
        if prefix not in PREFIXES and not any(end in expected for name in named for end in _ends(name)):
            break
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
        remarks.append(f"stripped the prefix {prefix}" + (f" of {PREFIXES[prefix]}" if prefix in PREFIXES else ""))
    return named, remarks


def _common(names: Collection[str]) -> str:
    """The first part of the names, with its point, where they all have the same; else empty."""
    part, point, _ = next(iter(names), "").partition(".")
    return part + point if point and _all_carry(part + point, names) else ""


def _ends(name: str) -> Iterator[str]:
    """What is left of a name behind each of its points."""
    name = name.removesuffix("_orig")
    while point := name.partition(".")[1]:
        name = name.partition(point)[2]
        yield name


def _all_carry(prefix: str, names: Collection[str]) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)


def _folded(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    folded, masks = dict(tensors), {}
    for original in tensors:
        name = original.removesuffix("_orig")
        if name == original or f"{name}_mask" not in tensors:
            continue
        values, mask = folded.pop(original), folded.pop(f"{name}_mask")
        if values.shape != mask.shape:
            raise BenchError(
                f"{name}_mask is {list(mask.shape)} and {original} is {list(values.shape)}; a mask has the shape of "
                "what it masks"
            )
        folded[name] = values * mask
        if not mask.all():
            masks[name] = mask != 0
    return folded, masks


def _narrowed(name: str, value: Tensor, expected: Mapping[str, Tensor]) -> bool:
    wanted = expected.get(name)
    return wanted is not None and wanted.dtype == torch.float32 and value.dtype != torch.float32


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
