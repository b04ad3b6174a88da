"""Session files of which any byte may be wrong: refused with line and reason, or shown; never a traceback, a hang, code
that runs, markup that acts, or a look at another file."""

import contextlib
import itertools
import json
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.style import Style
from session_examples import HERE, LOAD, finished, row, snapshot

from labbench.session import figures, measures_report, recipe, report
from labbench.session.events import AnyEvent, Failed, Finished, Metric, Progress, Ready, Sparsity, Started
from labbench.session.goals import outcomes
from labbench.session.history import rows
from labbench.session.jsonl import VERSION, BadFile, Header, Writer, encode, read
from labbench.session.keys import keys_of
from labbench.session.measures import LayerMeasures, Measures
from labbench.session.operations import Evaluate, Finetune, Jump, Measure, Name, Note, Prune, Task, Undo
from labbench.session.session import Session
from labbench.tui.app import LabbenchApp
from labbench.tui.screens.log import told
from labbench.tui.situation import Playing, Situation
from labbench.tui.widgets.caption import strip
from labbench.tui.widgets.columns import changed, describe, measured, place
from labbench.tui.widgets.heading import heading
from labbench.tui.widgets.histogram import histogram
from labbench.tui.widgets.plot import Series, plot
from labbench.tui.widgets.status import status
from labbench.tui.widgets.tasks import tasks
from labbench.tui.widgets.totals import totals

FILES = 10_000
PLAYED = 4
MARKUP = "[@click=app.quit]press[/]"
HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63 - 1, 10**30, -(10**18), 1e308, -1e308, 1e-308, 0.5),
    *("", MARKUP, "../../etc/passwd", "\x1b]0;x\x07\x1b[2J", "\u202e", "conv1", "__import__('os')", "a" * 5000),
    *([], {}, [[]], [None], {"a": {}}, [0, 0], {"op": "undo"}, {"event": "finished"}),
)
SPLINTERS = [b"9" * 40, b"\n", b'"', b"{", b"}", b"[", b"null", b"-", b"e999", b"\\ud800", b"\xff", b"\x00", b","]


def events() -> Iterator[AnyEvent]:
    """One of each that a file may hold."""
    found = snapshot(row(), row("fc", 50, kind="linear", shape=(10, 10)), validation=0.9, test=0.8)
    yield Ready(environment=HERE)
    yield from finished(LOAD, found)
    yield from finished(Note(text=f"see {MARKUP}", chapter="One", ask="how much?"))
    yield from finished(Task(name=MARKUP, goals=("parameters < 50 %", "accuracy > 90 %")))
    yield Started(operation=Finetune(epochs=2))
    yield Progress(phase="train", fraction=0.5, epoch=1, epochs=2, step=3, steps=6, loss=0.1, rate=9.5, eta=1.0)
    for epoch in (1, 2):
        yield Metric(name="train/loss", x=epoch, y=1 / epoch)
        yield Metric(name="validation/accuracy", x=epoch, y=0.4 * epoch)
        yield Sparsity(epoch=epoch, nonzero={"conv1": 5}, unique={"conv1": 2})
    yield Finished(operation=Finetune(epochs=2), snapshot=found, remarks=("kept epoch 2",), seconds=0.5)
    yield from finished(Name(name="tuned"))
    pruned = snapshot(row(nonzero=30, masked=True, last="x"), row("fc", 20, kind="linear", shape=(10, 10)), test=0.7)
    yield from finished(Prune(layers=("conv*",), amounts={"fc": 0.3}), pruned)
    yield from finished(Undo(), found)
    yield from finished(Jump(to="6"), pruned)
    yield from finished(Evaluate(), pruned)
    looked = LayerMeasures(name="conv1", weights=100, connected=90, idle=3, distinct=80)
    yield Finished(operation=Measure(), measures=Measures(layers=(looked,), stored=900, stored_loaded=1000))
    yield Failed(error=f"no such layer {MARKUP}", operation=Prune(layers=("x",)))


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Of a whole session file."""
    path = tmp_path_factory.mktemp("whole") / "session.jsonl"
    with Writer(path, Header(labbench=VERSION, title=MARKUP, environment=HERE)) as writer:
        for number, event in enumerate(events()):
            writer.write(float(number), event)
    return path.read_bytes().splitlines(keepends=True)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a nest."""
    yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*way, key))


