"""Versions, device and paths: what a report of a fault needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from labbench.session.events import Environment
from labbench.tui.screens.dialog import Buttons, Dialog


class AboutScreen(ModalScreen[None]):
    """A list to read and to copy from; escape closes."""

    DEFAULT_CSS = """
    AboutScreen { align: center middle; }
    AboutScreen Dialog { width: 100; padding-top: 1; }
    AboutScreen VerticalScroll { height: auto; max-height: 1fr; margin-bottom: 2; }
    AboutScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "close", "Close")]

    def __init__(self, environment: Environment | None, paths: Mapping[str, Path]) -> None:
        """`paths` by what lies there: data, sessions, log …"""
        super().__init__()
        self._environment = environment
        self._paths = paths

    def compose(self) -> ComposeResult:
        """One line each."""
        with Dialog("About labbench", small=True):
            with VerticalScroll():
                yield Static("\n".join(about(self._environment, self._paths)), markup=False)
            yield Buttons(("close", "Close"), hint="esc close")

    def action_close(self) -> None:
        """Back to what was there."""
        self.dismiss(None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The only button closes."""
        self.action_close()


def about(environment: Environment | None, paths: Mapping[str, Path]) -> list[str]:
    """Names and values as lines."""
    if environment is None:
        facts = {"worker": "still warming up"}
    else:
        facts = {
            "labbench": environment.labbench,
            "python": environment.python,
            "torch": environment.torch,
            "torch-pruning": environment.torch_pruning,
            "scikit-learn": environment.sklearn,
            "numpy": environment.numpy,
            "machine": environment.machine,
            "threads": str(environment.threads),
            "device": f"{environment.device} (of {', '.join(environment.devices)})",
        }
    facts |= {name: str(path) for name, path in paths.items()}
    width = max(map(len, facts)) + 2
    return [f"{name:<{width}}{value}" for name, value in facts.items()]
