"""What an operation would do, in words and figures: made from two snapshots, before and after."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from labbench.session.catalogue import Catalogue
from labbench.session.events import Previewed
from labbench.session.operations import AnyOperation, Evaluate, Finetune, percent
from labbench.session.snapshot import LayerRow, Snapshot

NAME_LIMIT = 24  # cells for a layer's name: deeper ones are cut at the front, where they are alike

Column: TypeAlias = tuple[str, Callable[[LayerRow], str]]
COLUMNS: tuple[Column, ...] = (
    ("sparsity", lambda row: percent(row.sparsity)),
    ("non-zero", lambda row: f"{row.nonzero:,}"),
    ("zero filters", lambda row: str(row.filters_zero)),
    ("filters", lambda row: str(row.channels)),
    ("inputs", lambda row: str(row.inputs)),
    ("unique", lambda row: str(row.filters_unique)),
    ("frozen", lambda row: "frozen" if row.frozen else "no"),
    ("zeros held", lambda row: "yes" if row.masked else "no"),
)
WORTH = ("sparsity", "filters", "unique", "frozen", "zeros held")
"""Columns that come first; the others only where there is room."""


class PreviewPanel(VerticalScroll):
    """Shows a preview, or what is known without one."""

    DEFAULT_CSS = """
    PreviewPanel {
        border: round $surface-lighten-2; border-title-color: $text-muted; padding: 0 1; background: $background;
    }
    PreviewPanel:focus { border: round $primary; }
    PreviewPanel Static { width: auto; min-width: 100%; height: auto; }
    """

    def __init__(self) -> None:
        super().__init__(Static("", markup=False))
        self.border_title = "preview"

    def wait(self) -> None:
        """Say that what is shown is being measured again."""
        self.border_title = "preview …"

    def say(self, content: Content) -> None:
        """Show this."""
        self.border_title = "preview"
        self.query_one(Static).update(content)


def previewed(before: Snapshot | None, event: Previewed, width: int) -> Content:
    """The answer to a preview, for a panel of this width."""
    parts: list[Content] = []
    if event.error:
        parts.append(Content.styled(f"✗ {event.error}", "bold $text-error"))
    elif before and event.snapshot:
        parts.extend(changes(before, event.snapshot, width))
    parts.extend(Content(f"· {remark}") for remark in event.remarks)
    return Content("\n").join(parts)


def changes(before: Snapshot, after: Snapshot, width: int) -> list[Content]:
    """Totals, then one line per layer that changes, as lines."""
    old = {row.name: row for row in before.rows}
    pairs = [(old[row.name], row) for row in after.rows if row.name in old and row.prunable]
    changed = [(one, two) for one, two in pairs if any(figure(one) != figure(two) for _, figure in COLUMNS)]
    lines = totals(before, after)
    if not changed:
        return [*lines, Content("no layer changes")]
    lines.extend(_table(changed, width))
    if rest := len(pairs) - len(changed):
        lines.append(Content.styled(f"{rest} other layer{'s' if rest > 1 else ''} as before", "$text-muted"))
    return lines


def totals(before: Snapshot, after: Snapshot) -> list[Content]:
    """Sparsity, parameters and MACs, before → after; a mask that saves no time is said to save none."""
    arithmetic = f"MACs {_arrow(short(before.macs), short(after.macs))}"
    if after.macs == before.macs and after.prunable.nonzero < before.prunable.nonzero:
        arithmetic += ": zeros are multiplied too, no faster"
    return [
        Content(
            f"sparsity {_arrow(percent(before.prunable.sparsity), percent(after.prunable.sparsity))}"
            f" · parameters {_arrow(f'{before.whole.now:,}', f'{after.whole.now:,}')}"
        ),
        Content(arithmetic),
    ]


def promise(operation: AnyOperation | None, snapshot: Snapshot | None, catalogue: Catalogue) -> Content:
    """What is known of an operation that is not previewed."""
    match operation:
        case Finetune():
            return Content(_training(operation, snapshot, catalogue))
        case Evaluate() if snapshot and operation.split in snapshot.accuracy:
            known = snapshot.accuracy[operation.split]
            return Content(
                f"measured since the last change: {percent(known.top1)} on {known.images:,} {operation.split} images"
            )
        case Evaluate():
            return Content(f"measures accuracy on the {operation.split} images; the model stays as it is")
    return Content("")


def short(number: int) -> str:
    """A large count in three or four digits: 40.6 M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}" if number < 1000 * size else f"{number / size:,.0f} {letter}"
    return str(number)


def _training(operation: Finetune, snapshot: Snapshot | None, catalogue: Catalogue) -> str:
    dataset = catalogue.entry("datasets", snapshot.dataset) if snapshot else None
    images = dataset.facts.get("train", dataset.facts.get("images")) if dataset else None
    epochs = f"{operation.epochs:,} epoch{'s' if operation.epochs > 1 else ''}"
    if not dataset or not isinstance(images, int):
        return f"trains for {epochs} in steps of {operation.batch_size:,} images"
    steps = -(-images // operation.batch_size)
    total = operation.epochs * steps
    lines = [f"{epochs} × {steps:,} steps of {operation.batch_size:,} images = {total:,} steps"]
    if operation.steps and operation.steps < total:
        lines.append(f"stops at step {operation.steps:,}")
    some = "" if "train" in dataset.facts else " at most: some are kept for validation and test"
    lines.append(f"{dataset.name} has {images:,} images to train on{some}")
    if snapshot:
        lines.extend(_held(snapshot))
    return "\n".join(lines)


def _held(snapshot: Snapshot) -> list[str]:
    frozen = [row.name for row in snapshot.rows if row.frozen and row.prunable]
    masked = [row.name for row in snapshot.rows if row.masked]
    lines = []
    if frozen:
        lines.append(f"frozen, stay as they are: {', '.join(frozen)}")
    if masked:
        lines.append(f"zeros stay zero in: {', '.join(masked)}")
    return lines


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _table(pairs: Sequence[tuple[LayerRow, LayerRow]], width: int) -> list[Content]:
    columns = [column for column in COLUMNS if any(column[1](one) != column[1](two) for one, two in pairs)]
    columns.sort(key=lambda column: column[0] not in WORTH)
    names = ["layer", *(_cut(row.name) for _, row in pairs)]
    cells = [[head, *(_arrow(figure(one), figure(two)) for one, two in pairs)] for head, figure in columns]
    lines = _padded(names)
    for cell in cells:
        column = _padded(cell)
        if len(lines[0]) + 2 + len(column[0]) > max(width, 30) and lines[0].strip() != "layer":
            break
        lines = [f"{line}  {part}" for line, part in zip(lines, column, strict=True)]
    return [Content.styled(lines[0], "bold"), *(Content(line) for line in lines[1:])]


def _padded(cells: Sequence[str]) -> list[str]:
    width = max(Content(cell).cell_length for cell in cells)
    return [cell + " " * (width - Content(cell).cell_length) for cell in cells]


def _cut(name: str) -> str:
    return name if len(name) <= NAME_LIMIT else "…" + name[1 - NAME_LIMIT :]
