"""What is said stands in lines of its own, on every screen: no figure and no button is under it."""

import pytest
from hosting import seen, until
from sample import lenet_session
from stub import app_on, settled
from textual.widgets._toast import Toast, ToastRack

from labbench.tui.actions import ACTIONS

SENTENCE = "cannot cut fc2: these outputs are the answers of the model, one for each class; leave it out"
SCREENS = (
    "prune",
    "finetune",
    "open",
    "note",
    "task",
    "save",
    "measures",
    "compare",
    "log",
    "help",
    "about",
    "read",
    "scan",
)


def in_words(app):
    """The text on the screen without line ends and frames."""
    return " ".join("".join(letter for letter in seen(app) if letter not in "│╭╮╰╯─▌").split())


def covered(app):
    """What lies under the lines of what is said."""
    rack = app.screen.query_one(ToastRack)
    seen_lines = [toast.region for toast in rack.query(Toast) if rack.region.overlaps(toast.region)]
    assert seen_lines
    return [
        widget
        for line in seen_lines
        for widget, _ in app.screen.get_widgets_at(*line.intersection(rack.region).offset)
        if widget is not app.screen and rack not in widget.ancestors_with_self
    ]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (44, 14)])
async def test_nothing_of_the_bench_is_under_what_is_said(size):
    app = app_on(lenet_session())
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(app, pilot)
        before = seen(app).splitlines()
        app.say(SENTENCE, "error")
        app.say("and a second one")
        await until(pilot, lambda: SENTENCE in in_words(app) and "and a second one" in seen(app))
        assert not covered(app)
        assert {before[0], before[-1]} <= set(seen(app).splitlines())  # the heading and the keys
        app.clear_notifications()
        await until(pilot, lambda: "second one" not in seen(app) and seen(app).splitlines()[-1] == before[-1])


@pytest.mark.parametrize("name", SCREENS)
async def test_nothing_of_a_dialog_is_under_what_is_said(name):
    app = app_on(lenet_session())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(app, pilot)
        assert name in {action.name for action in ACTIONS}
        app.do(name)
        await pilot.pause()
        app.say(SENTENCE, "error")
        await until(pilot, lambda: SENTENCE in in_words(app))
        assert not covered(app)


async def test_much_that_is_said_leaves_most_of_the_screen_and_the_latest_is_seen():
    app = app_on(lenet_session())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(app, pilot)
        for number in range(9):
            app.say(f"{number} {SENTENCE}")
        await until(pilot, lambda: f"8 {SENTENCE}" in in_words(app))
        assert "conv1" in seen(app) and "98.3 % top-1" in seen(app)
        assert not covered(app)
