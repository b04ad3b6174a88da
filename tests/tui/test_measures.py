"""The screen of all measures, and the form that freezes a share, on a terminal of 80×24."""

from hosting import seen, until
from msgspec.structs import replace
from sample import lenet_rows, lenet_session, snapshot
from stub import app_on, settled

from labbench.session.events import Finished, Preview, Previewed, Started
from labbench.session.measures import LayerMeasures, Measures
from labbench.session.measures_report import model_lines
from labbench.session.operations import Freeze, Measure, Unprune
from labbench.session.snapshot import Total
from labbench.tui.screens.form import OperationForm
from labbench.tui.screens.measures import MeasuresScreen
from labbench.tui.screens.reader import Reader

SIZE = (80, 24)
FOUND = Measures(
    layers=tuple(
        LayerMeasures(name=row.name, weights=row.weights, connected=row.weights // 10, idle=3, distinct=7)
        for row in lenet_rows()
    ),
    stored=100_000,
    stored_loaded=1_600_000,
)


async def test_every_part_of_the_measures_can_be_read_and_left():
    app = app_on(lenet_session())
    async with app.run_test(size=SIZE) as pilot:
        await settled(app, pilot)
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, MeasuresScreen) and "fewer (1)" in seen(app))
        assert "not looked at" in seen(app)
        for key, words in (
            ("2", "kernel"),
            ("3", "taken for"),
            ("4", "row true class"),
            ("tab", "F(K)"),
        ):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in seen(app))
        await pilot.click("#close")
        await until(pilot, lambda: not isinstance(app.screen, MeasuresScreen))
        await pilot.press("m", "escape")
        await until(pilot, lambda: not isinstance(app.screen, MeasuresScreen))


async def test_a_table_that_is_wider_than_the_screen_can_be_scrolled():
    app = app_on(lenet_session())
    async with app.run_test(size=SIZE) as pilot:
        await settled(app, pilot)
        await pilot.press("m", "2")
        await until(pilot, lambda: "kernel" in seen(app))
        assert "idle" not in seen(app)
        await pilot.press(*["right"] * 60)
        await until(pilot, lambda: "idle" in seen(app))


async def test_a_close_look_is_asked_for_with_a_key_and_its_figures_are_shown():
    app = app_on(lenet_session())
    async with app.run_test(size=SIZE) as pilot:
        await settled(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Reader) and "M does" in seen(app))
        await pilot.press("escape", "M")
        await until(pilot, lambda: app.link.sent == [Measure()])
        app.link.hear(Started(operation=Measure()), Finished(operation=Measure(), measures=FOUND))
        await until(pilot, lambda: "×16.00" in seen(app))
        assert "90.0 % with those that are on no path" in seen(app)
        await pilot.press("escape", "enter")
        await until(pilot, lambda: isinstance(app.screen, Reader))
        words = " ".join(str(app.screen.query_one(".text").render()).split())
        assert "7 different values" in words and "never got a gradient" in words


async def test_a_share_is_frozen_with_a_form_that_says_how_much_of_the_weights_that_is():
    app = app_on(lenet_session())
    async with app.run_test(size=SIZE) as pilot:
        await settled(app, pilot)
        await pilot.press("z")
        await until(pilot, lambda: isinstance(app.screen, OperationForm) and app.link.sent)
        for name in ("layers", "types", "first", "of", "norms"):
            field = next(field for field in app.screen.query("Field") if field.knob.name == name)
            field.take_focus()
            await until(pilot, lambda field=field: app.screen.query_one("#fields").region.contains_region(field.region))
        rows = lenet_rows()
        frozen = snapshot((replace(rows[0], frozen=True), replace(rows[1], frozen=True), *rows[2:]))
        asked = app.link.sent[-1]
        assert isinstance(asked, Preview)
        app.link.hear(Previewed(operation=asked.operation, snapshot=frozen))
        await until(pilot, lambda: "frozen: 2 of 4 layers (50.0 %), 5.9 % of their weights" in seen(app))
        next(field for field in app.screen.query("Field") if field.knob.name == "first").take_focus()
        await pilot.press("0", ".", "5", "enter")
        await until(pilot, lambda: Freeze(first=0.5) in app.link.sent)


async def test_pruned_weights_can_begin_again_from_their_last_values():
    app = app_on(lenet_session())
    async with app.run_test(size=SIZE) as pilot:
        await settled(app, pilot)
        await pilot.press("P")
        await until(pilot, lambda: isinstance(app.screen, OperationForm) and app.link.sent)
        next(field for field in app.screen.query("Field") if field.knob.name == "begin").take_focus()
        await pilot.press("right", "enter")
        await until(pilot, lambda: Unprune(begin="last") in app.link.sent)


async def test_what_is_frozen_stands_under_the_table_with_its_share_of_the_weights():
    app = app_on(lenet_session())
    async with app.run_test(size=SIZE) as pilot:
        await settled(app, pilot)
        await until(pilot, lambda: "1 of 4 layers (25.0 %)" in seen(app))
        assert "0.12 % of their weights" in seen(app)


def test_no_figure_of_a_model_of_36_million_weights_is_cut_at_80_columns():
    large = Total(loaded=36_479_194, now=36_479_194, nonzero=36_479_194)
    shown = replace(snapshot(lenet_rows()), prunable=large, whole=large, macs=5_248_000_000, macs_loaded=5_248_000_000)
    looked = replace(FOUND, stored=135_000_000, stored_loaded=135_000_000)
    for measures in (None, looked):
        for line in model_lines(shown, measures):
            assert len(line) <= SIZE[0] - 4
