"""A pane's title: it is seen, whatever its signs, and changing it draws one line."""

from hosting import seen
from textual.app import App
from textual.widgets import Static

from labbench.tui.widgets.pane import Pane


class Counted(Static):
    drawn = 0

    def render_line(self, y):
        Counted.drawn += 1
        return super().render_line(y)


class OnePane(App):
    CSS = "Pane { border: round white; padding: 0 1; height: 100%; } Counted { height: 1fr; }"

    def compose(self):
        with Pane():
            yield Counted("what is inside")


async def test_another_title_draws_its_line_and_nothing_inside():
    app = OnePane()
    async with app.run_test(size=(40, 10)) as pilot:
        pane = app.query_one(Pane)
        pane.entitle("Layers 20")
        await pilot.pause()
        assert "─ Layers 20 ─" in seen(app).splitlines()[0]
        Counted.drawn = 0
        pane.entitle("Layers [b]3[/b] marked")
        await pilot.pause()
        drawn, lines = Counted.drawn, seen(app).splitlines()
        assert "─ Layers [b]3[/b] marked ─" in lines[0]
        assert "what is inside" in lines[1]
        assert drawn == 0
