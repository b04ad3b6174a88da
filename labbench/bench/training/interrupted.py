"""A finetuning that goes on where it was interrupted: what it says of that."""

from labbench.bench.states.rescue import Known, Report
from labbench.bench.training.run import Run
from labbench.session.events import Progress


def report_going_on(run: Run, report: Report) -> tuple[str, ...]:
    """Where a run goes on that was interrupted, at once, and as a remark for its end."""
    if run.here == run.first_step and not run.known:
        return ()
    last = run.known.epoch if run.known else run.measured
    within = not run.known and run.step > run.measured * run.steps
    where = f"in epoch {last + 1}" if within else f"after epoch {last}"
    before = f"; {_epochs(run, run.known, 'is', 'are')} computed again first" if run.known else ""
    epoch = run.measured + 1
    report(
        Progress(
            phase="train",
            fraction=run.step / (run.steps * run.operation.epochs),
            epoch=min(epoch, run.operation.epochs),
            epochs=run.operation.epochs,
            again=run.again(epoch),
            note=f"goes on {where}, where it was interrupted{before}",
        )
    )
    return (f"went on {where}, where it was interrupted",)


def compared(run: Run, made: Known) -> tuple[str, ...]:
    """At the epoch that was the last one before the interruption: whether its figures are what they were, in words."""
    if run.known is None or made.epoch != run.known.epoch:
        return ()
    again = f"{_epochs(run, made, 'was', 'were')} computed again"
    if made == run.known:
        return (f"{again}, to the same figures",)
    now, before = (f"{100 * known.top1:.2f} % validation, loss {known.loss:.6g}" for known in (made, run.known))
    return (f"{again}, to other figures: {now}; before {before}",)


def _epochs(run: Run, known: Known, one: str, more: str) -> str:
    """The epochs from where the run was kept to the one that is known, with the verb for one or for more."""
    first = run.here // run.steps + 1
    return f"epoch {first} {one}" if first == known.epoch else f"epochs {first} to {known.epoch} {more}"
