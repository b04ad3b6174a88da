"""Which layers change together, in words: the group of one layer first, then all of them."""

from collections.abc import Sequence

from labbench.session.events import Coupled
from labbench.tui.words import plural


def told(groups: Sequence[Coupled], layer: str) -> str:
    """A text for a reader; `layer` is the one under the cursor, or ""."""
    own = [group for group in groups if layer in group.layers]
    parts = ["\n".join(_group(group)) for group in own]
    read = [group for group in groups if layer in group.readers]
    parts += [f"{layer} loses inputs when these lose filters: {' + '.join(group.layers)}" for group in read]
    others = [group for group in groups if group not in own]
    if others:
        parts.append("The other groups")
        parts += ["\n".join(_group(group)) for group in others]
    return "\n\n".join(parts)


def _group(group: Coupled) -> list[str]:
    lines = [f"{' + '.join(group.layers)}: {plural(group.channels, 'filter')}"]
    if group.refused:
        return [*lines, f"  cannot be cut: {group.refused}"]
    if group.why:
        lines.append(f"  lose the same filters, because {group.why}")
    if group.blocks > 1:
        lines.append(f"  read in {group.blocks} groups: the same places go from each")
    if group.norms:
        lines.append(f"  with them go entries of {', '.join(group.norms)}")
    lines.append(f"  and inputs of {', '.join(group.readers)}")
    return lines
