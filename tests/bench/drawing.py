"""What drawing costs while a network trains, in processor time: a tick of a layer table of 350 layers, every figure
another one, with all that Textual does for it; and a picture of two curves, of 300 and of 10,000 points.

    python tests/bench/drawing.py --json drawing.json
"""

import argparse
import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator

from rich.style import Style
from side_by_side import Timed, arguments, show
from textual.app import App, ComposeResult

from labbench.session.events import Sparsity
from labbench.session.snapshot import LayerRow
from labbench.tui.app import LabbenchApp
from labbench.tui.widgets.layer_table import LayerTable
from labbench.tui.widgets.outline import Outline, Point
from labbench.tui.widgets.plot import Series, plot

LAYERS = 350
WIDTH = 120
VISIBLE = (24, 40, 50)
PICTURES = ((46, 14), (76, 30))  # of a terminal of 120×40 and of 200×50
PAUSE = 0.04  # seconds: Textual draws at most every 60th of one


def rows() -> tuple[LayerRow, ...]:
    """The layers of a network that is deeper than any of ours."""
    return tuple(
        LayerRow(
            name=f"layer{n // 50}.{n % 50}.conv",
            kind="conv",
            shape=(64, 64, 3, 3),
            parameters=36_928,
            weights=36_864,
            weights_loaded=36_864,
            nonzero=36_864,
            masked=True,
            filters_unique=64,
            channels=64,
            channels_loaded=64,
            inputs=64,
            inputs_loaded=64,
            macs=37_748_736,
            norm=3.1,
            last="magnitude 30 %",
        )
        for n in range(LAYERS)
    )


def figures(tick: int) -> Sparsity:
    """Other counts for every layer than at the tick before."""
    names = [row.name for row in ROWS]
    return Sparsity(
        epoch=tick,
        nonzero={name: 20_000 + (37 * n + 1009 * tick) % 16_000 for n, name in enumerate(names)},
        unique={name: 1 + (n + tick) % 64 for n, name in enumerate(names)},
    )


ROWS = rows()


class Table(App[None]):
    """Nothing but the table, in the colors of the bench."""

    CSS_PATH = LabbenchApp.CSS_PATH

    def compose(self) -> ComposeResult:
        """One table."""
        yield LayerTable()


async def ticks(visible: int, count: int) -> dict[str, list[float]]:
    """Processor seconds of each tick, in turn: every figure another one, one layer's, none."""
    app = Table()
    seconds: dict[str, list[float]] = {"nothing changed": [], "one layer": [], "every figure": []}
    async with app.run_test(size=(WIDTH, visible + 1)) as pilot:
        table = app.query_one(LayerTable)
        table.show(ROWS, None, frozenset(), "")
        await pilot.pause(0.3)
        live = figures(0)
        for tick in range(1, count + 1):
            other = figures(tick)
            one = Sparsity(
                epoch=tick,
                nonzero=live.nonzero | {ROWS[3].name: other.nonzero[ROWS[3].name]},
                unique=live.unique,
            )
            for name, shown in (("one layer", one), ("nothing changed", one), ("every figure", other)):
                seconds[name].append(await drawn(lambda shown=shown: table.show(ROWS, shown, frozenset(), "")))
            live = other
    return seconds


async def drawn(change: Callable[[], None]) -> float:
    """Processor seconds until what changed is drawn."""
    await asyncio.sleep(PAUSE)
    began = time.process_time()
    change()
    await asyncio.sleep(PAUSE)
    return time.process_time() - began


def losses(count: int, seed: int) -> list[Point]:
    """A loss that falls and flickers over ten epochs."""
    chance = random.Random(seed)
    return [(10 * n / count, 2.3 * math.exp(-3 * n / count) + 0.2 * chance.random()) for n in range(count)]


def pictures(size: tuple[int, int], count: int) -> dict[str, list[float]]:
    """Processor seconds of drawing two curves that grow, from their outlines and from all their points."""
    sides: dict[str, list[list[Point]]] = {
        "300 points": [losses(300, 1), losses(300, 2)],
        "10,000 points": [losses(10_000, 1), losses(10_000, 2)],
        "10,000 points, without an outline": [losses(10_000, 1), losses(10_000, 2)],
    }
    outlines = {name: [Outline(points) for points in curves] for name, curves in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-1, count):
        for name, curves in sides.items():
            for points in curves:
                points.append((10 + turn / 1000, 0.2))
            began = time.process_time()
            drawn = curves if "without" in name else [outline.drawn() for outline in outlines[name]]
            both = [Series(sign, one, sign, Style()) for sign, one in zip(("", "○"), drawn, strict=True)]
            plot(both, [0.0], size, Style())
            if turn >= 0:
                seconds[name].append(time.process_time() - began)
    return seconds


def cases(options: argparse.Namespace) -> Iterator[Timed]:
    """A table for each height, a picture for each size."""
    for visible in VISIBLE:
        yield Timed(
            f"a tick of {LAYERS} layers, {visible} of them visible (no more than 0.005 s)",
            asyncio.run(ticks(visible, options.rounds)),
        )
    for size in PICTURES:
        yield Timed(f"two curves in {size[0]}×{size[1]} cells", pictures(size, options.rounds))


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=30).parse_args()
    show(options, cases(options))
