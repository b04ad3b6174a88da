"""Words can be told from what they stand on, in light colors too."""

import pytest
from hosting import seen, until
from sample import lenet_session
from stub import app_on, settled
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from labbench.tui.screens.compare import CompareScreen

LEAST = 2.0  # of the contrast that WCAG measures, from 1 to 21: faint words may be quiet, not lost
LIGHT = sorted(name for name, theme in BUILTIN_THEMES.items() if not theme.dark and not theme.ansi)


def brightness(color):
    """Relative luminance, as WCAG has it."""
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized]
    return sum(part * weight for part, weight in zip(parts, (0.2126, 0.7152, 0.0722), strict=True))


def faint(app):
    """The words on the screen that nearly have the color of what is behind them."""
    found = []
    for strip in app.screen._compositor.render_strips(app.size):
        for text, style, _ in strip:
            if any(map(str.isalnum, text)):
                colors = (Color(*style.color.triplet), Color(*style.bgcolor.triplet))
                low, high = sorted(map(brightness, colors))
                found += [text.strip()] if (high + 0.05) / (low + 0.05) < LEAST else []
    return found


@pytest.mark.parametrize("theme", [*LIGHT, "textual-dark"])
async def test_every_word_can_be_read(theme):
    app = app_on(lenet_session())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        app.theme = theme
        app.do("accuracy")
        await until(pilot, lambda: "epochs →" in seen(app))
        assert not faint(app)
        app.bench.show_pane("layers")
        await pilot.pause()
        assert not faint(app)
        app.do("compare")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("4")
        await until(pilot, lambda: "epochs →" in seen(app))
        assert not faint(app)
