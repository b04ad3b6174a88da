"""The layer table draws what is seen and what changed, and nothing else."""

import pytest
from bench_data import row
from hosting import seen, until
from msgspec.structs import replace
from textual.app import App

from labbench.session.events import Sparsity
from labbench.tui.widgets.layer_table import HEAD, LayerTable

ROWS = tuple(row(f"layer{n}", "conv", (64, 64, 3, 3)) for n in range(350))
HEIGHT = 20
NOTHING = frozenset()


class Watched(LayerTable):
    """Keeps the numbers of the rows that are made into words, and the lines that are asked to be drawn."""

    def __init__(self):
        super().__init__()
        self.made, self.asked = [], []

    def _row(self, number):
        self.made.append(number)
        return super()._row(number)

    def refresh(self, *regions, **how):
        self.asked += [region.line_range for region in regions] or ["all"]
        return super().refresh(*regions, **how)

    def forget(self):
        self.made, self.asked = [], []


class OneTable(App):
    def compose(self):
        yield Watched()


def told(epoch, *names, nonzero=100):
    return Sparsity(epoch=epoch, nonzero=dict.fromkeys(names, nonzero), unique=dict.fromkeys(names, 7))


@pytest.fixture
async def table():
    """A table of 350 layers at rest, of which 19 are seen."""
    app = OneTable()
    async with app.run_test(size=(100, HEIGHT)) as pilot:
        table = app.query_one(Watched)
        table.show(ROWS, None, NOTHING, "")
        await until(pilot, lambda: "layer0 " in seen(app))
        await pilot.pause()
        table.pilot = pilot
        table.forget()
        yield table


async def test_of_350_layers_only_the_visible_ones_are_drawn(table):
    table.show(ROWS, told(1, *(one.name for one in ROWS)), NOTHING, "")
    await table.pilot.pause()
    assert sorted(set(table.made)) == list(range(HEIGHT - HEAD))
    assert len(table.made) == HEIGHT - HEAD  # each once
    assert " 99.7 " in seen(table.app) and "7/64" in seen(table.app)


async def test_a_tick_without_a_change_draws_nothing(table):
    live = told(1, "layer3")
    table.show(ROWS, live, NOTHING, "")
    await table.pilot.pause()
    table.forget()
    table.show(ROWS, live, NOTHING, "")
    table.show(ROWS, told(2, "layer3"), NOTHING, "")  # another epoch, the same figures
    table.show(tuple(replace(one) for one in ROWS), told(3, "layer3", "layer200"), NOTHING, "")  # changed out of sight
    await table.pilot.pause()
    assert table.asked == []


async def test_one_changed_layer_is_one_drawn_line(table):
    table.show(ROWS, told(1, "layer3"), NOTHING, "")
    assert table.asked == [range(HEAD + 3, HEAD + 4)]


async def test_a_row_that_comes_into_view_has_its_figures_of_now(table):
    table.show(ROWS, told(1, "layer349", nonzero=ROWS[349].weights // 2), NOTHING, "")
    table.action_cursor("bottom")
    await until(table.pilot, lambda: "layer349" in seen(table.app))
    line = next(line for line in seen(table.app).splitlines() if "layer349" in line)
    assert " 50.0 " in line and "7/64" in line
    assert table.current.nonzero == ROWS[349].weights // 2


async def test_the_end_of_a_run_shows_what_the_operation_left(table):
    table.show(ROWS, told(1, "layer3"), NOTHING, "")
    table.show(ROWS, None, NOTHING, "")
    await table.pilot.pause()
    assert "7/64" not in seen(table.app)
    assert table.rows[3].filters_unique == 64


async def test_a_table_sorted_by_zeros_is_sorted_anew_while_they_change(table):
    while table.sort != "zero":
        table.sort_by(1)
    table.reverse()
    table.show(ROWS, told(1, "layer200"), NOTHING, "")
    assert table.rows[0].name == "layer200"
    table.show(ROWS, told(2, "layer100"), NOTHING, "")
    assert table.rows[0].name == "layer100"


async def test_columns_stand_still_while_figures_change(table):
    def places():
        return [(placed.column.name, placed.x) for placed in table._placed]

    shared = tuple(replace(one, channels=1000, channels_loaded=1000, filters_unique=8) for one in ROWS)
    table.show(shared, None, NOTHING, "")
    before = places()
    table.show(shared, Sparsity(epoch=1, nonzero={}, unique={one.name: 1000 for one in shared}), NOTHING, "")
    await table.pilot.pause()
    assert places() == before
    assert "1000/1000" in seen(table.app)


async def test_a_step_of_the_cursor_draws_two_rows_and_a_mark_one(table):
    table.action_cursor("down")
    await table.pilot.pause()
    assert sorted(table.made) == [0, 1]
    table.forget()
    table.mark()
    await table.pilot.pause()
    assert table.made == [1]
    assert seen(table.app).splitlines()[HEAD + 1].startswith("●")


async def test_taking_back_an_extension_unmarks_on_the_screen_too(table):
    for _ in range(5):
        table.action_cursor("down", extend=True)
    table.action_cursor("top", extend=True)
    await table.pilot.pause()
    lines = seen(table.app).splitlines()[HEAD:]
    assert [line.startswith("●") for line in lines[:6]] == [True] + [False] * 5
