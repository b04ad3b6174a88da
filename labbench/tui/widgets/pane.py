"""A frame with a title that may change at every key."""

from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region


class Pane(Vertical):
    """Widgets one above the other."""

    def entitle(self, title: str) -> None:
        """Show another title. Only its line is drawn: `border_title` would draw all that is in the frame."""
        self._border_title = Content(title)
        across, down = self.content_offset
        self.refresh(Region(-across, -down, self.outer_size.width, 1))
