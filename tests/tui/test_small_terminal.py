"""Which pane is in front where only one is seen, and what empty ones say."""

import pytest
from hosting import seen, until
from sample import LOAD, lenet_rows, lenet_session, snapshot, taught_session
from stub import app_on, settled

from labbench.session.events import Failed, Finished, Metric, Started
from labbench.session.operations import Finetune
from labbench.session.session import Session
from labbench.tui.screens.open import OpenScreen

TUNE = Finetune(epochs=3)
LOSS = Metric(name="train/loss", x=1, y=0.5)


def panes(app):
    return {pane for pane in ("layers", "curves", "history") if app.bench.query_one(f"#{pane}").display}


async def train(app, pilot):
    app.link.hear(Started(operation=TUNE), LOSS)
    await until(pilot, lambda: app.situation.running and not app.stale)


@pytest.mark.parametrize("pane", ["layers", "history"])
@pytest.mark.parametrize(
    "end", [Finished(operation=TUNE, snapshot=snapshot(lenet_rows())), Failed(error="x", operation=TUNE)]
)
async def test_the_curves_come_forward_while_it_trains_and_go_back(pane, end):
    app = app_on(lenet_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        app.bench.show_pane(pane)
        await train(app, pilot)
        await until(pilot, lambda: panes(app) == {"curves"})
        app.link.hear(end)
        await until(pilot, lambda: panes(app) == {pane} and app.focused is not None)
        assert pane in [one.id for one in app.focused.ancestors]


async def test_whoever_leaves_the_curves_stays_where_he_went():
    app = app_on(lenet_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        await train(app, pilot)
        await until(pilot, lambda: panes(app) == {"curves"})
        await pilot.press("tab")
        await until(pilot, lambda: panes(app) == {"history"})
        app.link.hear(Metric(name="train/loss", x=2, y=0.4))
        app.link.hear(Finished(operation=TUNE, snapshot=snapshot(lenet_rows())))
        await until(pilot, lambda: not app.situation.running and not app.stale)
        assert panes(app) == {"history"}


async def test_where_all_panes_are_seen_none_moves():
    app = app_on(lenet_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        await train(app, pilot)
        assert panes(app) == {"layers", "curves", "history"} and app.focused is app.bench.table


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_empty_panes_say_what_fills_them(size):
    app = app_on(Session())
    async with app.run_test(size=size) as pilot:
        await settled(app, pilot)
        await until(pilot, lambda: isinstance(app.screen, OpenScreen))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.bench)
        for pane, words in (
            ("layers", "no model yet: o opens one"),
            ("curves", "no curve yet: o opens a model, t trains it"),
            ("history", "nothing yet: o opens a model"),
        ):
            app.bench.show_pane(pane)
            await until(pilot, lambda words=words: words in seen(app))
        app.link.hear(Started(operation=LOAD), Finished(operation=LOAD, snapshot=snapshot(lenet_rows())))
        app.bench.show_pane("curves")
        await until(pilot, lambda: "no curve yet: t finetunes" in seen(app))


async def test_a_player_names_its_own_keys():
    app = app_on(recording=taught_session())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("space")
        app.playback.go(0)
        app.touch()
        await until(pilot, lambda: "no model yet: space plays" in seen(app) and "nothing to draw so far" in seen(app))
        assert "o opens" not in seen(app) and "t finetunes" not in seen(app)
