"""The screens as they look. A change here is looked at before `--snapshot-update`: `rsvg-convert` makes a PNG of it."""

import pytest
from hosting import seen, until
from sample import lenet_session, resnet_session, running_session
from stub import app_on, settled


@pytest.fixture(autouse=True)
def still(monkeypatch):
    """Nothing moves, and the file has no date."""
    monkeypatch.setattr("labbench.tui.record.Record._name", lambda self, operation: None)


def drawn(app):
    """Whether all that is known is on the screen; the curves are drawn at their own pace."""
    picture = app.bench.picture
    return not app.stale and not (picture._stale and picture.region.area)


def at_rest(app, ready):
    async def before(pilot):
        app.animation_level = "none"
        if ready:
            await settled(app, pilot)
        await until(pilot, lambda: "conv1" in seen(app))
        await pilot.press("down", "down")
        await until(pilot, lambda: app.bench.table.current.name != "conv1" and drawn(app))

    return before


def test_a_lesson_at_120_by_40(snap_compare):
    app = app_on(lenet_session())
    assert snap_compare(app, terminal_size=(120, 40), run_before=at_rest(app, True))


def test_a_run_at_80_by_24_in_light_colors(snap_compare):
    app = app_on(running_session())

    async def light(pilot):
        app.theme = "textual-light"
        app.animation_level = "none"
        await until(pilot, lambda: "epoch 5/5" in seen(app) and "⠒⠒ train" in seen(app) and drawn(app))

    assert snap_compare(app, terminal_size=(80, 24), run_before=light)


def test_everything_done_to_resnet_at_200_by_50(snap_compare):
    app = app_on(resnet_session())

    async def marked(pilot):
        await at_rest(app, True)(pilot)
        await pilot.press("space", "shift+down", "shift+down", "b", "4")
        await until(pilot, lambda: "norm" in seen(app) and drawn(app))

    assert snap_compare(app, terminal_size=(200, 50), run_before=marked)


def test_a_player_at_120_by_40(snap_compare):
    app = app_on(recording=lenet_session())

    async def at_the_note(pilot):
        await until(pilot, lambda: app.playback.player.position)
        while "Half of the weights" not in seen(app):
            await pilot.press("right")
            await until(pilot, lambda: drawn(app))
        await at_rest(app, False)(pilot)

    assert snap_compare(app, terminal_size=(120, 40), run_before=at_the_note)
