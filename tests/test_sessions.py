"""The recorded sessions that are shipped: they are what their recipes say, they play, and they can be done again."""

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from labbench import marking
from labbench.client import Player
from labbench.exits import DIFFERS
from labbench.session import jsonl, recipe
from labbench.session.events import Finished, Metric, Progress, Sparsity
from labbench.session.goals import outcomes
from labbench.session.measures import Timing
from labbench.session.operations import (
    PLAIN,
    AnyOperation,
    Cluster,
    Finetune,
    Freeze,
    Jump,
    Load,
    Note,
    Prune,
    Recalibrate,
    Redo,
    Task,
    Undo,
    Unprune,
    as_asked,
)
from labbench.session.session import Session
from labbench.session.snapshot import LayerRow, Snapshot

FOLDER = Path(__file__).parent.parent / "sessions"
NAMES = sorted(file.stem for file in FOLDER.glob("*.jsonl"))
LESSONS = tuple(name for name in NAMES if name.startswith("lesson-"))
QUICK = ("lenet-5-digits", "resnet-20-digits", "prune-globally-and-unprune")
"""Done again in every run of the tests; `labbench replay --check` does it with the others."""


def recorded(name: str) -> Session:
    """The session of a name."""
    _, session, notice = jsonl.read(FOLDER / f"{name}.jsonl")
    assert not notice
    return session


def after(name: str, kind: type) -> list[Snapshot]:
    """The models after each operation of a kind."""
    return [step.snapshot for step in recorded(name).steps if isinstance(step.operation, kind) and step.snapshot]


def top1(snapshots: list[Snapshot], split: str = "validation") -> list[float]:
    """Their accuracies in percent, as they are shown."""
    return [round(100 * snapshot.accuracy[split].top1, 1) for snapshot in snapshots]


def nonzero(snapshot: Snapshot) -> list[int]:
    """Weights left in each layer."""
    return [row.nonzero for row in snapshot.rows if row.prunable]


def gone(snapshots: list[Snapshot]) -> list[int]:
    """Sparsities in whole percent."""
    return [round(100 * snapshot.prunable.sparsity) for snapshot in snapshots]


def notes(name: str) -> str:
    """All words of a session."""
    return "\n".join(step.operation.text for step in recorded(name).steps if isinstance(step.operation, Note))


def test_every_recipe_was_recorded_and_the_readme_names_it() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.toml")) == NAMES
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"| `{name}` |" not in readme] == []


def test_there_is_a_lesson_on_masks_and_one_on_structure() -> None:
    kinds = {name: {type(step.operation) for step in recorded(name).steps} for name in NAMES}
    assert kinds["lenet-5-digits"] >= {Finetune, Freeze, Prune, Unprune, Note}
    assert kinds["resnet-20-digits"] >= {Finetune, Prune, Cluster, Note}


def anyhow(operation: AnyOperation) -> AnyOperation:
    """A finetune however it computed, which the machine that recorded it chose."""
    return replace(operation, **dict.fromkeys(PLAIN, "auto")) if isinstance(operation, Finetune) else operation


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_holds_what_its_recipe_says(name: str) -> None:
    written, session = recipe.read(FOLDER / f"{name}.toml"), recorded(name)
    steps = [step.operation for step in session.steps]
    wanted, done = ([anyhow(as_asked(one)) for one in operations] for operations in (written.steps, steps))
    assert done == wanted
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


def test_freezing_the_first_layers_is_few_weights_and_no_loss() -> None:
    name = "freeze-first-layers"
    dense, control, *held = after(name, Finetune)
    shares = []
    for snapshot in held:
        layers = [row for row in snapshot.rows if row.prunable]
        frozen = [row for row in layers if row.frozen]
        weights = sum(row.weights for row in frozen) / sum(row.weights for row in layers)
        shares.append((len(frozen), len(layers), round(100 * weights, 2)))
        assert frozen == [row for row in _frozen_before(snapshot, name) if row.prunable]  # not a bit of their norms
    assert shares == [(2, 22, 0.36), (4, 22, 1.01), (7, 22, 3.32)]
    assert round(top1([control])[0] - top1([dense])[0], 1) == 1.4
    for split, images in (("validation", 2), ("test", 3)):
        found = [snapshot.accuracy[split].top1 for snapshot in (control, *held)]
        assert max(found) - min(found) < (images + 0.5) / 360


