"""`labbench compare`: the tables of the screen, as text and as JSON."""

import json
import shutil
from pathlib import Path

import pytest

from labbench import cli

SESSION = Path(__file__).parent.parent / "sessions" / "prune-globally-and-unprune.jsonl"


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], str]:
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_points_of_one_session_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, err = said(capsys, "compare", f"{SESSION}@2", f"{SESSION}@22", SESSION)
    assert (code, err) == (0, "")
    assert lines[1] == "B  step 22 · prune all layers to 30 % (magnitude, global)"
    assert lines[2].startswith("C  step 25 · finetune 2 epochs")
    assert [line for line in lines if line.endswith(":")] == ["totals:", "layers:", "classes:", "training on the way:"]
    assert next(line for line in lines if line.startswith("compression")).split()[1:3] == ["×1.00", "≠×1.43"]
    assert next(line for line in lines if line.startswith("epochs trained")).split()[2:] == ["8", "8", "≠12"]
    assert not any(line.startswith("fc1") and "channels" in line for line in lines)
    assert any("channels" in line for line in said(capsys, "compare", f"{SESSION}@2", SESSION, "--all")[1])


def test_two_sessions_are_told_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = shutil.copy(SESSION, tmp_path / "other.jsonl")
    code, lines, _ = said(capsys, "compare", SESSION, other)
    assert code == 0
    assert "· prune-globally-and-unprune ·" in lines[0] and "· other ·" in lines[1]
    assert not any("≠" in line for line in lines)


def test_json_has_the_differences_and_the_curves(capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads("\n".join(said(capsys, "compare", f"{SESSION}@2", SESSION, "--json")[1]))
    assert [one["number"] for one in value["models"]] == [2, 25]
    assert len(value["models"][0]["curves"]["validation/accuracy"]) == 8
    assert len(value["models"][1]["curves"]["validation/accuracy"]) == 12
    assert {"what": "compression", "values": ["×1.00", "×1.11"]} in value["differences"]["totals"]
    assert value["models"][1]["snapshot"]["prunable"]["loaded"] == 430_500


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((SESSION,), "two models at least"),
        ((SESSION, f"{SESSION}@3"), "step 3 changed nothing, so it is no point; points are 1, 2, 4"),
        ((SESSION, f"{SESSION}@dense"), "no point dense"),
        ((SESSION, "nowhere.jsonl"), "nowhere.jsonl: No such file"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], given: tuple[object, ...], words: str
) -> None:
    code, lines, err = said(capsys, "compare", *given)
    assert (code, lines) == (2, [])
    assert words in err and len(err.splitlines()) == 1
