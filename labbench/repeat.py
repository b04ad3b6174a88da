"""The headless command that does a session once for each of several seeds: `replay --repeat`."""

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec

from labbench.commands import models_of, planned_of, refuse_code, taken, tell_silence, worker_for
from labbench.exits import BAD, CANNOT, DIFFERS, INTERRUPTED, SAME, say
from labbench.headless import CannotRun, Heard, Stopped
from labbench.listing import print_lines
from labbench.printable import escaped_json, printable
from labbench.session import lock, report
from labbench.session.events import Finished
from labbench.session.jsonl import keep_tolerance
from labbench.session.session import Session
from labbench.session.snapshot import Snapshot
from labbench.session.spread import Figures, Spread, gathered, tolerance_of
from labbench.session.vary import Setting, shifted
from labbench.session.writing import whole
from labbench.verify import Plan, StepFailed, do_again

COLUMNS = ("validation", "test", "sparsity")


def repeat(
    file: Path,
    seeds: Sequence[int],
    *,
    json: Path | None,
    keep: bool,
    device: str,
    data_dir: Path | None,
    trust_code: bool,
    first: int = 1,
    until: int | None = None,
    settings: Sequence[Setting] = (),
) -> int:
    """Do a session (or steps `first` to `until`) once for each seed, added to every seed in it, and print what came of
    each step as mean ± standard deviation. `keep` writes it into the file; `json` is a new file for all values."""
    if taken(json, "--json"):
        return BAD
    planned = planned_of(file, first, until, settings, device)
    if planned is None:
        return BAD
    models = models_of(planned)
    if models and not trust_code:
        return refuse_code(file, models)
    if keep and (problem := _closed(file)):
        return say(problem, BAD)
    runs: dict[int, dict[int, Snapshot | None]] = {}
    code = SAME
    for place, seed in enumerate(seeds, 1):
        found: dict[int, Snapshot | None] = {}
        try:
            _run(planned, seed, found, data_dir, models)
        except StepFailed as error:
            code = say(f"seed {seed}, {place} of {len(seeds)}: {error}", DIFFERS)
        except CannotRun as error:
            code = say(str(error), CANNOT)
            break
        except (Stopped, KeyboardInterrupt) as stopped:
            code = stopped.code if isinstance(stopped, Stopped) else INTERRUPTED
            say(f"stopped; {place - 1} of {len(seeds)} seeds were done")
            break
        else:
            say(f"seed {seed}, {place} of {len(seeds)}: done")
        runs[seed] = found
    if not runs:
        return code
    steps = gathered(planned.steps, runs)
    print_lines(_table(steps, len(runs)))
    if json:
        with whole(json, new=True) as part:
            part.write_bytes(_json(planned, tuple(runs), steps))
    if keep and (problem := _kept(file, steps)):
        return say(problem, code or DIFFERS)
    return code


def _run(
    planned: Plan, seed: int, found: dict[int, Snapshot | None], data_dir: Path | None, models: Sequence[str]
) -> None:
    """Do what is planned with this seed; what came of each step goes to `found`."""

    def see(session: Session, event: Heard) -> None:
        if isinstance(event, Finished):
            found[session.steps[-1].number] = event.snapshot
        tell_silence(event)

    with worker_for(planned, data_dir) as command:
        again = dataclasses.replace(planned, operations=shifted(planned.operations, seed))
        asyncio.run(do_again(again, see, command=command, trusted=models))


def _closed(file: Path) -> str:
    """Why the spread could not be written into the file, before hours are spent on it."""
    try:
        lock.opened(file).close()
    except OSError as error:
        return _cannot_carry(file, error)
    return ""


def _cannot_carry(file: Path, error: OSError) -> str:
    return f"{file} cannot carry the spread: {error.strerror or error}"


def _kept(file: Path, steps: Sequence[Figures]) -> str:
    """Write the spread into the file's header; gives what went wrong."""
    tolerance = tolerance_of(steps)
    if not tolerance:
        return "nothing to keep: a spread takes at least two seeds and an accuracy"
    try:
        keep_tolerance(file, tolerance)
    except OSError as error:
        return _cannot_carry(file, error)
    say(f"{file} now carries the spread of {len(tolerance)} steps")
    return ""


def _table(steps: Sequence[Figures], seeds: int) -> list[str]:
    rows: list[tuple[str, ...]] = [("#", "operation", *COLUMNS, "n")]
    for step in steps:
        spreads = [step.spread(name) for name in COLUMNS]
        n = max((spread.n for spread in spreads if spread), default=seeds)
        words = (_words(spread, name) for name, spread in zip(COLUMNS, spreads, strict=True))
        rows.append((str(step.number), printable(step.operation.describe()), *words, str(n)))
    return report.columns(rows, [False, True, False, False, False, False])


def _words(spread: Spread | None, name: str) -> str:
    if spread is None:
        return report.ABSENT
    if name == "sparsity" and not spread.sd:
        return report.share(spread.mean)
    deviation = report.ABSENT if spread.sd is None else f"{100 * spread.sd:.2f}"
    return f"{100 * spread.mean:.2f} ± {deviation} %"


def _json(planned: Plan, seeds: Sequence[int], steps: Sequence[Figures]) -> bytes:
    value = {
        "title": planned.header.title,
        "seeds": seeds,
        "steps": [
            {
                "number": step.number,
                "words": step.operation.describe(),
                "operation": step.operation,
                "figures": {
                    name: msgspec.structs.asdict(spread) | {"values": list(values.values()), "seeds": list(values)}
                    for name, values in step.values.items()
                    if (spread := step.spread(name))
                },
            }
            for step in steps
        ],
    }
    return escaped_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()).encode() + b"\n"
