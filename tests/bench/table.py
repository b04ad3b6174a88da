"""What a tick of the layer table costs: 350 layers, every figure another one, as ten times a second while a network
trains. Processor time of drawing, with all that Textual does for it; needs no torch but what the measuring brings.

    python tests/bench/table.py --json table.json
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator

from side_by_side import Timed, arguments, show
from textual.app import App, ComposeResult

from labbench.session.events import Sparsity
from labbench.session.snapshot import LayerRow
from labbench.tui.app import LabbenchApp
from labbench.tui.widgets.layer_table import LayerTable

LAYERS = 350
WIDTH = 120
VISIBLE = (24, 40, 50)
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


def cases(options: argparse.Namespace) -> Iterator[Timed]:
    """A table for each height."""
    for visible in VISIBLE:
        yield Timed(
            f"a tick of {LAYERS} layers, {visible} of them visible", asyncio.run(ticks(visible, options.rounds))
        )


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=30).parse_args()
    show(options, cases(options))