def _frozen_before(snapshot: Snapshot, name: str) -> list[LayerRow]:
    """The rows that are frozen in a snapshot, as they were when they had just been frozen."""
    same = {row.name for row in snapshot.rows if row.frozen}
    found = [s for s in after(name, Freeze) if {row.name for row in s.rows if row.frozen} == same]
    return [row for row in found[0].rows if row.frozen]


@pytest.mark.parametrize(
    ("name", "epochs_held", "falls"),
    [
        ("prune-globally-and-unprune", 2, [(10.0, 3.3, 3.2), (20.0, 6.6, 6.4), (30.0, 10.0, 9.6)]),
        ("prune-globally-and-unprune-fresh", 8, [(10.0, 2.2, 2.0), (20.0, 2.3, 2.0), (30.0, 8.3, 7.9)]),
    ],
)
def test_zeros_stay_while_they_are_held_and_return_when_they_are_not(
    name: str, epochs_held: int, falls: list[tuple[float, float, float]]
) -> None:
    sparsity = [round(100 * (value or 0), 1) for _, value in recorded(name).curves["sparsity"].points]
    sparsity = sparsity[-3 * (epochs_held + 2) :]  # without the epochs of the dense network
    for fall in falls:
        held, free, sparsity = sparsity[:epochs_held], sparsity[epochs_held:][:2], sparsity[epochs_held + 2 :]
        assert (held, free) == ([fall[0]] * epochs_held, list(fall[1:]))
    first = after(name, Prune)[0]
    assert [round(100 * row.sparsity, 1) for row in first.rows if row.name in ("conv1", "fc1")] == [1.8, 10.2]
    last = "98.1 % on test" if "fresh" in name else "98.9 % on test"
    assert last in notes(name) and f"{top1(after(name, Finetune), 'test')[-1]} % on test" == last


def test_the_big_network_is_cut_to_less_than_the_small_one_in_the_steps_of_the_reference() -> None:
    name = "cp-resnet-small-against-pruned"
    cuts, tuned = after(name, Prune), after(name, Finetune)
    assert [s.whole.now for s in after(name, Load)] == [59_804, 131_316]
    assert [s.whole.now for s in cuts] == [115_670, 101_823, 88_105, 76_817, 64_967, 54_706]
    assert [round(100 * s.accuracy["validation"].macro) for s in cuts[-2:]] == [54, 65]
    small, big, *_, pruned = [round(100 * s.accuracy["test"].macro, 1) for s in tuned]
    assert (small, big, pruned) == (98.6, 98.6, 98.0)


@pytest.mark.parametrize(
    ("model", "shares"), [("lenet-300-100", [18, 81, 91, 95, 86]), ("lenet-5", [17, 73, 87, 93, 80])]
)
def test_penalties_thin_in_the_order_that_is_told(model: str, shares: list[int]) -> None:
    name = f"regularizers-{model}"
    cut, tuned = after(name, Prune), after(name, Finetune)[1::2]
    assert gone(cut) == gone(tuned) == shares
    left = [[f"{count:,}" for count in nonzero(snapshot)] for snapshot in cut]
    assert all(count in notes(name) for counts in left for count in counts)
    assert all(96 <= accuracy < 98.5 for accuracy in top1(tuned, "test"))
    used = [step.operation for step in recorded(name).steps if isinstance(step.operation, Finetune)][::2]
    assert [run.regularizer for run in used] == ["", "l1", "hoyer", "hoyer-square", "transformed-l1"]


