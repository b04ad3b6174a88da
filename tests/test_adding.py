"""What the README says of adding an operation, done on a copy of the tree: nothing else is missing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import labbench

STRUCT = '''
class Wiggle(Change, frozen=True):
    """Move every weight a little"""

    PREVIEWED: ClassVar[bool] = True

    layers: LayerNames = ("*",)
    by: Annotated[float, Meta(gt=0, le=1, description="how far")] = 0.1

    def describe(self) -> str:
        return f"wiggle {_names(self.layers)} by {self.by:g}"


'''
FILE = '''"""Moves every weight a little."""

from dataclasses import replace

import torch

from labbench.bench.tools import Applied


def apply(operation, state, tools):
    """The state with other weights."""
    model = state.copy_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(operation.by)
    return Applied(replace(state, model=model, accuracy={}), operation)
'''
PROGRAM = '''
import io, json
from pathlib import Path
from labbench.bench.states.checkpoints import Cache
from labbench.bench.timeline import Timeline
from labbench.session import history, recipe
from labbench.session.check import BadInput, operation_from
from labbench.session.events import Preview, Previewed
from labbench.session.jsonl import decode_event
from labbench.session.session import Session
from labbench.worker import Worker, catalogue

load, wiggle = recipe.parse("""
title = "t"
[[step]]
op = "load"
model = "lenet-300-100"
dataset = "digits"
[[step]]
op = "wiggle"
by = 0.2
""").steps
out = io.BytesIO()
worker = Worker(out, Path("data"), Timeline(Cache(Path("cache"), 10**9)))
for request in (load, Preview(operation=wiggle), wiggle):
    worker.handle(request)
events = [decode_event(line) for line in out.getvalue().splitlines()]
session = Session()
for event in events:
    session.append(0.0, event)
try:
    operation_from({"op": "wiggle", "by": -1})
except BadInput as error:
    refusal = str(error)
previews = [event for event in events if isinstance(event, Previewed)]
print(json.dumps({
    "history": [(row.words, row.is_point) for row in history.rows(session)],
    "previewed": [event.error == "" and event.snapshot is not None for event in previews],
    "form": [knob.name for knob in catalogue().entry("operations", "wiggle").knobs],
    "refusal": refusal,
}))
'''


def test_an_operation_is_its_struct_and_its_file(tmp_path: Path) -> None:
    root = Path(labbench.__file__).parent
    copy = shutil.copytree(root, tmp_path / "labbench", ignore=shutil.ignore_patterns("__pycache__"))
    operations = copy / "session" / "operations.py"
    text = operations.read_text(encoding="utf-8")
    operations.write_text(text.replace("class Evaluate(", f"{STRUCT.lstrip()}class Evaluate("), encoding="utf-8")
    (copy / "bench" / "operations" / "wiggle.py").write_text(FILE, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "history": [["open lenet-300-100 on digits", True], ["wiggle all layers by 0.2", True]],
        "previewed": [True],
        "form": ["layers", "by"],
        "refusal": "wiggle: by must be a number above 0 to 1, not -1",
    }
