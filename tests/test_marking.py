"""`labbench check`: thirty files, one table; the teacher's task counts, whatever a file says."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from session_examples import HERE, LOAD, finished, row, snapshot

from labbench import cli, client
from labbench.session import recipe
from labbench.session.jsonl import VERSION, Header, Writer
from labbench.session.operations import AnyOperation, Prune, Task

TASK = Task(name="small", goals=("parameters < 50 %", "accuracy >= 90 %"))
FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["check", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def session(path: Path, *operations: AnyOperation, nonzero: int = 100, validation: float = 0.95) -> Path:
    with Writer(path, Header(labbench=VERSION, environment=HERE)) as writer:
        for number, operation in enumerate((LOAD, *operations)):
            found = snapshot(row(nonzero=nonzero if isinstance(operation, Prune) else 100), validation=validation)
            for event in finished(operation, found):
                writer.write(float(number), event)
    return path


def test_a_line_for_each_file_and_task(check: Check, tmp_path: Path) -> None:
    good = session(tmp_path / "anna.jsonl", TASK, Prune(), nonzero=30)
    poor = session(tmp_path / "ben.jsonl", TASK, Prune(), nonzero=30, validation=0.5)
    code, out, _ = check(good, poor)
    lines = out.splitlines()
    assert code == 1
    assert lines[0].split()[:3] == ["file", "task", "met"]
    assert lines[1].split()[:4] == ["anna.jsonl", "small", "step", "3"]
    assert "✓ parameters 36.4 < 50 % · ✓ accuracy 95.0 >= 90 %" in lines[1]
    assert lines[2].split()[:3] == ["ben.jsonl", "small", "no"]
    assert check(good)[0] == 0


def test_the_teachers_tasks_replace_those_of_a_file(check: Check, tmp_path: Path) -> None:
    easy = Task(name="small", goals=("parameters <= 100 %",))
    cheated = session(tmp_path / "carl.jsonl", easy, Prune(), nonzero=80)
    assert check(cheated)[0] == 0
    teacher = tmp_path / "lesson.toml"
    teacher.write_text(recipe.write(recipe.Recipe(title="t", steps=(LOAD, TASK))))
    code, out, _ = check(cheated, "--tasks", teacher)
    assert code == 1 and "small  no" in out and "< 50 %" in out
    code, out, _ = check(cheated, "--tasks", session(tmp_path / "lesson.jsonl", TASK))
    assert code == 1 and "small  no" in out


def test_what_cannot_be_checked_is_said_and_the_others_are_checked(check: Check, tmp_path: Path) -> None:
    good = session(tmp_path / "anna.jsonl", TASK, Prune(), nonzero=30)
    without = session(tmp_path / "none.jsonl")
    (tmp_path / "broken.jsonl").write_text("{}\n")
    code, out, err = check(tmp_path / "broken.jsonl", without, good)
    assert code == 2
    assert out.count("cannot be checked") == 2 and "anna.jsonl    small  step 3" in out
    assert "broken.jsonl, line 1" in err and "no task in it; --tasks FILE names one with some" in err
    assert check(good, "--tasks", without)[0] == 2


def test_json_has_the_readings(check: Check, tmp_path: Path) -> None:
    code, out, _ = check(session(tmp_path / "a.jsonl", TASK, Prune(), nonzero=30), "--json")
    found = json.loads(out)
    assert code == 0
    assert found[0]["tasks"][0]["met_at"] == 3
    assert found[0]["tasks"][0]["readings"] == pytest.approx([100 * 40 / 110, 95])


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A session that the made-up worker did: pruned to half."""
    monkeypatch.setattr(client, "worker_command", lambda *folders: FAKE)
    task = Task(name="small", goals=("parameters < 60 %", "accuracy >= 50 %"))
    (tmp_path / "lesson.toml").write_text(recipe.write(recipe.Recipe(title="t", steps=(LOAD, task, Prune()))))
    assert cli.main(["run", str(tmp_path / "lesson.toml"), "--out", str(tmp_path / "anna.jsonl")]) == 0
    return tmp_path / "anna.jsonl"


def test_an_honest_file_is_done_again_and_agrees(check: Check, worked: Path) -> None:
    code, out, err = check(worked, "--recompute")
    assert code == 0, err
    assert out.splitlines()[1].split()[:4] == ["anna.jsonl", "small", "step", "3"]
    assert out.splitlines()[1].endswith("3 identical")


def test_an_edited_figure_is_found_and_what_comes_out_here_counts(check: Check, worked: Path) -> None:
    text = worked.read_text()
    lines = text.splitlines()
    last = max(number for number, line in enumerate(lines) if '"snapshot"' in line)
    told = json.loads(lines[last])
    told[1]["snapshot"]["whole"]["nonzero"] = 7
    told[1]["snapshot"]["accuracy"]["validation"]["top1"] = 0.999
    lines[last] = json.dumps(told)
    worked.write_text("\n".join(lines) + "\n")
    hard = worked.with_name("hard.toml")
    goals = ("parameters < 10 %", "accuracy > 99 %")
    hard.write_text(recipe.write(recipe.Recipe(title="t", steps=(LOAD, Task(name="hard", goals=goals)))))
    assert check(worked, "--tasks", hard)[0] == 0, "the figures of the file say so"
    code, out, _ = check(worked, "--tasks", hard, "--recompute")
    assert code == 1
    assert out.splitlines()[1].split()[:3] == ["anna.jsonl", "hard", "no"]
    assert "differs at step 3: " in out
    found = json.loads(check(worked, "--recompute", "--json")[1])
    assert found[0]["figures_agree"] is False


def test_a_file_that_names_code_is_not_run_without_being_told_to(check: Check, worked: Path) -> None:
    worked.write_text(worked.read_text().replace('"model":"lenet-5"', '"model":"net.py:build"'))
    code, out, err = check(worked, "--recompute")
    assert code == 3 and "cannot be checked" in out and "--trust-code runs it" in err
