"""The recorded sessions that are shipped: they are what their recipes say, they play, and they can be done again."""

import subprocess
import sys
from pathlib import Path

import pytest

from labbench.client import Player
from labbench.session import jsonl, recipe
from labbench.session.events import Finished, Metric, Progress, Sparsity
from labbench.session.operations import Cluster, Finetune, Freeze, Note, Prune, Unprune
from labbench.session.session import Session

FOLDER = Path(__file__).parent.parent / "sessions"
NAMES = sorted(file.stem for file in FOLDER.glob("*.jsonl"))


def recorded(name: str) -> Session:
    """The session of a name."""
    _, session, notice = jsonl.read(FOLDER / f"{name}.jsonl")
    assert not notice
    return session


def test_there_is_a_lesson_on_masks_and_one_on_structure() -> None:
    kinds = {name: {type(step.operation) for step in recorded(name).steps} for name in NAMES}
    assert kinds["lenet-5-digits"] >= {Finetune, Freeze, Prune, Unprune, Note}
    assert kinds["resnet-20-digits"] >= {Finetune, Prune, Cluster, Note}


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_holds_what_its_recipe_says(name: str) -> None:
    written, session = recipe.read(FOLDER / f"{name}.toml"), recorded(name)
    assert tuple(step.operation for step in session.steps) == written.steps
    assert session.title == written.title


@pytest.mark.parametrize("name", NAMES)
async def test_a_recording_plays_to_its_end_in_the_same_pictures(name: str) -> None:
    session, shown = recorded(name), Session()
    player = Player(session)
    while not player.ended:
        for event in player.step():
            shown.append(shown.seconds, event)
    assert shown.snapshot == session.snapshot and len(shown.steps) == len(session.steps)
    kinds = {type(event) for _, event in session.events}
    assert kinds >= {Progress, Metric, Sparsity, Finished}


def test_what_the_lesson_on_masks_says_is_what_was_recorded() -> None:
    steps = recorded("lenet-5-digits").steps
    figures = {
        type(step.operation).__name__ + str(number): step.snapshot for number, step in enumerate(steps) if step.snapshot
    }
    dense, half, most, tuned, loose = (
        figures[key] for key in ("Finetune2", "Prune5", "Prune7", "Finetune9", "Finetune12")
    )
    top1 = [snapshot.accuracy["validation"].top1 for snapshot in (dense, half, most, tuned, loose)]
    assert dense.accuracy["test"].top1 >= 0.97
    assert top1[0] - top1[1] < 0.02  # half of the weights hardly count
    assert top1[1] - top1[2] > 0.1  # nineteen in twenty do
    assert top1[3] - top1[2] > 0.1  # most of it comes back
    assert tuned.prunable == most.prunable  # with the same zeros
    assert loose.prunable.sparsity < tuned.prunable.sparsity / 2  # without the mask they train again
    frozen = [snapshot.row("conv1") for snapshot in (half, tuned, loose)]
    assert all(row and row.frozen and row.norm == frozen[0].norm for row in frozen if frozen[0])


def test_what_the_lesson_on_structure_says_is_what_was_recorded() -> None:
    changed = [step.snapshot for step in recorded("resnet-20-digits").steps if not isinstance(step.operation, Note)]
    _, dense, cut, tuned, shared, tied, _ = changed
    assert all((dense, cut, tuned, shared, tied))
    stages = [row for row in cut.rows if row.prunable and row.name.startswith(("layer2", "layer3"))]
    assert {row.channels for row in stages} == {22, 44}  # int(32 · 0.7), int(64 · 0.7)
    assert 0.45 < cut.prunable.sparsity < 0.52 and cut.macs < 0.7 * dense.macs  # layer1 was not cut
    assert cut.accuracy["validation"].top1 < 0.5 < 0.9 < tuned.accuracy["validation"].top1
    unique = [
        sum(row.filters_unique for row in s.rows if row.prunable and "layer1" in row.name) for s in (tuned, shared)
    ]
    assert unique[1] * 2 == unique[0] and shared.macs == tuned.macs
    assert [row.filters_unique for row in tied.rows] == [row.filters_unique for row in shared.rows]
    assert tied.accuracy["validation"].top1 > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_can_be_done_again(name: str, tmp_path: Path) -> None:
    """To the last bit where it was recorded; elsewhere the counts are exact and the lesson is the same."""
    target = tmp_path / "again.jsonl"
    command = [
        sys.executable,
        "-m",
        "labbench",
        "replay",
        str(FOLDER / f"{name}.jsonl"),
        "--check",
        "--out",
        str(target),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    here = "environment: the same" in done.stdout + done.stderr
    assert done.returncode == 0 or (not here and done.returncode == 1), done.stdout + done.stderr
    assert not here or "differs" not in done.stdout
    _, again, _ = jsonl.read(target)
    for old, new in zip(recorded(name).steps, again.steps, strict=True):
        assert old.operation == new.operation
        if old.snapshot and new.snapshot:
            shapes = [
                [(row.name, row.shape, row.frozen, row.masked, row.clusters) for row in s.rows]
                for s in (old.snapshot, new.snapshot)
            ]
            assert shapes[0] == shapes[1]
    final = again.steps[-1].snapshot
    assert final and final.accuracy["test"].top1 > 0.9
