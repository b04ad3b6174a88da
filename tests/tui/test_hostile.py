"""A file of somebody else on every screen: what goes to the terminal is words, and what Textual itself says to it."""

import re

import pytest
from everything import everything
from hostile import PAYLOAD, SHORT, hostile, hostile_session, write
from hosting import until
from rich.segment import Segment
from stub import app_on, settled
from textual.color import Color
from textual.drivers import headless_driver
from textual.screen import ModalScreen

from labbench import folders
from labbench.cells import cells
from labbench.printable import harmless
from labbench.session.events import Coupled, Exported, Failed, Finished, Grouped, Previewed, Progress, Started
from labbench.session.operations import Prune
from labbench.tui.actions import ACTIONS
from labbench.tui.app import LabbenchApp
from labbench.tui.crash import report
from labbench.tui.harmless import Harmless

TEXTUAL = re.compile(r"\x1b\[(?:\d+;\d+H|\?2026[hl]|[\d;]*m)|\x1b\]22;[a-z]*\x07|\n")
"""Moves of the cursor, frames, colors and ends of lines: nothing else is said to a terminal while a screen is drawn."""
LEAVE = {"quit", "take_over"}
FORMS = ("prune", "finetune", "name", "open", "note", "task", "save", "export")
"""What only the bench has and opens a screen."""
KEYS = {
    "MeasuresScreen": ("2", "3", "4"),
    "CompareScreen": ("2", "a", "3", "4", "y", "o"),
    "LogScreen": ("2",),
    "ScanScreen": ("plus",),
    "OperationForm": ("ctrl+t",),
}


@pytest.fixture
def terminal(monkeypatch):
    """Everything that is written to the terminal."""
    written = []

    class Captured(headless_driver.HeadlessDriver):
        is_headless = False

        def write(self, data):
            written.append(data)

    monkeypatch.setattr(headless_driver, "HeadlessDriver", Captured)
    return written


def acting(written):
    """What a terminal would act on, with what is around it."""
    text = TEXTUAL.sub("", "".join(chunk for chunk in written if chunk != "\a"))
    found = [text[max(place - 20, 0) : place + 20] for place, char in enumerate(text) if not harmless(char)]
    return [*found, *(one for one in ("\x1b[31m", "\x1b[2J") if one in "".join(written))]


def crooked(app):
    """Lines of the picture that are not as wide as the screen."""
    lines = ("".join(piece.text for piece in strip) for strip in app.screen._compositor.render_strips(app.size))
    return [line for line in lines if cells(line) != app.size.width or "\n" in line]


async def at_every_screen(app, pilot, names):
    """Do each of these actions, look at all parts of the screens that they open, and come back; which screens."""
    seen = set()
    for name in names:
        app.do(name)
        await pilot.pause()
        seen.add(type(app.screen).__name__)
        assert not crooked(app)
        for key in KEYS.get(type(app.screen).__name__, ()):
            await pilot.press(key)
            assert not crooked(app)
        while isinstance(app.screen, ModalScreen):
            await pilot.press("escape")
    return seen


def test_a_line_keeps_its_cells_whatever_is_left_out_of_it():
    for text in ("a\nb\x1b[2J", PAYLOAD, SHORT, "卷\u200d卷", "\ue000x", "\ud800"):
        made = Harmless().apply([Segment("ab "), Segment(text)], Color(0, 0, 0))
        assert sum(cells(one.text) for one in made) == 3 + cells(text)
        assert all(map(harmless, "".join(one.text for one in made)))


async def test_a_player_shows_words_of_a_file_and_nothing_that_acts(terminal, tmp_path):
    events, kinds = hostile(everything())
    assert len(kinds) > 57
    app = LabbenchApp(recording=hostile_session(events), session_path=tmp_path / f"e{SHORT}.jsonl")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.playback.player.position)
        app.playback.player.pause()
        for step in (2, 3, 4, 20):  # notes, a question, its answer
            app.playback.go(step)
            app.touch()
            await until(pilot, lambda: not app.stale)
            assert not crooked(app)
            await at_every_screen(app, pilot, ("big", "read", "big"))
        app.playback.go(len(app.playback.player.recording.steps))
        seen = await at_every_screen(
            app, pilot, [one.name for one in ACTIONS if "player" in one.where and one.name not in LEAVE]
        )
    assert seen >= {
        "HelpScreen",
        "CompareScreen",
        "ScanScreen",
        "MeasuresScreen",
        "LogScreen",
        "ChaptersScreen",
        "Reader",
    }
    assert "PWNED" in "".join(terminal)  # the words are there
    assert not acting(terminal)


async def test_the_bench_shows_words_of_a_file_and_nothing_that_acts(terminal):
    recent = folders.sessions()
    recent.mkdir(parents=True)
    write(recent / f"e{SHORT}.jsonl", hostile(everything())[0])
    app = app_on(hostile_session(hostile(everything(end=False))[0]))
    async with app.run_test(size=(160, 50), notifications=True) as pilot:
        await settled(app, pilot)
        seen = await at_every_screen(app, pilot, FORMS)
        row = app.desk.session.snapshot.rows[0]
        prune = Prune(layers=(row.name,), method=PAYLOAD)
        group = Coupled(layers=(row.name, PAYLOAD), readers=(PAYLOAD,), norms=(PAYLOAD,), channels=3, why=PAYLOAD)
        for heard in (
            Failed(error=PAYLOAD, operation=prune, bug=True),
            Exported(path=f"/tmp/{PAYLOAD}", size=3, remarks=(PAYLOAD,)),
            Grouped(groups=(group, Coupled(layers=(PAYLOAD,), refused=PAYLOAD))),
            Previewed(operation=prune, error=PAYLOAD, remarks=(PAYLOAD,)),
            Started(operation=prune),
            Progress(phase=PAYLOAD, fraction=0.5, note=PAYLOAD),
            Finished(operation=prune, snapshot=app.desk.session.snapshot, remarks=(PAYLOAD,)),
        ):
            app.link.hear(heard)
            await pilot.pause(0.02)
            await until(pilot, lambda: not app.stale)
            assert not crooked(app)
            if isinstance(app.screen, ModalScreen):
                await pilot.press("escape")
    assert seen >= {"OpenScreen", "NoteForm", "TaskForm", "NameForm", "PathForm", "OperationForm"}
    assert not acting(terminal)


def test_a_broken_program_says_so_in_words(tmp_path):
    assert report(RuntimeError(PAYLOAD), tmp_path / "log").isprintable()
