"""The history pane and what is done with its points: go there, name them, compare them."""

import re
import shutil
from pathlib import Path

import pytest
from hosting import Host, seen, type_in, until
from sample import lenet_rows, lenet_session, pruned, running_session, snapshot
from stub import app_on, settled

from labbench import folders
from labbench.session.events import Finished, Started
from labbench.session.history import rows
from labbench.session.measures import LayerScan, Scanned
from labbench.session.operations import Finetune, Jump, Load, Name, Note, Prune, Scan
from labbench.session.session import Session
from labbench.tui.actions import ACTIONS
from labbench.tui.pointing import told_in_full
from labbench.tui.screens.compare import CompareScreen
from labbench.tui.screens.name import NameForm
from labbench.tui.screens.other import OtherForm
from labbench.tui.screens.reader import Reader
from labbench.tui.widgets.history import _laid_out

NUMBER = re.compile(r"\d[\d,.]*\d|\d")
SESSIONS = Path(__file__).parent.parent.parent / "sessions"


def cursor(app):
    return app.bench._history.current


def shown_lines(app):
    """The lines of the history pane, without its frame."""
    return [line.rpartition("│")[0].rpartition("││")[2] for line in seen(app).splitlines()]


async def move(app, pilot, key, number):
    """The cursor on this step."""
    for _ in app.bench._history._rows:
        if cursor(app).number != number:
            await pilot.press(key)
    assert cursor(app).number == number


async def in_history(app, pilot):
    await settled(app, pilot)
    await pilot.press("tab", "tab")
    await until(pilot, lambda: app.bench.pane == "history" and app.bench._history.has_focus)


def branched():
    """The lesson, with a third way to prune and names."""
    session = lenet_session()
    for operation, made in (
        (Name(name="half", at="6"), None),
        (Jump(to="3"), session.snapshots[3]),
        (Prune(amount=0.75), snapshot(pruned(lenet_rows(), 0.75), session.snapshots[3].accuracy)),
        (Note(text="word " * 40), None),
    ):
        session.append(session.seconds, Finished(operation=operation, snapshot=made))
    return session


@pytest.mark.parametrize("width", [28, 34, 36, 44, 60, 76, 118])
def test_every_number_stands_whole_in_every_width(width):
    found = rows(branched())
    lines = _laid_out(found, frozenset({4, 9}), width)
    whole = {number for row in found for number in NUMBER.findall(f"{row.number} {row.words}")}
    whole |= {number for row in found for remark in row.remarks for number in NUMBER.findall(remark)}
    whole |= {number for row in found if row.compression for number in NUMBER.findall(f"{row.compression:.2f}")}
    whole |= {number for row in found if row.accuracy for number in NUMBER.findall(f"{100 * row.accuracy[1]:.1f}")}
    for _, _, text in lines:
        assert len(text) <= width
        assert set(NUMBER.findall(text)) <= whole
        assert not re.match(r"[\s│├…]*%", text)
    for row in found:
        if row.accuracy:
            assert any(f"{100 * row.accuracy[1]:.1f} %" in text for place, _, text in lines if found[place] == row)


@pytest.mark.parametrize("size", [(40, 20), (80, 24), (120, 40), (200, 50)])
async def test_the_pane_draws_the_tree_with_accuracy_and_compression(size):
    app = app_on(branched())
    async with app.run_test(size=size) as pilot:
        await in_history(app, pilot)
        await until(pilot, lambda: re.search(r"▸  13 prune.* 98\.3 %", seen(app)) and "├" in seen(app))
        now = next(line for line in seen(app).splitlines() if "▸  13" in line)
        assert size[0] < 80 or "×3.9" in now
        assert cursor(app).number == 14
        await pilot.press("g")
        await until(pilot, lambda: cursor(app).number == 1)


async def test_with_a_key_one_goes_to_the_point_under_the_cursor():
    app = app_on(branched())
    async with app.run_test(size=(120, 40)) as pilot:
        await in_history(app, pilot)
        await move(app, pilot, "up", 4)
        await pilot.press("h")
        await until(pilot, lambda: app.link.sent == [Jump(to="4")])
        app.link.hear(Finished(operation=Jump(to="4"), snapshot=app.desk.session.snapshots[4]))
        await until(pilot, lambda: app.desk.session.tree.now == 4)
        await until(pilot, lambda: "▸   4 prune" in seen(app))
        assert cursor(app).number == 4
        await pilot.press("h")
        await until(pilot, lambda: any("at step 4 already" in one.message for one in app._notifications))
        await move(app, pilot, "up", 6)
        await pilot.press("h")
        await until(pilot, lambda: app.link.sent[-1] == Jump(to="half"))


async def test_from_another_pane_the_key_shows_the_history_first():
    app = app_on(branched())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        await pilot.press("h")
        await until(pilot, lambda: app.bench.pane == "history" and "▸" in seen(app))
        assert app.link.sent == []


async def test_while_something_runs_nobody_goes_anywhere():
    app = app_on(branched())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        app.link.hear(Started(operation=Finetune()))
        await until(pilot, lambda: app.desk.running)
        await pilot.press("tab", "tab", "g", "h", "N")
        await until(pilot, lambda: any("finetune is running" in one.message for one in app._notifications))
        assert app.link.sent == [] and not isinstance(app.screen, NameForm)


