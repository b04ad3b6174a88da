"""The headless command that checks tasks: one line for each session and task, for whoever marks thirty files."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from labbench.exits import BAD, DIFFERS, SAME, say
from labbench.session import recipe, report
from labbench.session.check import BadInput
from labbench.session.goals import Outcome, outcomes
from labbench.session.jsonl import BadFile, read
from labbench.session.operations import Task
from labbench.session.session import Session


def check(files: Sequence[Path], tasks_from: Path | None, form: str) -> int:
    """Print whether the tasks of sessions were met: as a table, or as "json".

    `tasks_from` is the teacher's session or recipe, whose tasks count instead of those in the files: a student may
    have edited these. Returns 0 if all tasks of all files are met, 1 if one is not, 2 if a file cannot be read.
    """
    given: tuple[Task, ...] = ()
    if tasks_from:
        try:
            given = _tasks(tasks_from)
        except (BadFile, BadInput) as error:
            return say(str(error), BAD)
        if not given:
            return say(f"{tasks_from} has no task", BAD)
    found: list[tuple[Path, Session | None, list[Outcome], str]] = []
    for file in files:
        try:
            _, session, notice = read(file)
        except BadFile as error:
            found.append((file, None, [], str(error)))
            continue
        if notice:
            say(notice)
        stated = outcomes(session)
        wanted = outcomes(session, given) if given else stated
        wanted = [one for one in wanted if not given or one.task in given]
        found.append(
            (file, session, wanted, "" if wanted else f"{file}: no task in it; --tasks FILE names one with some")
        )
    if form == "json":
        _print_json(found)
    else:
        _print_table(found)
    problems = [problem for *_, problem in found if problem]
    for problem in problems:
        say(problem)
    if problems:
        return BAD
    return SAME if all(one.met_at for _, _, wanted, _ in found for one in wanted) else DIFFERS


def _tasks(file: Path) -> tuple[Task, ...]:
    if file.suffix == ".toml":
        operations = recipe.read(file).steps
    else:
        operations = tuple(step.operation for step in read(file)[1].steps)
    return tuple({task.name: task for task in operations if isinstance(task, Task)}.values())


def _print_table(found: Sequence[tuple[Path, Session | None, list[Outcome], str]]) -> None:
    rows = [("file", "task", "met", "validation", "test", "non-zero", "goals, where it comes nearest")]
    for file, _, wanted, problem in found:
        if problem:
            rows.append((report.plain(file.name), "–", "?", "", "", "", "cannot be checked"))
        for one in wanted:
            met = f"step {one.met_at}" if one.met_at else "no"
            figures = report.snapshot_figures(one.nearest) if one.nearest else (report.ABSENT,) * 4
            _, _, validation, test = figures
            left = report.share(1 - one.nearest.whole.sparsity) if one.nearest else report.ABSENT
            goals = " · ".join(one.states()) or "its goals cannot be read"
            rows.append((report.plain(file.name), report.plain(one.task.name), met, validation, test, left, goals))
    for line in report.columns(rows, [True, True, True, False, False, False, True]):
        print(line.rstrip())


def _print_json(found: Sequence[tuple[Path, Session | None, list[Outcome], str]]) -> None:
    value = [
        {
            "file": str(file),
            "problem": problem,
            "tasks": [
                {
                    "name": one.task.name,
                    "goals": [goal.describe() for goal in one.goals],
                    "met_at": one.met_at or None,
                    "now": one.now,
                    "readings": [goal.reading(one.nearest) if one.nearest else None for goal in one.goals],
                }
                for one in wanted
            ],
        }
        for file, _, wanted, problem in found
    ]
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
