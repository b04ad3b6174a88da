"""No key that a screen shows is dead: each does something that is seen, heard or sent."""

import asyncio

import pytest
from bench_data import ENVIRONMENT, catalogue
from hosting import Host, seen, until
from sample import lenet_session, running_session, taught_session
from stub import app_on, settled
from textual.widgets import Static

from labbench.session.comparison import subject
from labbench.session.recipe import Recipe
from labbench.session.session import Session
from labbench.tui.actions import footer, in_help
from labbench.tui.screens.about import AboutScreen
from labbench.tui.screens.chapters import ChaptersScreen
from labbench.tui.screens.compare import CompareScreen
from labbench.tui.screens.confirm import Confirm
from labbench.tui.screens.form import OperationForm
from labbench.tui.screens.help import HelpScreen
from labbench.tui.screens.log import LogScreen
from labbench.tui.screens.measures import MeasuresScreen
from labbench.tui.screens.note import NoteForm, PathForm
from labbench.tui.screens.open import OpenScreen
from labbench.tui.screens.other import OtherForm
from labbench.tui.screens.reader import Reader
from labbench.tui.screens.scan import ScanScreen
from labbench.tui.screens.task import TaskForm

PLACES = ("empty", "idle", "history", "running", "player")


def opened(place):
    """An app of which the footer shows the keys of this place."""
    match place:
        case "player":
            return app_on(recording=taught_session())
        case "empty":
            return app_on(Session())
        case "running":
            return app_on(running_session())
        case _:
            return app_on(lenet_session(), recipe=Recipe(title="next", steps=(lenet_session().steps[-1].operation,)))


def state(app):
    """Whatever a key may change."""
    bench, player = app.bench, app.playback and app.playback.player
    return (
        app.screen, app.focused, len(app.link.sent), len(app._notifications), app._leaving, app.link.closed,
        bench.table.marks, bench._history.marks, bench.picture.kind, bench.classes,
        player and (player.position, player.paused),
    )  # fmt: skip


async def at(app, pilot, place):
    if place == "player":
        await until(pilot, lambda: app.playback.player.position)
        app.playback.player.pause()
        app.playback.go(3)
        app.touch()
    elif place != "running":
        await settled(app, pilot)
    await until(pilot, lambda: not app.stale)
    app.bench.picture.choose("histogram")  # so that every other kind is another one
    if app.screen is not app.bench:
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.bench)
    if place == "history":
        app.bench.show_pane("history")
        await pilot.press("up", "up")


@pytest.mark.parametrize("place", PLACES)
async def test_every_key_of_the_footer_does_something(place):
    async def names():
        app = opened(place)
        async with app.run_test(size=(200, 50)) as pilot:
            await at(app, pilot, place)
            return [(action.name, action.keys[0]) for action in footer(app.situation, app.bench.pane)]

    for name, key in await names():
        app = opened(place)
        async with app.run_test(size=(200, 50)) as pilot:
            await at(app, pilot, place)
            before = state(app)
            await pilot.press(key)
            for _ in range(200):
                if state(app) != before:
                    break
                await asyncio.sleep(0.01)
            assert state(app) != before, f"{key} {name} does nothing"


async def test_where_a_line_is_typed_the_footer_has_its_keys():
    app = opened("idle")
    async with app.run_test(size=(80, 24)) as pilot:
        await at(app, pilot, "idle")
        await pilot.press("/")
        await until(pilot, lambda: "esc cancel" in seen(app).splitlines()[-1])
        assert "prune" not in seen(app).splitlines()[-1]
        await pilot.press("escape")
        await until(pilot, lambda: "p prune" in seen(app).splitlines()[-1])


HERE = lenet_session()
SCREENS = {
    "about": lambda folder: AboutScreen(ENVIRONMENT, {"log": folder}),
    "chapters": lambda folder: ChaptersScreen(taught_session(), 2, 2),
    "compare": lambda folder: CompareScreen([subject(HERE, 1, "a"), subject(HERE, 2, "a")], folder),
    "confirm": lambda folder: Confirm("so?", "yes", "no"),
    "form": lambda folder: OperationForm("prune", catalogue(), HERE.snapshot),
    "help": lambda folder: HelpScreen(in_help("bench")),
    "log": lambda folder: LogScreen(folder / "log", HERE),
    "measures": lambda folder: MeasuresScreen(HERE),
    "note": lambda folder: NoteForm(),
    "open": lambda folder: OpenScreen(catalogue(), None, folder, None, folder),
    "other": lambda folder: OtherForm(folder),
    "path": lambda folder: PathForm("save", str(folder / "a.jsonl")),
    "reader": lambda folder: Reader("title", "words"),
    "scan": lambda folder: ScanScreen(lambda: HERE, lambda: True),
    "task": lambda folder: TaskForm(HERE.snapshot),
}
NAMED = {"⏎": "enter", "esc": "escape", "↑": "up", "↓": "down", "←": "left", "→": "right", "+": "plus", "-": "minus"}
SCROLLED = {"up", "down", "left", "right"}  # what scrolls is bound in Textual


def keys_in(hint):
    """The keys that a line of hints names: "1–4, tab part · ←→↑↓ scroll · esc" → 1, 2, 3, 4, tab, left, …"""
    for part in hint.split(" · "):
        for word in part.replace(",", "").split():
            first, dash, last = word.partition("–")
            if dash:
                yield from map(str, range(int(first), int(last) + 1))
            elif word in NAMED or word in ("enter", "tab") or word.startswith("ctrl+") or len(word) == 1:
                yield NAMED.get(word, word)
            elif set(word) <= set(NAMED):
                yield from (NAMED[letter] for letter in word)
            else:
                break  # what they do


@pytest.mark.parametrize("name", SCREENS)
async def test_every_key_that_a_dialog_names_is_bound_there(tmp_path, name):
    app = Host(SCREENS[name](tmp_path))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.screen is app.first and "╭" in seen(app))
        hint = str(app.screen.query("Buttons Static").first(Static).content)
        named = set(keys_in(hint))
        assert named, hint
        bound = set(app.screen.active_bindings)
        for widget in app.screen.query("*"):
            bound |= set(widget._bindings.key_to_bindings)
        assert not named - bound - {"y" if name == "confirm" else ""}, hint


def test_the_hints_are_read_as_people_read_them():
    assert list(keys_in("1–3, tab part · ←→ scroll · o another session · esc")) == [
        "1", "2", "3", "tab", "left", "right", "o", "escape",
    ]  # fmt: skip


async def test_ctrl_z_suspends_in_a_dialog_too_but_not_where_it_takes_back_what_was_typed(monkeypatch):
    app = app_on(lenet_session())
    suspended = []
    monkeypatch.setattr(app, "action_suspend_process", lambda: suspended.append(app.focused))
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        await pilot.press("ctrl+z")
        assert len(suspended) == 1
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("ctrl+z")
        assert len(suspended) == 2
        await pilot.press("escape", "p")
        await until(pilot, lambda: isinstance(app.screen, OperationForm) and app.focused is not None)
        await pilot.press("9", "ctrl+z")
        assert len(suspended) == 2
