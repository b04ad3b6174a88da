"""The few figures that matter, in digits as large as there is room for: for projectors and the last row."""

from msgspec import Struct
from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from labbench.cells import center, cut
from labbench.printable import printable
from labbench.session.operations import Note
from labbench.session.session import Session
from labbench.session.snapshot import Snapshot
from labbench.tui.digits import draw, height, largest
from labbench.tui.widgets.totals import live_nonzero
from labbench.tui.words import count, rate, short, times

SPLITS = ("validation", "test")
LABELS = 2  # rows above the digits: what it is, and before → now
SHAPES = ((2, 2), (4, 1), (1, 4))  # columns × rows


class Figure(Struct, frozen=True):
    """One of them."""

    label: str
    digits: str
    """In large."""
    change: str
    """Before → now, in words."""


def figures(session: Session) -> tuple[Figure, ...]:
    """Accuracy, sparsity, parameters and MACs of the model now; none where there is no model."""
    now = session.snapshot
    if now is None:
        return ()
    live = live_nonzero(session)
    nonzero = now.prunable.nonzero if live is None else live
    sparsity = 1 - nonzero / now.prunable.loaded if now.prunable.loaded else 0.0
    whole = now.whole.nonzero - now.prunable.nonzero + nonzero
    before = now if live is not None else _before(session, now)
    ratio = now.whole.loaded / whole if whole else float("inf")
    return (
        _accuracy(session, now),
        Figure("sparsity", _percent(sparsity), _changed(rate(before.prunable.sparsity), f"{rate(sparsity)} %")),
        Figure(
            "parameters not zero",
            _digits(whole),
            f"{_changed(count(before.whole.nonzero), count(whole))}  {times(ratio)}",
        ),
        Figure("MACs", _digits(now.macs), _changed(short(before.macs), short(now.macs))),
    )


def step_words(session: Session) -> str:
    """What runs, or what was done last; notes speak for themselves."""
    if session.running:
        progress = session.progress
        epoch = f"   epoch {progress.epoch}/{progress.epochs}" if progress and progress.epochs else ""
        return f"… {session.running.describe()}{epoch}"
    done = [step for step in session.steps if not isinstance(step.operation, Note)]
    return f"{done[-1].number} {done[-1].operation.describe()}" if done else ""


class BigFigures(Widget):
    """The step in words above the figures, side by side or one above the other, whatever is largest."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "BigFigures { height: 1fr; padding: 0 1; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._figures: tuple[Figure, ...] = ()
        self._words = ""

    def show(self, session: Session) -> None:
        """Show a session as it is now; draws again only if a figure changed."""
        found, words = figures(session), step_words(session)
        if (found, words) != (self._figures, self._words):
            self._figures, self._words = found, words
            self.refresh()

    def render(self) -> Text:
        """All of it, as text of this size."""
        return laid_out(self._figures, self._words, self.content_size)


def laid_out(found: tuple[Figure, ...], words: str, size: Size) -> Text:
    """The figures as large as they fit, below the words."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if not found:
        return text.append("no model is open yet".center(size.width))
    scale, (columns, rows) = max(((_scale(found, size, shape), shape) for shape in SHAPES), key=lambda pair: pair[0])
    cell = size.width // columns
    lines = 1 + rows * (LABELS + height(scale))
    spare = max(size.height - lines, 0)
    gap = spare // (rows + 1)
    text.append(_fitted(words, size.width, size.width), "bold")
    for first in range(0, len(found), columns):
        group = found[first : first + columns]
        text.append("\n" * (1 + gap))
        text.append("".join(_fitted(one.label, cell - 1, cell) for one in group), "bold")
        for row in zip(*(draw(one.digits, scale) for one in group), strict=True) if scale else ():
            text.append("\n" + "".join(part.center(cell) for part in row), "bold")
        text.append("\n" + "".join(_fitted(one.change, cell - 1, cell) for one in group))
    return text


def _scale(found: tuple[Figure, ...], size: Size, shape: tuple[int, int]) -> int:
    columns, rows = shape
    room = (size.height - 1) // rows - LABELS
    return min(largest(one.digits, size.width // columns - 1, room) for one in found)


def _fitted(words: str, room: int, width: int) -> str:
    return center(cut(printable(words), room), width)


def _percent(fraction: float) -> str:
    return f"{rate(fraction)}%".replace("100.0", "100")


def _digits(number: int) -> str:
    return short(number).replace(" ", "")


def _changed(before: str, now: str) -> str:
    return now if before == now.removesuffix(" %") else f"{before} → {now}"


def _before(session: Session, now: Snapshot) -> Snapshot:
    """The model on the way to this one before the last change of its figures."""
    counts = (now.whole, now.prunable, now.macs)
    other = (then for then in reversed(session.way) if (then.whole, then.prunable, then.macs) != counts)
    return next(other, now)


def _accuracy(session: Session, now: Snapshot) -> Figure:
    evaluated = getattr(session.steps[-1].operation, "split", "") if session.steps else ""
    split = next((split for split in (evaluated, *SPLITS) if split in now.accuracy), "")
    value = now.accuracy[split].top1 if split else None
    if session.epoch_accuracy is not None:
        split, value = "validation", session.epoch_accuracy
    if value is None:
        return Figure("accuracy", "—", "not measured")
    measured = [then.accuracy[split].top1 for then in session.way if split in then.accuracy]
    before = next((then for then in reversed(measured) if then != value), value)
    return Figure(f"accuracy · {split}", _percent(value), _changed(rate(before), f"{rate(value)} %"))
