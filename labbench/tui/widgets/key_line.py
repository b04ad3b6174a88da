"""A line of keys and what they do, for keyboard and mouse: the footer, the tabs and the choice of curves."""

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct
from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget

GAP = "  "
MORE = "…"


class Key(Struct, frozen=True):
    """One entry."""

    key: str
    words: str
    action: str
    """Name in the registry of actions."""
    on: bool = False
    """Whether this is what is shown now."""

    @property
    def text(self) -> str:
        """What stands in the line."""
        return f"{self.key} {self.words}" if self.key else self.words


class KeyLine(Widget):
    """Entries side by side; those that do not fit are left out, with a sign."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-line--key", "key-line--words", "key-line--on"}

    class Chosen(Message):
        """An entry was clicked."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys: tuple[Key, ...] = ()
        self._last: tuple[Key, ...] = ()
        self._places: list[tuple[int, int, str]] = []

    def show(self, keys: Sequence[Key], last: Sequence[Key] = ()) -> None:
        """Show these; `last` are kept at the end, whatever does not fit before them."""
        if (tuple(keys), tuple(last)) != (self._keys, self._last):
            self._keys, self._last = tuple(keys), tuple(last)
            self.refresh()

    def render(self) -> Text:
        """The line."""
        width = self.content_size.width
        everything = [*self._keys, *self._last]
        loose = sum(len(key.text) for key in everything) + len(GAP) * (len(everything) - 1) <= width
        gap = GAP if loose else " "
        room = width - sum(len(gap) + len(key.text) for key in self._last)
        used = 0
        shown: list[Key] = []
        for number, key in enumerate(self._keys):
            needed = len(key.text) + len(gap) * bool(shown)
            spare = 0 if number == len(self._keys) - 1 else len(MORE) + len(gap)
            if used + needed + spare > room:
                break
            shown.append(key)
            used += needed
        line = Text(no_wrap=True)
        self._places = []
        more = [Key("", MORE, "")] if len(shown) < len(self._keys) else []
        for key in [*shown, *more, *self._last]:
            if line:
                line.append(gap)
            self._places.append((len(line), len(line) + len(key.text), key.action))
            self._append(line, key)
        return line

    def _append(self, line: Text, key: Key) -> None:
        if key.on:
            line.append(key.text, self.get_component_rich_style("key-line--on", partial=True))
            return
        if key.key:
            line.append(f"{key.key} ", self.get_component_rich_style("key-line--key", partial=True))
        line.append(key.words, self.get_component_rich_style("key-line--words", partial=True))

    def on_click(self, event: events.Click) -> None:
        """A click is the key."""
        offset = event.get_content_offset(self)
        for start, end, action in self._places:
            if offset is not None and start <= offset.x < end and action:
                self.post_message(self.Chosen(action))