@pytest.mark.parametrize(
    ("model", "layer", "shares", "neurons", "inputs"),
    [
        ("lenet-300-100", "fc1", [91, 69, 71], [173, 63, 29], [310, 13, 334]),
        ("lenet-5", "fc1", [92, 49, 57], [215, 45, 24], [431, 16, 36]),
    ],
)
def test_group_penalties_empty_whole_neurons(
    model: str, layer: str, shares: list[int], neurons: list[int], inputs: list[int]
) -> None:
    cut = after(f"regularizers-groups-{model}", Prune)
    rows = [row for snapshot in cut if (row := snapshot.row(layer))]
    assert gone(cut) == shares
    assert [row.filters_zero for row in rows] == neurons
    assert [row.inputs_zero for row in rows] == inputs


def test_shared_filters_cost_much_at_once_and_little_stage_by_stage() -> None:
    once, stages = "resnet-20-kmeans", "resnet-20-kmeans-layerwise"
    (fallen,), tuned = after(once, Cluster), after(once, Finetune)
    assert fallen.prunable.now - fallen.unique == 34_848  # the figure of the reference
    assert top1([tuned[0], fallen, tuned[1]]) == [97.8, 68.9, 97.2]
    assert tuned[1].unique == fallen.unique
    walk = [
        step.snapshot
        for step in recorded(stages).steps
        if isinstance(step.operation, Finetune | Cluster) and step.snapshot
    ]
    assert top1(walk) == [97.8, 92.8, 97.5, 96.4, 97.8, 98.3, 97.8]
    assert walk[-1].unique == fallen.unique
    assert (top1(tuned, "test")[-1], top1(walk[-1:], "test")) == (98.3, [97.8])


@pytest.mark.parametrize("name", NAMES)
def test_a_question_is_answered_by_the_step_behind_it(name: str) -> None:
    """Not by a jump, which shows a model, too, and not by a step that leaves the model as it is."""
    steps = recorded(name).steps
    for question, answer in zip(steps, steps[1:] + steps[:1], strict=True):
        if isinstance(question.operation, Note) and question.operation.ask:
            assert answer.event.snapshot and not isinstance(answer.operation, Jump | Undo | Redo), question.number
            assert answer.event.snapshot.accuracy


def test_the_eight_lessons_are_there() -> None:
    assert [name.split("-")[1] for name in LESSONS] == list("12345678")


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_chapters_questions_and_a_task_that_is_left_to_do(name: str) -> None:
    session = recorded(name)
    told = [step.operation for step in session.steps if isinstance(step.operation, Note)]
    assert told[0].text.startswith(f"# {session.title}\n") or told[0].chapter
    assert len([note for note in told if note.chapter]) >= 3
    assert 2 <= len([note for note in told if note.ask]) <= 4
    assert isinstance(session.steps[-1].operation, Task)
    (task,) = outcomes(session)
    assert task.goals and not task.met_at
    of_the_machine = (b'"event":"progress"', b'"name":"step/loss"')  # the more of them the longer it took
    lines = (FOLDER / f"{name}.jsonl").read_bytes().splitlines()
    assert sum(len(line) for line in lines if not any(mark in line for mark in of_the_machine)) < 150_000


def test_labbench_check_says_that_the_tasks_of_the_lessons_are_not_met(capsys: pytest.CaptureFixture[str]) -> None:
    assert marking.check([FOLDER / f"{name}.jsonl" for name in LESSONS], None, "table") == DIFFERS
    _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(LESSONS) and all("  no  " in row for row in rows)


def made(name: str) -> list[Snapshot]:
    """The models that trained, were cut, shared or recalibrated, in the order of time."""
    kinds = Finetune | Prune | Cluster | Recalibrate
    return [step.snapshot for step in recorded(name).steps if isinstance(step.operation, kinds) and step.snapshot]


def accuracies(snapshots: list[Snapshot]) -> list[float]:
    """On validation, as fractions."""
    return [snapshot.accuracy["validation"].top1 for snapshot in snapshots]


def work(snapshot: Snapshot) -> float:
    """The MACs that are left, as a fraction."""
    return snapshot.macs / snapshot.macs_loaded