def mutated(lines: list[bytes], random: random.Random) -> bytes:
    """A file with one to three things wrong in it: a byte, a piece, a line, or a value of the right syntax."""
    changed = list(lines)
    for _ in range(random.randint(1, 3)):
        number = random.randrange(len(changed))
        line = changed[number]
        match random.randrange(7):
            case 0 if line:
                place = random.randrange(len(line))
                changed[number] = line[:place] + bytes([random.randrange(256)]) + line[place + 1 :]
            case 1:
                first, last = sorted(random.randrange(len(line) + 1) for _ in range(2))
                changed[number] = line[:first] + line[last:]
            case 2:
                place = random.randrange(len(line) + 1)
                changed[number] = line[:place] + random.choice(SPLINTERS) + line[place:]
            case 3:
                other = random.randrange(len(changed))
                changed[number], changed[other] = changed[other], line
            case 4:
                changed.insert(number, line)
            case _:
                changed[number] = with_another_value(line, random)
    whole = b"".join(changed)
    return whole[: random.randrange(len(whole) + 1)] if random.random() < 0.05 else whole


def with_another_value(line: bytes, random: random.Random) -> bytes:
    """A line of JSON in which one value is another one."""
    try:
        value = json.loads(line)
    except ValueError:
        return line
    way = random.choice(list(places(value))[1:] or [()])
    holder = value
    for key in way[:-1]:
        holder = holder[key]
    if way:
        holder[way[-1]] = random.choice(HOSTILE)
    return json.dumps(value).encode() + b"\n"


def look(session: Session) -> str:
    """Everything that follows from a session on its way to a screen or a terminal; the words."""
    found = [*report.history(session), *report.curve_table(session)]
    encode(session.restore())
    keys_of(session)
    done = tuple(step.operation for step in session.steps)
    recipe.write(recipe.Recipe(title="t", steps=done))
    for situation in (Situation(worker="ready"), Situation(playing=Playing(1, 2, 1.0, True, False))):
        for make in (heading, strip, status):
            found.append(make(session, situation, 80).plain)
    found += [totals(session, 80).plain, tasks(session, 80).plain]
    found += [f"{row.lines}{row.words} {row.name}" for row in rows(session)]
    found += [text.plain for _, event in session.events for text in told(event)]
    [state for one in outcomes(session) for state in one.states()]
    for part in measures_report.PARTS:
        found += measures_report.lines(session, part)
    if session.snapshot:
        found += report.layer_table(session.snapshot) + report.totals(session.snapshot)
        place(session.snapshot.rows, 80, 0)
        changed(session.before, session.snapshot)
        looked = figures.measures_of(session)
        for one in session.snapshot.rows:
            found += [describe(one), *measured(one, looked), histogram(one, (40, 10), Style()).plain]
    return "\n".join(found)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What is opened, imported, run or sent while it lasts. An audit hook can never be removed: it is muted."""
    seen: list[str] = []
    heard = re.compile(r"open|import|exec|compile|subprocess\..*|os\.(system|exec.*|spawn.*|remove|rename)|socket\..*")
    on = [True]

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if on[0] and heard.fullmatch(event):
            seen.append(f"{event} {arguments[0] if arguments else ''!s:.200}")

    sys.addaudithook(hear)
    try:
        yield seen
    finally:
        on[0] = False


def draw(session: Session, drawn: set[object]) -> None:
    """Its curves on both axes, if they were not drawn yet."""
    points = {name: tuple(curve.points) for name, curve in session.curves.items()}
    if (seen := (tuple(points.items()), tuple(session.runs))) not in drawn:
        drawn.add(seen)
        for log in (False, True):
            plot(
                [Series(name, found, "", Style()) for name, found in points.items()][:3],
                session.runs,
                (40, 10),
                Style(),
                log,
            )


def test_ten_thousand_broken_files_are_refused_or_shown(lines: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_bytes(b"".join(lines))
    drawn: set[object] = set()
    whole = read(path)[1]
    assert MARKUP in look(whole)  # what is imported at the first use is imported now
    draw(whole, drawn)
    refused = shown = cut = 0
    with watched() as seen:
        for number in range(FILES):
            path.write_bytes(mutated(lines, random.Random(number)))
            try:
                _, session, notice = read(path)
            except BadFile as error:
                assert re.match(rf"{re.escape(str(path))}(, line \d+)?: \S", str(error))
                assert "\n" not in str(error)
                refused += 1
                continue
            look(session)
            draw(session, drawn)
            shown += 1
            cut += bool(notice)
    assert set(seen) == {f"open {path}"}
    assert refused > FILES // 2 and shown > FILES // 20 and cut > 10, (refused, shown, cut)


async def test_what_can_still_be_read_is_played_on_the_screen_as_text(lines: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    played = 0
    for number in itertools.count():
        path.write_bytes(mutated(lines, random.Random(number)))
        with contextlib.suppress(BadFile):
            _, session, _ = read(path)
            app = LabbenchApp(recording=session, session_path=path)
            async with app.run_test(size=(80, 24)) as pilot:
                await pilot.press(*["right"] * (len(session.steps) + 1), "m", "escape", "]", "]", "enter")
                await pilot.pause()
                assert app.is_running and app._exception is None
            played += 1
        if played == PLAYED:
            break
