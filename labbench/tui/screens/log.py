"""What happened, for whoever looks for a cause: the session's events in words, and the end of the log file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, TabbedContent, TabPane, Tabs

from labbench.printable import printable_lines
from labbench.session import report
from labbench.session.events import (
    AnyEvent,
    Died,
    Environment,
    Exported,
    Failed,
    Finished,
    Ready,
    Restored,
    Started,
)
from labbench.session.operations import Note
from labbench.session.prose import plain
from labbench.session.session import Session
from labbench.tui import words
from labbench.tui.screens.dialog import Buttons, Dialog
from labbench.tui.widgets.hanging import Hanging

TAIL = 64 * 1024  # bytes of the log's end that are shown
NEWEST = 2_000  # lines of events that are shown


class LogScreen(ModalScreen[None]):
    """Two tabs, newest last: events of the session, and the log file that the worker writes to."""

    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    LogScreen { align: center middle; }
    LogScreen TabbedContent { height: 1fr; }
    LogScreen TabPane { padding: 0; height: 1fr; }
    LogScreen VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "refresh_all", "Refresh"),
        Binding("1", "tab('events')", "Events"),
        Binding("2", "tab('file')", "Log file"),
        Binding("escape,q", "close", "Close"),
        Binding("j", "scroll(1)", "Down", show=False),
        Binding("k", "scroll(-1)", "Up", show=False),
        Binding("g", "scroll(-1000000)", "Top", show=False),
        Binding("G", "scroll(1000000)", "Bottom", show=False),
    ]

    def __init__(self, path: Path, session: Session) -> None:
        """`path` is that of the log file."""
        super().__init__()
        self._log_path = path
        self._session = session

    def compose(self) -> ComposeResult:
        """The tabs, with the path of the file below."""
        with Dialog("Log"):
            with TabbedContent(initial="events"):
                with TabPane("1 events", id="events"), VerticalScroll():
                    yield Hanging()
                with TabPane("2 log file", id="file"), VerticalScroll():
                    yield Hanging()
            yield Buttons(
                ("close", "Close"), ("refresh", "Refresh"), hint="1 2 tabs · ↑↓ scroll · r refresh · esc close"
            )

    def on_mount(self) -> None:
        """Show what there is, and scroll at once."""
        self.query_one(Dialog).border_subtitle = Content(str(self._log_path))
        self.action_refresh_all()

    def action_refresh_all(self) -> None:
        """Read the session and the file again, and go to the end."""
        self._show("events", _timed(self._session), _no_events())
        lines = map(Content, printable_lines(tail(self._log_path)).splitlines())
        self._show("file", list(lines), f"Nothing was written to {self._log_path}: nothing went wrong.")

    def action_tab(self, name: str) -> None:
        """Show this tab."""
        self.query_one(TabbedContent).active = name

    def action_scroll(self, lines: int) -> None:
        """Scroll the shown tab by so many lines, to the ends at most."""
        self._scroll().scroll_relative(y=lines, animate=False)

    def action_close(self) -> None:
        """Back to what was there."""
        self.dismiss(None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Close or refresh."""
        if event.button.id == "refresh":
            self.action_refresh_all()
        else:
            self.action_close()

    def _show(self, tab: str, lines: Sequence[Content], empty: str) -> None:
        scroll = self.query_one(f"#{tab} VerticalScroll", VerticalScroll)
        scroll.query_one(Hanging).update(lines or [Content.styled(empty, "$text-muted")])
        self.call_after_refresh(scroll.scroll_end, animate=False)

    def _scroll(self) -> VerticalScroll:
        return self.query_one(f"#{self.query_one(TabbedContent).active} VerticalScroll", VerticalScroll)

    @on(TabbedContent.TabActivated)
    def _shown(self) -> None:
        self.call_after_refresh(self._to_end)

    def _to_end(self) -> None:
        scroll = self._scroll()
        scroll.scroll_end(animate=False)  # nothing that was hidden could be scrolled
        if not isinstance(self.focused, Tabs):
            scroll.focus()


def tail(path: Path) -> str:
    """The end of a text file, whole lines only; "" for a file that is not there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - TAIL, 0))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return "" if isinstance(error, FileNotFoundError) else f"{path}: {error.strerror or error}"
    return text if size <= TAIL else text.partition("\n")[2]


def told(event: AnyEvent) -> Iterator[Content]:
    """An event in words: one line, and one more for each remark. Figures of a running operation are not told."""
    match event:
        case Ready():
            yield Content(f"ready: {_place(event.environment)}")
        case Started():
            yield Content.styled(f"begins: {event.operation.describe()}", "$text-muted")
        case Finished(operation=Note(text=text)):
            yield Content.styled(f"note: {plain(text)}", "italic")
        case Finished():
            yield Content.styled(f"✓ {event.operation.describe()} ({event.seconds:.1f} s)", "bold")
            yield from (Content(f"  · {remark}") for remark in event.remarks)
        case Failed():
            what = f"{event.operation.describe()}: " if event.operation else ""
            blame = " (a fault of labbench: see the log file)" if event.bug else ""
            yield Content.styled(f"✗ {what}{event.error}{blame}", "bold $text-error")
        case Died():
            yield Content.styled(f"✗ {event.error}", "bold $text-error")
        case Restored():
            done = f", {words.plural(event.recomputed, 'operation')} done again" if event.recomputed else ""
            yield Content(f"restored{done}")
        case Exported():
            size, remarks = report.exported(event)
            yield Content(f"exported to {event.path}: {size}")
            yield from (Content(f"  · {remark}") for remark in remarks)
        case _:
            return


def _timed(session: Session) -> list[Content]:
    lines = [
        Content.assemble((f"{words.clock(seconds):>7}  ", "$text-muted"), line)
        for seconds, event in session.events
        for line in told(event)
    ]
    return lines[-NEWEST:]


def _place(environment: Environment) -> str:
    threads = words.plural(environment.threads, "thread")
    return f"labbench {environment.labbench}, torch {environment.torch}, {environment.device}, {threads}"


def _no_events() -> str:
    return "Nothing happened yet: open a model, and everything you do is listed here."