def lesson(number: int) -> str:
    """The name of a lesson."""
    return next(name for name in LESSONS if name.startswith(f"lesson-{number}-"))


def test_lesson_1_zeros_take_the_time_of_none_and_half_of_the_channels_do_not() -> None:
    dense, pruned, zeros, cut, small = made(lesson(1))
    before, fallen, held, _, good = accuracies([dense, pruned, zeros, cut, small])
    assert fallen < before - 0.05 and min(held, good) > before - 0.03  # "the accuracy is back"
    assert zeros.prunable.sparsity > 0.895 and zeros.macs == dense.macs  # "not one is gone"
    assert f"{dense.macs:,}" in notes(lesson(1)) and 0.25 < work(small) < 0.3  # "a little more than a quarter"
    of_none, of_zeros, of_channels = (timing.faster for timing in timings(lesson(1), batch=64))
    assert 0.75 < of_none < 1.33 and 0.75 < of_zeros < 1.33
    assert 1.3 < of_channels < dense.macs / small.macs  # "not by as much as the MACs say"


def timings(name: str, batch: int) -> list[Timing]:
    """What each clocking of a session found for so many images at once."""
    return [timing for step in recorded(name).steps for timing in step.event.timings if timing.batch == batch]


def test_lesson_2_zeros_come_back_unless_they_are_held() -> None:
    dense, pruned, free, held = made(lesson(2))
    before, fallen, loose, tight = accuracies([dense, pruned, free, held])
    assert fallen < before - 0.05 and min(loose, tight) > fallen + 0.05 and abs(loose - tight) < 7 / 360
    gone = pruned.prunable.now - pruned.prunable.nonzero
    assert 0.55 < (free.prunable.nonzero - pruned.prunable.nonzero) / gone < 0.66  # "six in ten of the zeros"
    assert held.prunable == pruned.prunable  # "not by one weight"


def test_lesson_3_batch_norms_that_look_again_bring_most_of_it_back() -> None:
    dense, cut, looked, tuned = made(lesson(3))
    before, fallen, back, best = accuracies([dense, cut, looked, tuned])
    assert before > 0.95 and fallen < 0.15 and 0.75 < back < best
    assert (back - fallen) / (before - fallen) > 0.75  # "most of it"
    moved = [(a.norm, b.norm) for a, b in zip(cut.rows, looked.rows, strict=True) if a.norm != b.norm]
    assert moved == []  # "with no weight changed"
    inner = [row.channels for row in cut.rows if row.prunable and row.name.endswith("conv1") and "layer" in row.name]
    assert inner == [11] * 3 + [22] * 3 + [44] * 3  # "5 of 16, 10 of 32, 20 of 64"


def test_lesson_4_a_scan_of_single_layers_turns_the_order_round() -> None:
    naive, cut = (step.event.scanned for step in recorded(lesson(4)).steps if step.event.scanned)
    assert naive and cut and naive.top1 == cut.top1 > 0.95
    seemed, was = ({scan.layers: scan.top1 for scan in scanned.layers} for scanned in (naive, cut))
    inner, outer = ("layer2.1.conv1",), ("layer2.0.conv2",)
    stream = ("layer2.0.conv2", "layer2.0.shortcut", "layer2.1.conv2")
    last = ("layer3.0.conv2", "layer3.0.shortcut", "layer3.1.conv2")
    words = notes(lesson(4)).replace("*", "")
    for told in (seemed[inner], seemed[outer], seemed[last[-1:]], was[inner], was[stream], was[last]):
        quarter, half = (f"{100 * (accuracy or 0):.1f}" for accuracy in told)
        assert f": {quarter} and {half} %" in words
    assert f"(dense: {100 * cut.top1:.1f} %)" in words
    for at in (0, 1):  # "turned round"
        assert seemed[inner][at] < seemed[outer][at] and was[inner][at] > was[stream][at] + 0.3
    assert seemed[inner][0] < was[inner][0]  # "bears a quarter better than it seemed to"
    assert seemed[last[-1:]][1] > cut.top1 - 0.02 and 0.1 < cut.top1 - was[last][1] < 0.11  # "free", "ten points"
    _, fallen, tuned = accuracies(made(lesson(4)))
    alone = [was[(f"layer{stage}.{block}.conv1",)][1] for stage in (2, 3) for block in (0, 1)]
    assert fallen < min(alone) and tuned > 0.9  # "more than each of them alone"


