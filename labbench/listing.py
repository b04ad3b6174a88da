"""The headless commands that compute nothing: show a session or a recipe, list what can be chosen."""

import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import msgspec

from labbench.exits import BAD, SAME, say
from labbench.printable import escaped_json, printable, printable_lines
from labbench.session import figures, measures_report, recipe, report
from labbench.session.catalogue import Entry, Knob, shipped
from labbench.session.check import MAY_BE_LEFT_OUT, BadInput, bounds, listed
from labbench.session.jsonl import BadFile, Header, encode, read
from labbench.session.operations import Value
from labbench.session.scan_report import latest, of_another, table
from labbench.session.session import Session, Step

HELP_WIDTH = 34  # least room behind a setting's name, type and default in which its explanation can be read


def show(file: Path, form: str, measures: bool = False) -> int:
    """Print a session or a recipe: as text, as "json" or as "recipe"; of a session, with all measures of its model."""
    if file.suffix == ".toml":
        return _show_recipe(file, form)
    found = opened(file)
    if found is None:
        return BAD
    header, session = found
    match form:
        case "json":
            print_json(_session_value(header, session) | (_measures_value(session) if measures else {}))
        case "recipe":
            if not session.steps:
                return say(f"{file}: no recipe: no operation was finished", BAD)
            title = header.title.strip() or file.stem
            print(recipe.write(recipe.of(title, (step.operation for step in session.steps))), end="")
        case _:
            print_lines(_measures_lines(session) if measures else _session_lines(header, session))
    return SAME


def catalogue(what: str, form: str) -> int:
    """Print a menu, such as the models or the methods: as text, as "json" or, of the models, as "table"."""
    entries: tuple[Entry, ...] = getattr(shipped(), what)
    if form == "json":
        print_json(entries)
        return SAME
    if form == "table":
        if what != "models":
            return say(f"there is a table of the models only, not of the {what}; --json lists everything", BAD)
        print_lines(model_table(entries))
        return SAME
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for entry in entries:
        print_lines(entry_lines(entry, width))
    return SAME


def entry_lines(entry: Entry, width: int | None) -> list[str]:
    """An entry of a menu and its settings, wrapped to this width; None: a line each, for grep and the like."""
    facts = ", ".join(_fact(name, value) for name, value in entry.facts.items() if value is not False)
    lines = _wrapped("", f"{entry.name}: {entry.title}" + (f" ({facts})" if facts else ""), width, "    ")
    if not entry.knobs:
        return lines
    cells = [(knob.name, _kind(knob), _default(knob)) for knob in entry.knobs]
    heads = [f"    {head}" for head in report.columns(cells, [True] * 3)]
    indent = max(map(len, heads)) + 2
    beside = max(HELP_WIDTH, *(len(word) for knob in entry.knobs for word in knob.help.split()))
    if width is None or indent + beside <= width:
        for head, knob in zip(heads, entry.knobs, strict=True):
            lines += _wrapped(head.ljust(indent), knob.help, width, " " * indent)
        return lines
    for cell, knob in zip(cells, entry.knobs, strict=True):
        lines += _wrapped("    ", "  ".join(filter(None, cell)), width, "        ")
        lines += _wrapped("        ", knob.help, width, "        ")
    return lines


def _wrapped(start: str, text: str, width: int | None, behind: str) -> list[str]:
    if width is None:
        return [f"{start}{text}"]
    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=behind, break_on_hyphens=False)


def _fact(name: str, value: Value) -> str:
    words = name.replace("_", " ")
    if value is True:
        return words
    return f"{words} {value:,}" if isinstance(value, int) else f"{words} {value}"


def model_table(models: Iterable[Entry]) -> list[str]:
    """The models as a Markdown table: what they are by default, on the smallest input."""
    rows = [
        (
            f"`{one.name}`",
            f"{one.facts['parameters']:,}",
            one.facts["shape"],
            one.title,
            one.about.splitlines()[0].removesuffix("."),
        )
        for one in models
    ]
    head = ["| name | parameters | input | model | source |", "|---|--:|---|---|---|"]
    return head + [f"| {' | '.join(map(str, row))} |" for row in rows]


def opened(file: Path) -> tuple[Header, Session] | None:
    """The session of a file and its header; None after saying why there is none."""
    try:
        header, session, notice = read(file)
    except BadFile as error:
        say(str(error), BAD)
        return None
    if notice:
        say(notice)
    return header, session


