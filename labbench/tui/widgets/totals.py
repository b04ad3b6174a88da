"""The lines under the table: which weights are counted, what is left of them, and how well the model does."""

from msgspec.structs import replace
from rich.text import Text

from labbench.session.figures import frozen_share
from labbench.session.report import frozen_words
from labbench.session.session import Session
from labbench.session.snapshot import Accuracy, Snapshot, Total
from labbench.tui.words import count, fitted, rate, short, times

SPLITS = ("validation", "test")
LABEL = 12


def totals(session: Session, width: int) -> Text:
    """Three to five lines, each as much as fits."""
    snapshot = session.snapshot
    if snapshot is None:
        return Text("")
    lines = [
        ("conv+linear", _weights(snapshot.prunable, live_nonzero(session), snapshot.unique)),
        ("whole model", _whole(snapshot, live_nonzero(session))),
        *_frozen(snapshot),
        *((split, _accuracy(session, split)) for split in SPLITS if split in snapshot.accuracy),
    ]
    if not snapshot.accuracy:
        lines.append(("accuracy", _unmeasured(session)))
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, (label, parts) in enumerate(lines):
        text.append("\n" if number else "")
        text.append(label.ljust(LABEL), "dim")
        text.append("   ".join(fitted(parts, width - LABEL)))
    return text


def live_nonzero(session: Session) -> int | None:
    """The non-zero prunable weights at the last epoch of the running finetune, or None."""
    if session.live is None or session.snapshot is None:
        return None
    return sum(session.live.nonzero.get(row.name, row.nonzero) for row in session.snapshot.rows if row.prunable)


def _weights(total: Total, live: int | None, unique: int) -> list[str]:
    nonzero = total.nonzero if live is None else live
    ratio = total.loaded / nonzero if nonzero else float("inf")
    return [
        f"{count(total.loaded)} → {count(nonzero)} non-zero",
        f"{rate(1 - nonzero / total.loaded if total.loaded else 0)} % gone",
        times(ratio),
        f"{count(unique)} distinct",
    ]


def _frozen(snapshot: Snapshot) -> list[tuple[str, list[str]]]:
    frozen = frozen_share(snapshot)
    return [("frozen", frozen_words(frozen).split(", "))] if frozen.layers else []


def _whole(snapshot: Snapshot, live: int | None) -> list[str]:
    total = snapshot.whole
    if live is not None:
        total = replace(total, nonzero=total.nonzero - snapshot.prunable.nonzero + live)
    macs = short(snapshot.macs)
    if snapshot.macs != snapshot.macs_loaded:
        macs = f"{short(snapshot.macs_loaded)} → {macs}"
    kept = count(total.now) if total.now == total.loaded else f"{count(total.loaded)} → {count(total.now)}"
    masked = [f"{count(total.nonzero)} non-zero"] if total.nonzero != total.now else []
    return [f"{kept} params", *masked, times(total.ratio), f"MACs {macs}"]


def _accuracy(session: Session, split: str) -> list[str]:
    assert session.snapshot is not None
    now = session.snapshot.accuracy[split]
    before = _before(session, split, now)
    change = f"{rate(before.top1)} → " if before else ""
    return [
        f"{change}{rate(now.top1)} % top-1",
        f"macro {rate(now.macro)}",
        f"worst class {now.worst_class} {rate(now.worst)}",
        f"{count(now.images)} images",
    ]


def _before(session: Session, split: str, now: Accuracy) -> Accuracy | None:
    measured = (then.accuracy.get(split) for then in reversed(session.way))
    return next((then for then in measured if then is not None and then != now), None)


def _unmeasured(session: Session) -> list[str]:
    for then in reversed(session.way):
        for split in ("test", "validation"):
            if split in then.accuracy:
                return ["not measured: e evaluates", f"{split} was {rate(then.accuracy[split].top1)} %"]
    return ["not measured: e evaluates"]
