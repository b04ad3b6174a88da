"""Lines of words that are made for the width there is."""

from collections.abc import Callable

from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget


class Lines(Widget):
    """Shows what a function from width to text gives; draws again only if that changed."""

    ALLOW_SELECT = False

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, classes="-empty")
        self._make: Callable[[int], Text] = lambda _: Text()
        self._text = Text()

    def show(self, make: Callable[[int], Text]) -> None:
        """Show what this gives for the width now, and again for every other width."""
        self._make = make
        self.on_resize()

    def on_resize(self) -> None:
        """Another width, other words."""
        text = self._make(self.content_size.width)
        if text != self._text:
            height = len(self._text.plain.splitlines())
            self._text = text
            self.set_class(not text, "-empty")
            self.refresh()
            if len(text.plain.splitlines()) != height:
                self.call_after_refresh(self.refresh, layout=True)  # a layout asked for within a layout is lost

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row a line: these lines never wrap."""
        return len(self._make(width).plain.splitlines())

    def render(self) -> Text:
        """The words."""
        return self._text
