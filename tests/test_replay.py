"""From a recipe to an export and back with the real worker: the same is done again, and what is written loads equal."""

import os
from pathlib import Path

import pytest

from labbench import cli, folders
from labbench.session import jsonl, recipe
from labbench.session.operations import (
    PLAIN,
    AnyOperation,
    Cluster,
    Evaluate,
    Finetune,
    Freeze,
    Load,
    Note,
    Prune,
    Redo,
    Undo,
    as_asked,
)
from labbench.session.session import Session

STEPS: tuple[AnyOperation, ...] = (
    Load(model="lenet-5", dataset="digits"),
    Note(text="train first"),
    Finetune(**PLAIN, epochs=1, batch_size=128, seed=1),
    Freeze(layers=("conv1",)),
    Prune(layers=("fc*",), amount=0.8),
    Undo(),
    Redo(),
    Prune(layers=("conv2",), method="random-filters", amount=0.3),
    Cluster(layers=("conv2",), k=8),
    Finetune(**PLAIN, epochs=1, batch_size=128, optimizer="adam", lr=0.001),
    Evaluate(),
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path_factory.mktemp("folders")
    monkeypatch.setattr(folders, "log", lambda: base / "labbench.log")
    monkeypatch.setattr(folders, "checkpoints", lambda: base / "checkpoints")


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe's session, made once."""
    folder = tmp_path_factory.mktemp("lesson")
    (folder / "lesson.toml").write_text(recipe.write(recipe.Recipe(title="A lesson", steps=STEPS)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "log", lambda: folder / "labbench.log")
        patch.setattr(folders, "checkpoints", lambda: folder / "checkpoints")
        assert cli.main(["run", str(folder / "lesson.toml"), "--out", str(folder / "lesson.jsonl")]) == 0
    return folder / "lesson.jsonl"


def session_of(file: Path) -> Session:
    return jsonl.read(file)[1]


def test_a_recipe_is_done_and_recorded(lesson: Path) -> None:
    session = session_of(lesson)
    assert [type(step.operation) for step in session.steps] == [type(operation) for operation in STEPS]
    assert session.snapshot
    assert session.snapshot.accuracy["test"].images > 100
    assert {"train/loss", "validation/accuracy"} <= set(session.curves)
    assert len(session.runs) == 2


def test_the_session_as_a_recipe_is_what_was_done(lesson: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", str(lesson), "--recipe"]) == 0
    again = recipe.parse(capsys.readouterr().out)
    assert again.steps == STEPS == tuple(as_asked(step.operation) for step in session_of(lesson).steps)


def test_replay_gives_the_same_to_the_last_bit(
    lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.jsonl"
    assert cli.main(["replay", str(lesson), "--check", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "environment: the same"
    assert lines[-1] == f"{len(STEPS)} steps: {len(STEPS)} identical"
    assert [step.snapshot for step in session_of(out).steps] == [step.snapshot for step in session_of(lesson).steps]


def test_the_filters_that_went_are_recorded_and_go_again(
    lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = session_of(lesson).steps
    cut = steps[7].operation
    assert isinstance(cut, Prune) and len(cut.filters["conv2"]) == 15
    others = tuple(sorted(set(range(50)) - set(cut.filters["conv2"])))[:15]
    text = lesson.read_text("utf-8")
    old, new = (f'"filters":{{"conv2":{list(numbers)}}}'.replace(" ", "") for numbers in (cut.filters["conv2"], others))
    assert old in text
    (tmp_path / "edited.jsonl").write_text(text.replace(old, new), "utf-8")
    assert cli.main(["replay", str(tmp_path / "edited.jsonl"), "--check", "--from", "8", "--until", "8"]) == 1
    assert "differs: " in capsys.readouterr().out


def test_a_part_goes_on_from_checkpoints_or_computes_what_lies_before(
    lesson: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, words in (
        (lesson.parent / "checkpoints", "from checkpoints"),
        (lesson.parent / "none", "5 of them computed again"),
    ):
        monkeypatch.setattr(folders, "checkpoints", lambda folder=folder: folder)
        assert cli.main(["replay", str(lesson), "--check", "--from", "9", "--until", "9"]) == 0
        out, err = capsys.readouterr()
        assert f"steps 1 to 8 are restored, {words}" in err
        assert out.splitlines()[-1] == "1 step: 1 identical"


def opening(lesson: Path, to: Path, old: str, new: str) -> Path:
    """The recording up to the opened model, edited."""
    lines = lesson.read_text("utf-8").splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines, 1) if '"finished"' in line)
    text = "".join(lines[:end])
    assert old in text
    to.write_text(text.replace(old, new), "utf-8")
    return to


def test_a_figure_that_was_edited_is_found(lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = opening(lesson, tmp_path / "edited.jsonl", '"nonzero":500,', '"nonzero":499,')
    assert cli.main(["replay", str(file), "--check"]) == 1
    *_, line, total = capsys.readouterr().out.splitlines()
    assert line.endswith("differs: conv1: nonzero 499, now 500")
    assert total == "1 step: 1 differs"


def test_an_export_loads_back_as_the_same_model(lesson: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    assert cli.main(["export", str(lesson), "--to", str(model)]) == 0
    load = Load(model="lenet-5", dataset="digits", weights=os.fspath(model))
    (tmp_path / "load.toml").write_text(recipe.write(recipe.Recipe(title="t", steps=(load, Evaluate()))), "utf-8")
    assert cli.main(["run", str(tmp_path / "load.toml"), "--out", str(tmp_path / "load.jsonl")]) == 0
    old, new = session_of(lesson).snapshot, session_of(tmp_path / "load.jsonl").snapshot
    assert old and new
    assert new.accuracy["test"] == old.accuracy["test"]
    for then, now in zip(old.rows, new.rows, strict=True):
        assert (then.shape, then.nonzero, then.norm, then.histogram) == (
            now.shape,
            now.nonzero,
            now.norm,
            now.histogram,
        )


def test_weights_that_are_not_here_are_exit_code_3_in_replay(
    lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = opening(lesson, tmp_path / "weights.jsonl", '"weights":""', '"weights":"gone.pt"')
    assert cli.main(["replay", str(file), "--check"]) == 3
    assert "step 1 cannot be done here" in capsys.readouterr().err
