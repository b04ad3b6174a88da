"""What an operation would do, in words and figures: made from two snapshots, before and after."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from labbench.cells import cells, left
from labbench.session.catalogue import Catalogue
from labbench.session.events import Previewed
from labbench.session.figures import frozen_share
from labbench.session.operations import AnyOperation, Evaluate, Finetune, Measure, Recalibrate, Scan, Time, percent
from labbench.session.report import frozen_words
from labbench.session.snapshot import LayerRow, Snapshot
from labbench.tui import words

NAME_LIMIT = 24  # cells for a layer's name

Column: TypeAlias = tuple[str, Callable[[LayerRow], str]]
COLUMNS: tuple[Column, ...] = (
    ("sparsity", lambda row: percent(row.sparsity)),
    ("non-zero", lambda row: f"{row.nonzero:,}"),
    ("zero filters", lambda row: str(row.filters_zero)),
    ("filters", lambda row: str(row.channels)),
    ("inputs", lambda row: str(row.inputs)),
    ("unique", lambda row: str(row.filters_unique) if row.weights_unique is None else f"{row.clusters} a place"),
    ("frozen", lambda row: "frozen" if row.frozen else "no"),
    ("zeros held", lambda row: "yes" if row.masked else "no"),
)
WORTH = ("sparsity", "filters", "unique", "frozen", "zeros held")
"""Columns that come first; the others only where there is room."""


class PreviewPanel(VerticalScroll):
    """Shows a preview, or what is known without one."""

    DEFAULT_CSS = """
    PreviewPanel {
        border: round $foreground 30%; border-title-color: $text-muted; padding: 0 1; background: $background;
        scrollbar-size-vertical: 1; scrollbar-gutter: stable;
    }
    PreviewPanel:focus { border: round $primary; }
    PreviewPanel Static { width: 100%; height: auto; }
    """

    def __init__(self) -> None:
        super().__init__(Static("", markup=False))
        self.border_title = "preview"
        self._drawn: Callable[[int], Content] | None = None

    def wait(self) -> None:
        """Show no figures: those of other values would be taken for the answer that is awaited."""
        self.say(Content.styled("what this would do is tried on a copy …", "$text-muted"), "preview …")

    def say(self, content: Content, title: str = "preview") -> None:
        """Show this."""
        self.draw(lambda _: content, title)

    def draw(self, content: Callable[[int], Content], title: str = "preview") -> None:
        """Show what this gives for the width there is, now and whenever that changes."""
        self.border_title = Content(title)
        self._drawn = content
        self.scroll_home(animate=False)
        self.on_resize()

    def on_resize(self) -> None:
        """Fit what is shown into the new width."""
        if self._drawn:
            self.query_one(Static).update(self._drawn(self.scrollable_content_region.width))


def previewed(before: Snapshot | None, event: Previewed, width: int) -> Content:
    """The answer to a preview, for a panel of this width."""
    parts: list[Content] = []
    if event.error:
        parts.append(Content.styled(f"✗ {event.error}", "bold $text-error"))
    elif before and event.snapshot:
        parts.extend(totals(before, event.snapshot))
    parts.extend(Content(f"· {remark}") for remark in event.remarks)
    if before and event.snapshot and not event.error:
        parts.extend(changes(before, event.snapshot, width))
    return Content("\n").join(parts)


def changes(before: Snapshot, after: Snapshot, width: int) -> list[Content]:
    """One line per layer that changes, under a heading."""
    old = {row.name: row for row in before.rows}
    pairs = [(old[row.name], row) for row in after.rows if row.name in old and row.prunable]
    changed = [(one, two) for one, two in pairs if any(figure(one) != figure(two) for _, figure in COLUMNS)]
    if not changed:
        return [Content("no layer changes")]
    lines = _table(changed, width)
    if rest := len(pairs) - len(changed):
        lines.append(Content.styled(f"{words.plural(rest, 'other layer')} as before", "$text-muted"))
    return lines


def totals(before: Snapshot, after: Snapshot) -> list[Content]:
    """Sparsity, parameters and MACs, before → after; a mask that saves no time is said to save none."""
    first = [
        f"sparsity {_arrow(percent(before.prunable.sparsity), percent(after.prunable.sparsity))}",
        f"parameters {_arrow(words.count(before.whole.now), words.count(after.whole.now))}",
    ]
    second = [f"MACs {_arrow(words.short(before.macs), words.short(after.macs))}"]
    if after.macs == before.macs and after.prunable.nonzero < before.prunable.nonzero:
        second[0] += ": zeros are multiplied too, no faster"
    if after.unique != before.unique and after.prunable.nonzero == before.prunable.nonzero:
        second.append(f"distinct weights {_arrow(words.count(before.unique), words.count(after.unique))}")
    was, is_now = frozen_share(before), frozen_share(after)
    frozen = [Content(f"frozen: {frozen_words(is_now)}")] if was.layers != is_now.layers else []
    return [*frozen, Content(" · ".join(first)), Content(" · ".join(second))]


def promise(operation: AnyOperation | None, snapshot: Snapshot | None, catalogue: Catalogue) -> Content:
    """What is known of an operation that is not previewed."""
    match operation:
        case Finetune():
            return Content(_training(operation, snapshot, catalogue))
        case Recalibrate():
            images = operation.batches * operation.batch_size
            lines = [
                f"measures every batch norm anew on {images:,} training images, as they are; no weight moves",
                *(_held(snapshot) if snapshot else []),
            ]
            return Content("\n".join(lines))
        case Evaluate() if snapshot and operation.split in snapshot.accuracy:
            known = snapshot.accuracy[operation.split]
            return Content(
                f"measured since the last change: {percent(known.top1)} on {known.images:,} {operation.split} images"
            )
        case Evaluate():
            return Content(f"measures accuracy on the {operation.split} images; the model stays as it is")
        case Scan():
            tries = len(operation.at) * (sum(row.prunable for row in snapshot.rows) if snapshot else 1)
            return Content(
                f"tries each layer alone, at most {tries:,} models measured on the validation images; the model stays "
                "as it is; the answers grow in a table"
            )
        case Time():
            return Content("times this model and the one that was opened in turn; the model stays as it is")
        case Measure():
            return Content("looks for weights on no path, weights without a gradient, distinct values, stored bytes")
    return Content("")


def _training(operation: Finetune, snapshot: Snapshot | None, catalogue: Catalogue) -> str:
    dataset = catalogue.entry("datasets", snapshot.dataset) if snapshot else None
    images = dataset.facts.get("train") if dataset else None
    if operation.resume:
        return "goes on with the run that was stopped, with its settings and its optimizer, as if nothing had been"
    epochs = words.plural(operation.epochs, "epoch")
    lines = [f"{epochs} in steps of {operation.batch_size:,} images"]
    if isinstance(images, int):
        steps = max(1, images // operation.batch_size)  # a short last batch is dropped
        lines.append(f"{images:,} images to train on: {steps:,} steps an epoch, {operation.epochs * steps:,} in all")
    if operation.steps:
        lines.append(f"stops after step {operation.steps:,} at the latest")
    if snapshot:
        lines.extend(_held(snapshot))
    return "\n".join(lines)


def _held(snapshot: Snapshot) -> list[str]:
    frozen = [row.name for row in snapshot.rows if row.frozen and row.prunable]
    masked = [row.name for row in snapshot.rows if row.masked]
    lines = []
    if frozen:
        lines.append(f"frozen, stay as they are: {', '.join(frozen)} ({frozen_words(frozen_share(snapshot))})")
    if masked:
        lines.append(f"zeros stay zero in: {', '.join(masked)}")
    return lines


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _table(pairs: Sequence[tuple[LayerRow, LayerRow]], width: int) -> list[Content]:
    columns = [column for column in COLUMNS if any(column[1](one) != column[1](two) for one, two in pairs)]
    if all(row.filters_unique == row.channels for pair in pairs for row in pair):
        columns = [column for column in columns if column[0] != "unique"]  # says no more than the filters do
    columns.sort(key=lambda column: column[0] not in WORTH)
    names = ["layer", *(words.middle(row.name, NAME_LIMIT) for _, row in pairs)]
    figures = [[head, *(_arrow(figure(one), figure(two)) for one, two in pairs)] for head, figure in columns]
    lines = _padded(names)
    for column in map(_padded, figures):
        if cells(lines[0]) + 2 + cells(column[0]) > max(width, 30) and lines[0].strip() != "layer":
            break
        lines = [f"{line}  {part}" for line, part in zip(lines, column, strict=True)]
    return [Content.styled(lines[0], "bold"), *(Content(line) for line in lines[1:])]


def _padded(words: Sequence[str]) -> list[str]:
    width = max(map(cells, words))
    return [left(word, width) for word in words]
