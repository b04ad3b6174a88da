"""The shipped catalogue is the one that the worker makes, and every knob explains itself."""

import subprocess
import sys
from importlib import resources

import msgspec
import pytest

from labbench import worker
from labbench.bench.datasets import DATASETS
from labbench.bench.methods import METHODS
from labbench.bench.models import MODELS
from labbench.bench.regularizers import REGULARIZERS
from labbench.session.catalogue import Catalogue, Entry, shipped
from labbench.session.operations import OPERATIONS

REGENERATE = "python -m labbench.worker --catalogue > labbench/session/catalogue.json"
ENTRIES = [
    (kind, entry)
    for kind in ("models", "datasets", "methods", "clusterings", "regularizers", "operations")
    for entry in getattr(shipped(), kind)
]


def test_the_shipped_catalogue_is_that_of_the_worker() -> None:
    made = msgspec.json.decode(msgspec.json.encode(worker.catalogue()), type=Catalogue)
    assert shipped() == made, f"regenerate it: {REGENERATE}"


def test_the_catalogue_can_be_written_over_the_file_that_is_shipped() -> None:
    """A shell empties the file before the worker starts: nothing of it may be read meanwhile."""
    code = (
        "import sys; from importlib import resources\n"
        "def gone(*_): raise OSError('the catalogue was read while it is written')\n"
        "resources.files = gone\n"
        "from labbench import worker\n"
        "sys.argv = ['labbench.worker', '--catalogue']; sys.exit(worker.main())\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert made.returncode == 0, made.stderr.decode()
    shipped_bytes = resources.files("labbench.session").joinpath("catalogue.json").read_bytes()
    assert made.stdout == shipped_bytes, f"regenerate it: {REGENERATE}"


def test_every_name_is_in_the_catalogue_in_the_order_of_the_menus() -> None:
    catalogue = shipped()
    assert [entry.name for entry in catalogue.models] == list(MODELS)
    assert [entry.name for entry in catalogue.datasets] == list(DATASETS)
    assert [entry.name for entry in catalogue.methods] == list(METHODS)
    assert [entry.name for entry in catalogue.regularizers] == list(REGULARIZERS)
    assert [entry.name for entry in catalogue.operations] == list(OPERATIONS)


@pytest.mark.parametrize(("kind", "entry"), ENTRIES, ids=lambda part: part if isinstance(part, str) else part.name)
def test_every_entry_has_a_title_and_every_knob_a_line_of_help(kind: str, entry: Entry) -> None:
    assert 0 < len(entry.title) <= 100
    assert not entry.title.endswith(".")
    assert kind == "operations" or entry.about
    for knob in entry.knobs:
        assert 0 < len(knob.help) <= 100, f"{entry.name}.{knob.name}"
        assert "\n" not in knob.help
        assert knob.kind in {
            "int",
            "float",
            "bool",
            "text",
            "choice",
            "texts",
            "ints",
            "floats",
            "lists",
            "map",
            "counts",
            "options",
        }
        if knob.choices:
            assert knob.default in knob.choices


def test_entries_are_found_by_name() -> None:
    assert shipped().entry("models", "lenet-5") == shipped().models[list(MODELS).index("lenet-5")]
    assert shipped().entry("models", "lenet-6") is None
