"""What is said of a cut: what was left whole, what differs from what was asked, which layers changed together."""

from collections.abc import Mapping

from torch import nn

from labbench.bench.pruning.graph import Group
from labbench.bench.pruning.plans import Count, Plan, global_target
from labbench.bench.states.chosen_layers import Chosen, shortened
from labbench.bench.states.state import State
from labbench.session.check import listed
from labbench.session.operations import Prune, percent


def left(reason: str, at: Mapping[str, str], chosen: Chosen) -> str:
    """Layers that share a reason, and what stands in their way."""
    names = [name for name in chosen.layers if name in at]
    culprits = list(dict.fromkeys(at[name] for name in names if at[name]))
    return f"left whole: {shortened(names)}, because {reason}{f' ({shortened(culprits)})' if culprits else ''}"


def nothing(operation: Prune, plans: list[Plan], counts: list[Count], remarks: list[str]) -> str:
    """Why there was nothing to cut."""
    asked = percent(operation.amount)
    reasons = {count.reason for count in counts if count.reason and count.reason != "already cut further"}
    why = f": {'; '.join(remarks)}" if not plans and remarks else ""
    already = f"; every group is already at {asked}, or one filter each" if plans else ""
    if plans and reasons - {"one of each stays", "only whole channels go"}:
        already = f"; {'; '.join(sorted(reasons))}"
    return f"nothing to cut in {listed(operation.layers)}{already}{why}"


def missed(operation: Prune, plans: list[Plan], counts: list[Count]) -> list[str]:
    """Asked against achieved, one remark for each reason."""
    if operation.scope == "global":
        return _missed_together(operation, plans, counts)
    missed: dict[tuple[str, float], dict[str, list[str]]] = {}
    for plan, count in zip(plans, counts, strict=True):
        if count.reason:
            gone = (plan.loaded - plan.group.units + count.going) * plan.group.blocks
            figure = f"{gone} of {plan.loaded * plan.group.blocks}"
            missed.setdefault((count.reason, plan.amount), {}).setdefault(figure, []).append(plan.group.root)
    return [
        f"{reason}: instead of {percent(amount)}, "
        + "; ".join(f"{figure} are gone from {' + '.join(_some(names))}" for figure, names in figures.items())
        for (reason, amount), figures in missed.items()
    ]


def _missed_together(operation: Prune, plans: list[Plan], counts: list[Count]) -> list[str]:
    asked = global_target(operation, plans)
    went = sum(count.going * plan.group.blocks for plan, count in zip(plans, counts, strict=True))
    if went == asked:
        return []
    reasons = []
    left = [p.group.units - c.going for p, c in zip(plans, counts, strict=True)]
    if 1 in left:
        reasons.append("one of each group stays")
    if operation.maximum < 1:
        reasons.append(f"at most {percent(operation.maximum)} of a layer may go")
    if operation.round_to > 1:
        reasons.append(f"kept channels are multiples of {operation.round_to}")
    if any(plan.group.blocks > 1 for plan in plans):
        reasons.append("grouped channels go together")
    return [f"{went} of {asked} channels went: {', and '.join(reasons)}"]


def coupled(groups: list[Group], state: State) -> list[str]:
    """Which layers lose the same filters, and where the same places go from each block."""
    remarks = []
    prunable = [layer.name for layer in state.layers if layer.prunable]
    together: dict[str, list[str]] = {}
    for group in groups:
        others = [name for name in prunable if name in group.outputs and name != group.root]
        if others:
            together.setdefault(group.why, []).append(f"{group.root} with {' + '.join(_some(others))}")
        if group.blocks > 1:
            remarks.append(
                f"the channels of {group.root} are read in {group.blocks} groups: each loses the same places"
            )
    said = [f"lose the same filters, because {why}: {'; '.join(some)}" for why, some in together.items()]
    return said + remarks


def _some(names: list[str]) -> list[str]:
    return names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]


def size(state: State, plans: list[Plan], counts: list[Count], before: nn.Module, after: nn.Module) -> str:
    """The parameters before and after, and what share of them is gone."""
    old, new = (sum(p.numel() for p in model.parameters()) for model in (before, after))
    gone = 1 - new / sum(layer.parameters for layer in state.layers)
    words = f"parameters {old:,} → {new:,}: {percent(gone)} of the loaded ones are gone"
    cuttable = [layer.name for layer in state.layers if layer.prunable][:-1]
    if not set(cuttable) <= {name for plan in plans for name in plan.group.outputs}:
        return words
    loaded = sum(plan.loaded * plan.group.blocks for plan in plans)
    channels = sum((p.loaded - p.group.units + c.going) * p.group.blocks for p, c in zip(plans, counts, strict=True))
    share = channels / loaded
    return (
        f"{words} ({percent(share)} of the channels are about 1 − (1 − {share:.3f})² = {percent(share * (2 - share))})"
    )