def test_lesson_5_a_share_of_the_channels_is_more_of_the_work() -> None:
    dense, cut, tuned, zeros, half, _ = made(lesson(5))
    assert f"{dense.macs:,}" in notes(lesson(5))
    assert 0.45 < work(cut) < 0.49 and work(zeros) == 1 and 0.25 < work(half) < 0.26
    assert abs(cut.whole.now / cut.whole.loaded - work(cut)) < 0.01  # "the parameters fall as the MACs do"
    fallen, best = accuracies([cut, tuned])
    assert fallen < 0.3 < 0.85 < best


def test_lesson_6_half_of_the_layers_are_few_of_the_weights() -> None:
    dense, half, most, pruned = made(lesson(6))
    counts, shares = zip(*(frozen(snapshot) for snapshot in (half, most)), strict=True)
    assert counts == (4, 6) and len(prunable(dense)) == 8
    assert [f"{100 * share:.1f}" for share in shares] == ["12.6", "49.7"]
    before, *after_freezing = accuracies([dense, half, most])
    assert min(after_freezing) > before - 3 / 360  # "nothing was lost"
    assert round(pruned.prunable.sparsity, 2) == round(0.8 * (1 - shares[1]), 2) == 0.4


def prunable(snapshot: Snapshot) -> list[LayerRow]:
    """The conv and linear layers."""
    return [row for row in snapshot.rows if row.prunable]


def frozen(snapshot: Snapshot) -> tuple[int, float]:
    """How many layers are frozen, and their share of the weights."""
    held = [row for row in prunable(snapshot) if row.frozen]
    return len(held), sum(row.weights for row in held) / sum(row.weights for row in prunable(snapshot))


def test_lesson_7_the_same_budget_is_not_the_same_network() -> None:
    dense, shared, shared_tuned, smallest, smallest_tuned, any_cut, any_tuned = made(lesson(7))
    for snapshot, counts in ((shared, (5, 12)), (shared_tuned, (5, 12)), (smallest, (5, 12)), (any_cut, (5, 12))):
        assert tuple(row.filters_unique for row in prunable(snapshot)[:2]) == counts
    at_once = accuracies([smallest, shared, any_cut])
    assert at_once[0] > at_once[1] + 0.05 > at_once[2] + 0.2  # "missed least, costs more, costs most"
    before, *later = accuracies([dense, smallest_tuned, shared_tuned, any_tuned])
    assert abs(later[0] - later[1]) < 5 / 360 and min(later[:2]) > before - 0.03 and later[2] < min(later[:2]) - 0.03
    assert shared_tuned.macs == dense.macs and work(smallest) == work(any_cut) < 0.15  # "all still computed"
    assert shared_tuned.whole.now == dense.whole.now


def test_lesson_8_softmax_twice_hardly_learns() -> None:
    right, twice, scaled = accuracies(after(lesson(8), Finetune))
    assert twice < right - 0.25 and scaled > right - 0.03
    losses = [loss or 0 for _, loss in recorded(lesson(8)).curves["train/loss"].points]
    assert len(losses) == 9 and min(losses[3:6]) > 1.46  # "it cannot fall below"


@pytest.mark.parametrize("name", QUICK)
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
        assert as_asked(old.operation) == as_asked(new.operation)
        if old.snapshot and new.snapshot:
            shapes = [
                [(row.name, row.shape, row.frozen, row.masked, row.clusters) for row in s.rows]
                for s in (old.snapshot, new.snapshot)
            ]
            assert shapes[0] == shapes[1]
    final = again.steps[-1].snapshot
    assert final and final.accuracy["test"].top1 > 0.9
