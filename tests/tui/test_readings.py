"""Screens that are read, and small questions: help, log, about, note, path, confirm."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from bench_data import ENVIRONMENT, snapshot
from hosting import PENDING, Host, seen, type_in, until

from labbench.session.events import Failed, Finished, Ready, Started
from labbench.session.operations import Load, Note, Prune
from labbench.session.session import Session
from labbench.tui.screens.about import AboutScreen
from labbench.tui.screens.confirm import Confirm
from labbench.tui.screens.help import TERMS, HelpScreen
from labbench.tui.screens.log import LogScreen
from labbench.tui.screens.note import NoteForm, PathForm

MARKUP = "[@click=app.quit]x[/]"


@dataclass
class Action:
    key: str
    title: str
    help: str
    group: str


def whole(screen):
    """All words of a screen, those that are scrolled away too."""
    return "\n".join(str(one.content) for one in screen.query("Static"))


async def test_help_shows_every_action_under_its_group_and_every_term():
    screen = HelpScreen([Action("p", "prune", "Remove weights.", "Operations"), Action("q", "quit", MARKUP, "App")])
    app = Host(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Remove weights." in seen(app))
        assert "Operations" in seen(app) and MARKUP in seen(app)
        assert all(term in whole(screen) for term, _ in TERMS)
        await pilot.press("G")
        await until(pilot, lambda: "recipe" in seen(app))


@pytest.mark.parametrize("key", ["escape", "q", "question_mark", "enter"])
async def test_help_closes(key):
    app = Host(HelpScreen([]))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        if key == "enter":
            app.screen.query_one("#close").focus()
        await pilot.press(key)
        await until(pilot, lambda: app.result is not PENDING)


@pytest.mark.parametrize("key, answer", [("y", True), ("n", False), ("enter", True), ("escape", False)])
async def test_a_question_is_answered_with_one_key(key, answer):
    app = Host(Confirm(f"Stop it and quit? {MARKUP}"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: f"Stop it and quit? {MARKUP}" in seen(app))
        await pilot.press(key)
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result is answer


async def test_enter_takes_the_button_that_arrows_reached():
    app = Host(Confirm("Really?"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("right", "enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result is False


async def test_a_note_of_several_lines_is_saved():
    app = Host(NoteForm())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("a", "enter", "b", "ctrl+o")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Note(text="a\nb")


async def test_an_empty_note_is_refused_and_escape_gives_none():
    app = Host(NoteForm())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("space", "ctrl+o")
        await until(pilot, lambda: "a note needs at least one word" in seen(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result is None


async def test_tab_leaves_the_note_for_its_buttons():
    app = Host(NoteForm())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("h", "i", "tab", "enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == Note(text="hi")


async def test_a_new_path_is_returned_at_once(tmp_path):
    app = Host(PathForm("Save as", f"{tmp_path}/"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "this is a folder" in seen(app))
        await type_in(pilot, "a.jsonl")
        await until(pilot, lambda: "a new file" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == tmp_path / "a.jsonl"


@pytest.mark.parametrize("replace", [True, False])
async def test_a_file_that_exists_is_replaced_only_after_a_question(tmp_path, replace):
    path = tmp_path / "a.jsonl"
    path.write_text("x")
    app = Host(PathForm("Save as", str(path)))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "the file exists" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Replace it?" in seen(app))
        await pilot.press("y" if replace else "n")
        await until(pilot, lambda: "Replace it?" not in seen(app))
        assert app.result == (path if replace else PENDING)


async def test_a_path_in_no_folder_is_refused(tmp_path):
    app = Host(PathForm("Save as", f"{tmp_path}/nowhere/a.jsonl"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: "there is no folder" in seen(app))
        assert app.result is PENDING
        await pilot.press("escape")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result is None


def lesson():
    session = Session("lesson")
    load = Load(model="lenet-5", dataset="digits")
    session.append(0, Ready(environment=ENVIRONMENT))
    session.append(61, Started(operation=load))
    session.append(62, Finished(operation=load, snapshot=snapshot(), seconds=1.0, remarks=("a remark",)))
    session.append(63, Finished(operation=Note(text=MARKUP)))
    session.append(64, Failed(operation=Prune(layers=("nope",)), error="no such layer: nope"))
    return session


async def test_the_log_tells_events_in_words_with_their_time(tmp_path):
    app = Host(LogScreen(tmp_path / "labbench.log", lesson()))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "✓ open lenet-5 on digits (1.0 s)" in seen(app))
        text = seen(app)
    assert "1:02" in text and "· a remark" in text and f"note: {MARKUP}" in text
    assert "✗ prune nope to 50 % (magnitude): no such layer: nope" in text


async def test_the_log_shows_the_end_of_the_file_and_reads_it_again(tmp_path):
    path = tmp_path / "labbench.log"
    path.write_text("\n".join(f"[bold]line {number}" for number in range(20_000)))
    app = Host(LogScreen(path, Session()))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Nothing happened yet" in seen(app))
        await pilot.press("2")
        await until(pilot, lambda: "[bold]line 19999" in seen(app))
        with path.open("a") as file:
            file.write("\nthe newest")
        await pilot.press("r")
        await until(pilot, lambda: "the newest" in seen(app))
        await pilot.press("g")
        await until(pilot, lambda: "the newest" not in seen(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.result is not PENDING)


async def test_a_log_that_is_not_there_is_no_error(tmp_path):
    app = Host(LogScreen(tmp_path / "labbench.log", Session()))
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: f"Nothing was written to {tmp_path}" in seen(app))


async def test_about_tells_versions_and_paths():
    for environment, word in ((ENVIRONMENT, "torch-pruning"), (None, "warming up")):
        app = Host(AboutScreen(environment, {"log": Path("/tmp/[bold]x.log")}))
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda app=app, word=word: word in seen(app) and "/tmp/[bold]x.log" in seen(app))
