"""The status line: what runs and how far it is, or what to do next, or what went wrong."""

from rich.text import Text

from labbench.cells import cells, cut
from labbench.printable import printable
from labbench.session.events import Died, Failed, Progress
from labbench.session.operations import Evaluate, Load, Note
from labbench.session.session import Session
from labbench.tui.situation import Playing, Situation
from labbench.tui.words import clock, count, figure, fitted, rate, times

BAR = 20
ENOUGH = 24  # cells of an operation's words or of a remark that are worth reading; the history has all of them


def status(session: Session, situation: Situation, width: int) -> Text:
    """One line."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if situation.playing:
        text.append(_playing(session, situation.playing), "bold")
        text.append("   ")
    room = width - len(text)
    if situation.silent:
        text.append("! ", "bold").append(f"the worker does not answer: silent for {clock(situation.silent)}")
        return text.append("; s stops, K ends it" if situation.running else "; K ends it")
    if situation.running:
        return text.append(_running(session, situation.running, session.progress, room))
    match situation.worker:
        case "starting":
            again = "the worker died: another one" if isinstance(session.problem, Died) else "warming up: the bench"
            return text.append(f"{again} is being started")
        case "restoring":
            return text.append(_running(session, "restoring the session", situation.restoring, room))
        case "unrestored":
            return text.append("the session is not restored: ctrl+r tries again, o opens another")
        case "gone":
            return text.append("the worker is gone: ctrl+r starts it again; the session file has everything")
    if isinstance(session.problem, Failed):
        return text.append("! ", "bold").append(printable(" ".join(session.problem.error.split())))
    begin = "ready: . does the first step" if situation.recipe else "ready: o opens a model"
    if situation.playing:
        return text.append(_last(session, room).partition(" ")[2])  # its number was said
    return text.append(_last(session, room) or begin)


def bar(fraction: float, width: int = BAR) -> str:
    """How much is done, readable without color."""
    halves = round(min(max(fraction, 0.0), 1.0) * 2 * width)
    full, half = divmod(halves, 2)
    return "━" * full + "╸" * half + "─" * (width - full - half)


def _running(session: Session, name: str, progress: Progress | None, width: int) -> str:
    if progress is None:
        return printable(f"{name} …")
    parts = [name, f"{bar(progress.fraction, BAR if width > 90 else BAR // 2)} {100 * progress.fraction:.0f} %"]
    if progress.epochs:
        parts.insert(1, f"epoch {progress.epoch}/{progress.epochs}{' again' if progress.again else ''}")
    elif progress.phase:
        parts.insert(1, progress.phase)
    return "  ".join(fitted(parts + _figures(session, progress), width, "  "))


def _figures(session: Session, progress: Progress) -> list[str]:
    parts = []
    if progress.eta is not None:
        parts.append(f"{clock(progress.eta)} left")
    if progress.note:
        parts.append(progress.note)
    if progress.loss is not None:
        parts.append(f"loss {figure(progress.loss)}")
    if session.epoch_accuracy is not None:
        parts.append(f"val {rate(session.epoch_accuracy)} %")
    if progress.rate:
        parts.append(f"{count(round(progress.rate))} img/s")
    return parts


def outcome(session: Session) -> list[str]:
    """What the last operation did to the model, in a few figures: "98.9 → 84.7 %" and "×1.00 → ×1.98"."""
    step, before = session.steps[-1], session.before
    now = step.event.snapshot
    if now is None or isinstance(step.operation, Load):
        before = None
    split = step.operation.split if isinstance(step.operation, Evaluate) else "validation"
    parts = []
    if now and split in now.accuracy:
        then = before.accuracy.get(split) if before else None
        said, was = rate(now.accuracy[split].top1), rate(then.top1) if then else ""
        named = "" if split == "validation" else f"{split} "
        parts.append(f"{named}{f'{was} → ' if was not in ('', said) else ''}{said} %")
    if now and before and times(now.whole.ratio) != times(before.whole.ratio):
        parts.append(f"{times(before.whole.ratio)} → {times(now.whole.ratio)}")
    return parts


def _last(session: Session, width: int) -> str:
    """The last operation and its outcome; where there is too little room, fewer figures and shortened words."""
    if not session.steps:
        return ""
    step = session.steps[-1]
    if isinstance(step.operation, Note):
        return f"{step.number} note"
    took = f" in {clock(step.event.seconds)}" if step.event.seconds >= 1 else ""
    words = printable(f"{step.number} {step.operation.describe()}{took}")
    figures = "  ".join(fitted(outcome(session), width - min(cells(words), ENOUGH) - 2, "  "))
    if figures:
        words = f"{cut(words, width - cells(figures) - 2)}  {figures}"
    remark = "".join(printable(f" · {remark}") for remark in step.event.remarks[:1])
    return words + (remark if width - cells(words) >= min(cells(remark), ENOUGH) else "")


def _playing(session: Session, playing: Playing) -> str:
    how = "■ end" if playing.ended else "‖ paused" if playing.paused else "▶ playing"
    chapter = f"chapter {playing.chapter} of {playing.chapters} · " if playing.chapters else ""
    return f"{how} ×{playing.speed:g}  {chapter}step {playing.step} of {playing.steps}"