def _show_recipe(file: Path, form: str) -> int:
    try:
        found = recipe.read(file)
    except BadInput as error:
        return say(str(error), BAD)
    match form:
        case "json":
            print_json(found)
        case "recipe":
            print(recipe.write(found), end="")
        case _:
            about = [found.about] if found.about else []
            steps = [f"{number:>3}  {printable(step.describe())}" for number, step in enumerate(found.steps, 1)]
            print_lines([printable(found.title), *about, "", *steps])
    return SAME


def _session_lines(header: Header, session: Session) -> list[str]:
    lines = [printable(line) for line in (header.title, header.created) if line]
    lines += ["", *report.history(session)] if lines else report.history(session)
    if session.snapshot:
        lines += ["", *report.layer_table(session.snapshot), "", *report.totals(session.snapshot)]
    if curves := report.curve_table(session):
        lines += ["", *curves]
    if scanned := latest(session):
        whose = f" ({other})" if (other := of_another(session)) else ""
        lines += ["", f"scan: validation accuracy in % with one layer pruned alone{whose}", *table(scanned)]
    if session.problem:
        lines += ["", f"it ended with: {session.problem.error}"]
    return lines


def _session_value(header: Header, session: Session) -> dict[str, object]:
    return {
        "title": header.title,
        "created": header.created,
        "environment": session.environment,
        "steps": [_step_value(step) for step in session.steps],
        "points": {number: {"from": parent} for number, parent in session.tree.parents.items()},
        "names": session.tree.names,
        "now": session.tree.now,
        "snapshot": session.snapshot,
    }


def _measures_lines(session: Session) -> list[str]:
    found = [["", f"{part}:", *measures_report.lines(session, part)] for part in measures_report.PARTS]
    return [line for part in found for line in part][1:]


def _measures_value(session: Session) -> dict[str, object]:
    snapshot = session.snapshot
    if snapshot is None:
        return {"measures": None}
    looked = figures.measures_of(session)
    rows = [row for row in snapshot.rows if row.prunable]
    return {
        "measures": {
            "looked_closely": looked,
            "effective_sparsity": looked and figures.effective_sparsity(snapshot, looked),
            "no_gradient": looked and looked.idle_share,
            "compression": figures.compressions(snapshot, looked),
            "macs_nonzero": figures.macs_nonzero(snapshot),
            "flops": 2 * snapshot.macs,
            "unique": sum(map(figures.unique_parameters, rows)),
            "saved": figures.saved_parameters(rows),
            "bits": sum(map(figures.bits, rows)),
            "f_of_k": {split: figures.trade_off(snapshot, split) for split in snapshot.accuracy},
            "frozen": figures.frozen_share(snapshot),
            "layers": {row.name: {"cut": row.channels_cut, **figures.zero_shares(row)} for row in rows},
            "classes": {
                split: figures.class_figures(snapshot, split, figures.dense_accuracy(session, split))
                for split in snapshot.accuracy
            },
        }
    }


def _step_value(step: Step) -> dict[str, object]:
    value: dict[str, object] = {
        "number": step.number,
        "words": step.operation.describe(),
        "operation": step.operation,
        "remarks": step.event.remarks,
        "seconds": step.event.seconds,
    }
    if snapshot := step.event.snapshot:
        value |= {
            "sparsity": snapshot.prunable.sparsity,
            "nonzero": snapshot.whole.nonzero,
            "parameters": snapshot.whole.now,
            "accuracy": {split: accuracy.top1 for split, accuracy in snapshot.accuracy.items()},
            "fingerprint": snapshot.fingerprint,
        }
    return value


def _kind(knob: Knob) -> str:
    if knob.kind == "choice":
        return listed(knob.choices)
    return knob.kind + bounds(knob)


def _default(knob: Knob) -> str:
    match knob.default:
        case None:
            return "" if knob.kind in MAY_BE_LEFT_OUT else "must be given"
        case tuple():
            return f"default {listed(knob.default) or 'none'}"
        case "":
            return "default empty"
        case _:
            return f"default {msgspec.json.encode(knob.default).decode().strip(chr(34))}"


def print_json(value: object) -> None:
    """Print data as JSON; what a terminal could act on is escaped in it."""
    print(escaped_json(msgspec.json.format(encode(value).rstrip(), indent=2).decode()))


def print_lines(lines: Iterable[str]) -> None:
    """Print data, line by line; what a terminal could act on is replaced. Whatever commands print passes here, or, as
    data or narration, `print_json` or `say`."""
    for line in lines:
        print(printable_lines(line))
