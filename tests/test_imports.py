"""Front ends paint before torch is imported, and never import it: each of their modules, alone in a process."""

import pkgutil
import subprocess
import sys

import pytest

import labbench.session
import labbench.tui

HEAVY = ("torch", "torchvision", "torch_pruning", "sklearn", "numpy", "labbench.bench", "labbench.worker")
SHARED = (
    "labbench.folders",
    "labbench.published",
    "labbench.exits",
    "labbench.priority",
    "labbench.client",
    "labbench.headless",
    "labbench.commands",
    "labbench.keeping",
    "labbench.listing",
)
FRONT = [
    *("labbench", "labbench.cli", *SHARED),
    *(
        module.name
        for package in (labbench.session, labbench.tui)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ),
]


def imported_by(*modules: str) -> set[str]:
    """What is in `sys.modules` after importing these in a new process."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_no_front_end_imports_torch() -> None:
    found = imported_by(*FRONT) & set(HEAVY)
    if found:  # tell which
        assert not {module: heavy for module in FRONT if (heavy := imported_by(module) & set(HEAVY))}
    assert not found


@pytest.mark.parametrize("module", ["labbench.session.session", "labbench.client", "labbench.commands"])
def test_headless_modules_import_no_screen(module: str) -> None:
    assert not imported_by(module) & {"textual", "plotext", "labbench.tui"}


def test_the_first_picture_needs_no_dialog_no_curve_and_no_recipe() -> None:
    later = {
        "labbench.tui.doing",
        "labbench.tui.screens.form",
        "labbench.tui.screens.open",
        "plotext",
        "tomllib",
        "tomli_w",
    }
    assert not imported_by("labbench.tui.app") & later


def test_the_worker_is_started_before_the_screen_is_imported() -> None:
    assert not imported_by("labbench.tui.start") & {"textual", "rich", "labbench.tui.app"}


def test_the_worker_imports_what_reads_data_only_when_there_is_data_to_read() -> None:
    found = imported_by("labbench.worker")
    assert "torch" in found
    assert not found & {"torchvision", "sklearn", "scipy", "PIL", "numpy.random", "soundfile", "onnx", "textual"}


def test_help_imports_next_to_nothing() -> None:
    assert not imported_by("labbench.cli") & {"msgspec", "asyncio", "platformdirs", "textual"}
