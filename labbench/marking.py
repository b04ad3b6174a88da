"""The headless command that checks tasks: one line for each session and task, for whoever marks thirty files."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labbench.commands import models_of, tell_silence, worker_for
from labbench.exits import BAD, CANNOT, DIFFERS, SAME, say
from labbench.headless import CannotRun, Heard, Stopped
from labbench.listing import print_json, print_lines
from labbench.printable import printable
from labbench.session import recipe, report
from labbench.session.check import BadInput
from labbench.session.compare import Verdict
from labbench.session.goals import Outcome, outcomes
from labbench.session.jsonl import BadFile, read
from labbench.session.operations import Task
from labbench.session.session import Session
from labbench.verify import Checker, Plan, plan, verify


@dataclass
class Marked:
    """What is found of one file."""

    file: Path
    outcomes: list[Outcome] = field(default_factory=list)
    problem: str = ""
    """Why it cannot be checked, or ""."""
    recomputed: str = ""
    """What doing it again gave, in words; empty: not asked for."""
    cheated: bool = False
    """Whether a recorded figure is not what comes out here."""


def check(
    files: Sequence[Path],
    tasks_from: Path | None,
    form: str,
    *,
    recompute: bool = False,
    device: str = "",
    data_dir: Path | None = None,
    trust_code: bool = False,
) -> int:
    """Print whether the tasks of sessions were met: as a table, or as "json".

    `tasks_from` is the teacher's session or recipe, whose tasks count instead of those in the files: a student may
    have edited these. With `recompute` every file is done again, and what comes out here counts, not what it says.
    Returns 0 if all tasks of all files are met and no figure was found to be another, 1 if not, 2 if a file cannot be
    read, 3 if one cannot be done again here.
    """
    given: tuple[Task, ...] = ()
    if tasks_from:
        try:
            given = _tasks(tasks_from)
        except (BadFile, BadInput) as error:
            return say(str(error), BAD)
        if not given:
            return say(f"{tasks_from} has no task", BAD)
    found: list[Marked] = []
    code = SAME
    for file in files:
        marked = Marked(file)
        found.append(marked)
        try:
            header, session, notice = read(file)
            if notice:
                say(notice)
            if recompute:
                session = _recomputed(marked, plan(header, session, device=device), data_dir, trust_code)
        except (BadFile, BadInput) as error:
            marked.problem, code = str(error), BAD
            continue
        except CannotRun as error:
            marked.problem, code = f"{file}: {error}", max(code, CANNOT) if code != BAD else BAD
            continue
        except Stopped as stopped:
            return say("stopped", stopped.code)
        marked.outcomes = [one for one in outcomes(session, given) if not given or one.task in given]
        if not marked.outcomes:
            marked.problem, code = f"{file}: no task in it; --tasks FILE names one with some", BAD
    if form == "json":
        _print_json(found)
    else:
        _print_table(found, recompute)
    for marked in found:
        if marked.problem:
            say(marked.problem)
    if code:
        return code
    unmet = any(not one.met_at for marked in found for one in marked.outcomes)
    return DIFFERS if unmet or any(marked.cheated for marked in found) else SAME


def _recomputed(marked: Marked, planned: Plan, data_dir: Path | None, trust_code: bool) -> Session:
    """The session as it comes out here; says in `marked` how it compares. Raises `CannotRun` or `Stopped`."""
    models = models_of(planned)
    if models and not trust_code:
        raise CannotRun(f"it names code of its own ({', '.join(models)}); --trust-code runs it")
    checker = Checker(planned)
    here = Session(planned.header.title)

    def see(session: Session, event: Heard) -> None:
        nonlocal here
        here = session
        tell_silence(event)

    say(f"{marked.file} is done again …")
    with worker_for(planned, data_dir) as command:
        asyncio.run(verify(planned, checker, see, command=command, trusted=models))
    wrong = [number for number, judgment in checker.judgments.items() if judgment.verdict == Verdict.DIFFERS]
    marked.cheated = bool(wrong)
    marked.recomputed = (
        f"differs at step {wrong[0]}: {checker.judgments[wrong[0]].reason}"
        if wrong
        else checker.sums().partition(": ")[2]
    )
    return here


def _tasks(file: Path) -> tuple[Task, ...]:
    if file.suffix == ".toml":
        operations = recipe.read(file).steps
    else:
        operations = tuple(step.operation for step in read(file)[1].steps)
    return tuple({task.name: task for task in operations if isinstance(task, Task)}.values())


def _print_table(found: Sequence[Marked], recompute: bool) -> None:
    head = ("file", "task", "met", "validation", "test", "non-zero", "goals, where it comes nearest")
    rows = [(*head, "done again here") if recompute else head]
    for marked in found:
        name, again = printable(marked.file.name), (printable(marked.recomputed),) if recompute else ()
        if marked.problem:
            rows.append((name, "–", "?", "", "", "", "cannot be checked", *again))
            continue
        for one in marked.outcomes:
            met = f"step {one.met_at}" if one.met_at else "no"
            figures = report.snapshot_figures(one.nearest) if one.nearest else (report.ABSENT,) * 4
            left = report.share(1 - one.nearest.whole.sparsity) if one.nearest else report.ABSENT
            goals = printable(" · ".join(one.states())) or "its goals cannot be read"
            goals = goals if one.met_at or not one.nearest_at else f"step {one.nearest_at}: {goals}"
            rows.append((name, printable(one.task.name), met, figures[2], figures[3], left, goals, *again))
    print_lines(report.columns(rows, [True, True, True, False, False, False, True, *([True] * recompute)]))


def _print_json(found: Sequence[Marked]) -> None:
    value = [
        {
            "file": str(marked.file),
            "problem": marked.problem,
            "recomputed": marked.recomputed,
            "figures_agree": None if not marked.recomputed else not marked.cheated,
            "tasks": [
                {
                    "name": one.task.name,
                    "goals": [goal.describe() for goal in one.goals],
                    "met_at": one.met_at or None,
                    "now": one.now,
                    "nearest_at": one.nearest_at or None,
                    "readings": [goal.reading(one.nearest) if one.nearest else None for goal in one.goals],
                }
                for one in marked.outcomes
            ],
        }
        for marked in found
    ]
    print_json(value)