async def test_a_point_is_named_with_a_form_that_says_what_is_wrong():
    app = app_on(branched())
    async with app.run_test(size=(80, 24)) as pilot:
        await in_history(app, pilot)
        await pilot.press("g", "down", "N")
        await until(pilot, lambda: isinstance(app.screen, NameForm))
        await pilot.press("enter")
        await type_in(pilot, "1x")
        await until(pilot, lambda: "✗ a name begins with a letter" in seen(app))
        await pilot.press("enter")
        assert isinstance(app.screen, NameForm)
        await pilot.press("home", "ctrl+k")
        await type_in(pilot, "half")
        await until(pilot, lambda: "half is what step 6 is called" in seen(app))
        await pilot.press("space", "2", "enter")
        await until(pilot, lambda: app.link.sent == [Name(name="half 2", at="2")])
        app.link.hear(Finished(operation=Name(name="half 2", at="2")))
        await until(pilot, lambda: "2 «half 2» finetune" in seen(app))


async def test_enter_reads_what_a_point_is():
    app = app_on(branched())
    async with app.run_test(size=(80, 24)) as pilot:
        await in_history(app, pilot)
        await move(app, pilot, "up", 6)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Reader) and "made from step 3" in seen(app))
        assert "6 operation · half" in seen(app)
        assert "compression ratio ×2.00, parameters when loaded / non-zero" in seen(app)


async def test_the_footer_of_the_history_shows_its_keys():
    app = app_on(branched())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        assert "h go here" not in seen(app)
        await pilot.press("tab", "tab")
        await until(pilot, lambda: "h go here  N name  space mark  d compare  u undo" in seen(app))
        await pilot.press("tab")
        await until(pilot, lambda: "f freeze" in seen(app))


def test_the_palette_has_what_the_history_does():
    found = {action.name: action for action in ACTIONS}
    assert {found[name].group for name in ("go", "name", "compare")} == {"History"}


async def test_marked_points_are_compared_part_by_part():
    app = app_on(branched())
    async with app.run_test(size=(80, 24)) as pilot:
        await in_history(app, pilot)
        await pilot.press("g", "space")
        await move(app, pilot, "down", 6)
        await pilot.press("space", "G", "space")
        await until(pilot, lambda: seen(app).count("●") >= 3)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and "compression" in seen(app))
        assert [one.number for one in app.screen.subjects] == [1, 6, 13]
        assert "B  step 6 «half» · prune" in seen(app)
        for key, words in (
            ("2", "≠50.0 %"),
            ("a", "channels"),
            ("3", "validation"),
            ("4", "⠒○ A 1"),
            ("y", "y accuracy"),
            ("z", "z all epochs"),
        ):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in seen(app))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: not isinstance(app.screen, CompareScreen))
        await until(pilot, lambda: not app.bench._history.marks)


async def test_without_marks_the_point_under_the_cursor_is_compared_with_the_model_now():
    app = app_on(branched())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert [one.number for one in app.screen.subjects] == [3, 13]
        await pilot.press("escape", "tab", "tab", "g", "down", "d")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert [one.number for one in app.screen.subjects] == [2, 13]


async def test_more_points_than_fit_are_refused_and_one_model_is_nothing_to_compare():
    app = app_on(branched())
    async with app.run_test(size=(80, 24)) as pilot:
        await in_history(app, pilot)
        app.bench._history.marks = frozenset({1, 2, 3, 4, 6})
        await pilot.press("d")
        await until(pilot, lambda: any("at most 4 fit" in one.message for one in app._notifications))
    app = app_on(lenet_session(3))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        await pilot.press("d")
        await until(pilot, lambda: any("nothing to compare yet" in one.message for one in app._notifications))


async def test_another_session_can_be_taken_in(tmp_path):
    folders.sessions().mkdir(parents=True)
    shutil.copy(SESSIONS / "lenet-5-digits.jsonl", folders.sessions() / "other.jsonl")
    app = app_on(branched())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        await pilot.press("d", "o")
        await until(pilot, lambda: isinstance(app.screen, OtherForm) and "recent sessions" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and "· other ·" in seen(app))
        await pilot.press("4")
        await until(pilot, lambda: "C 13" in seen(app))
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, OtherForm))
        await pilot.press("tab")
        await type_in(pilot, "nowhere.jsonl@2")
        await pilot.press("enter")
        await until(pilot, lambda: "✗" in seen(app) and "nowhere.jsonl" in seen(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))


async def test_a_recording_can_be_compared_too_and_its_points_are_only_looked_at():
    app = app_on(recording=branched())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.playback.player.position)
        await pilot.press(*["right"] * 6)
        await until(pilot, lambda: len(app.shown.session.steps) >= 6)
        await pilot.press("h")
        await until(pilot, lambda: any("this is a recording" in one.message for one in app._notifications))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))


def test_a_scan_is_read_with_its_table():
    session = Session()
    found = Scanned(top1=0.9, layers=(LayerScan(layers=("conv1",), amounts=(0.3,), top1=(0.42,)),))
    for event in (
        Finished(operation=Load(model="m", dataset="d"), snapshot=snapshot(lenet_rows())),
        Finished(operation=Scan(), scanned=found),
    ):
        session.append(0, event)
    assert "conv1" in told_in_full(rows(session)[-1], session) and "42.0" in told_in_full(rows(session)[-1], session)


async def test_the_form_for_another_session_fits_a_small_terminal(tmp_path):
    app = Host(OtherForm(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "another point of it" in " ".join(seen(app).replace("│", " ").split()))


@pytest.mark.parametrize("pane", ["layers", "history"])
async def test_points_are_compared_while_another_is_made(pane):
    app = app_on(running_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not app.stale and app.situation.running)
        app.bench.show_pane(pane)
        for key in ("d", "enter", "h", "N"):  # the cursor is on what is running
            await pilot.press(key)
            await pilot.pause()
            await pilot.press("escape")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
