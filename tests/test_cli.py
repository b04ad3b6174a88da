"""The command line: stdout is data, stderr is narration, the exit code is the verdict. With a made-up worker, so that
every way to end can happen."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from labbench import cli, client, folders, listing, repeat
from labbench.headless import Stopped
from labbench.session import jsonl, lock, recipe
from labbench.session.catalogue import shipped
from labbench.session.operations import Finetune, Load, Note
from labbench.session.session import Session
from labbench.session.spread import Spread
from labbench.verify import Plan

FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]

RECIPE = """
title = "A lesson"
about = "what it shows"
[[step]]
op = "load"
model = "lenet-5"
dataset = "digits"
[[step]]
op = "note"
text = "half of it\\nin two lines"
[[step]]
op = "finetune"
epochs = 3
[[step]]
op = "prune"
amount = 0.5
[[step]]
op = "undo"
[[step]]
op = "redo"
[[step]]
op = "evaluate"
"""

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line with the made-up worker: exit code, lines of stdout, stderr."""
    monkeypatch.setattr(client, "worker_command", lambda *folders: FAKE)
    monkeypatch.setattr(folders, "log", lambda: tmp_path / "labbench.log")
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> tuple[int, list[str], str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return command


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    file = tmp_path / "lesson.toml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


@pytest.fixture
def session(run: Run, lesson: Path, tmp_path: Path) -> Path:
    file = tmp_path / "lesson.jsonl"
    assert run("run", lesson, "--out", file)[0] == 0
    return file


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_run_prints_a_line_for_each_operation_and_records_a_session_that_plays(
    run: Run, lesson: Path, tmp_path: Path
) -> None:
    code, out, err = run("run", lesson, "--out", tmp_path / "s.jsonl")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out] == ["#", "1", "2", "3", "4", "5", "6", "7"]
    assert "prune all layers to 50 % (magnitude)" in out[4]
    assert out[4].split()[8:12] == ["50.0", "%", "510/1,010", "62.0"]
    header, session, _ = jsonl.read(tmp_path / "s.jsonl")
    assert header.title == "A lesson" and header.created and header.environment
    assert [step.operation for step in session.steps] == list(recipe.read(lesson).steps)
    assert len(session.curves["train/loss"].points) == 3
    assert [seconds for seconds, _ in session.events] == sorted(seconds for seconds, _ in session.events)


def test_a_terminal_sees_how_far_a_run_is_and_a_file_does_not(
    run: Run, lesson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("run", lesson)[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, out, err = run("run", lesson)
    assert "\r\x1b[Ktrain  33 %  epoch 1/3\r\x1b[K" in err
    assert err.endswith("\r\x1b[K")
    assert not any("train  33 %" in line for line in out)


def test_run_stops_at_a_step_that_is_refused_and_keeps_what_was_done(run: Run, lesson: Path, tmp_path: Path) -> None:
    edit(lesson, "amount = 0.5", 'layers = ["nope"]')
    code, out, err = run("run", lesson, "--out", tmp_path / "s.jsonl")
    assert code == 1
    assert len(out) == 4
    assert "lesson.toml: step 4: no such layer: nope; the layers are conv1" in err
    assert len(jsonl.read(tmp_path / "s.jsonl")[1].steps) == 3


@pytest.mark.parametrize("trick", ["die", "killed"])
def test_a_worker_that_dies_ends_a_run_with_its_last_words_in_the_session(
    run: Run, lesson: Path, tmp_path: Path, trick: str
) -> None:
    edit(lesson, "half of it\\nin two lines", trick)
    code, _, err = run("run", lesson, "--out", tmp_path / "s.jsonl")
    assert code == 3
    assert "the worker" in err and "labbench.log" in err
    session = jsonl.read(tmp_path / "s.jsonl")[1]
    assert session.problem and session.problem.error in err


def test_a_worker_that_cannot_start_is_exit_code_3(run: Run, lesson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "worker_command", lambda *folders: ["/nowhere/python"])
    assert run("run", lesson)[0] == 3
    monkeypatch.setattr(
        client, "worker_command", lambda *folders: [sys.executable, "-c", "raise SystemExit('no torch')"]
    )
    code, _, err = run("run", lesson)
    assert code == 3 and "no torch" in err


def test_a_wrong_recipe_is_refused_before_anything_runs(run: Run, lesson: Path) -> None:
    edit(lesson, "amount", "amonut")
    code, out, err = run("run", lesson)
    assert (code, out) == (2, [])
    assert "lesson.toml: step 4: prune has no key 'amonut'" in err and "did you mean amount?" in err


def test_existing_files_are_never_overwritten(run: Run, lesson: Path, session: Path) -> None:
    content = session.read_bytes()
    for arguments in (("run", lesson, "--out", session), ("replay", session, "--out", session)):
        code, out, err = run(*arguments)
        assert (code, out) == (2, []) and "already there" in err
    assert session.read_bytes() == content


def test_a_device_that_is_not_here_is_exit_code_3(run: Run, lesson: Path, session: Path) -> None:
    for arguments in (("run", lesson), ("replay", session), ("export", session, "--to", "m.safetensors")):
        code, _, err = run(*arguments, "--device", "cuda:7")
        assert code == 3 and "no device cuda:7 here; there is cpu" in err


def test_replay_does_the_same_again_and_says_so(run: Run, session: Path, tmp_path: Path) -> None:
    code, out, err = run("replay", session, "--check", "--out", tmp_path / "again.jsonl")
    assert (code, err) == (0, "")
    assert out[0] == "environment: the same"
    assert out[-1] == "7 steps: 7 identical"
    assert all(line.endswith("identical") for line in out[2:])
    steps = [step.operation for step in jsonl.read(tmp_path / "again.jsonl")[1].steps]
    assert steps == [step.operation for step in jsonl.read(session)[1].steps]


def test_replay_without_check_only_does_it(run: Run, session: Path) -> None:
    code, out, _ = run("replay", session)
    assert code == 0
    assert len(out) == 8 and not any("identical" in line for line in out)


def test_an_edited_figure_differs_and_is_named(run: Run, session: Path) -> None:
    edit(session, '"unique":500', '"unique":499')
    code, out, _ = run("replay", session, "--check")
    assert code == 1
    assert out[5].endswith("differs: unique 499, now 500")
    assert out[-1] == "7 steps: 4 identical, 3 differs"


def test_another_machine_is_listed_and_gets_a_tolerance(run: Run, session: Path) -> None:
    edit(session, '"machine":"made up"', '"machine":"another"')
    edit(session, '"fingerprint":"1000-0-3"', '"fingerprint":"other"')
    edit(session, '"top1":0.62', '"top1":0.63')
    code, out, _ = run("replay", session, "--check")
    assert code == 0
    assert out[0] == "environment: machine another then, made up now"
    assert out[1].startswith("tolerance: counts must be equal; 5 % of a layer may differ where its weights decide")
    assert out[2].startswith("tolerance: an accuracy may differ by 2 standard errors of the recorded one, at least 1 %")
    assert "within tolerance: counts are equal; validation 63.00 %, now 62.00 % (band ±4.83)" in out[6]


def test_a_part_of_a_session_is_done_again_and_goes_on_from_what_was_recorded(run: Run, session: Path) -> None:
    code, out, err = run("replay", session, "--check", "--from", 4, "--until", 6, "--out", "part.jsonl")
    assert code == 0 and "steps 1 to 3 are restored, 2 of them computed again" in err
    assert [line.split()[0] for line in out[2:-1]] == ["4", "5", "6"]
    assert out[-1] == "3 steps: 3 identical"
    old, new = (jsonl.read(file)[1] for file in (session, session.with_name("part.jsonl")))
    assert [step.operation for step in new.steps] == [step.operation for step in old.steps[:6]]
    assert new.snapshot == old.steps[5].snapshot


def test_a_varied_step_and_what_follows_are_not_compared(run: Run, session: Path) -> None:
    code, out, _ = run("replay", session, "--check", "--set", "4.amount=0.6", "--out", "varied.jsonl")
    assert code == 0
    assert "prune all layers to 60 % (magnitude)" in out[5]
    assert out[5].endswith("not comparable: varied: amount=0.6")
    assert out[6].endswith("not comparable: varied: step 4 was")
    assert out[-1] == "7 steps: 3 identical, 4 not comparable"
    varied = jsonl.read(session.with_name("varied.jsonl"))[1].steps[3].snapshot
    assert varied and varied.prunable.nonzero == 400


def test_a_session_is_repeated_over_seeds_and_carries_the_spread(run: Run, session: Path) -> None:
    before = session.read_bytes()
    code, out, err = run("replay", session, "--repeat", 3, "--json", "spread.json", "--keep")
    assert code == 0 and "seed 2, 3 of 3: done" in err
    assert [line.split()[0] for line in out] == ["#", "1", "2", "3", "4", "5", "6", "7"]
    assert "62.00 ± 0.00 %" in out[3] and out[3].endswith("3")
    found = json.loads(session.with_name("spread.json").read_text("utf-8"))
    assert found["seeds"] == [0, 1, 2]
    assert found["steps"][2]["operation"]["seed"] == 0
    assert found["steps"][2]["figures"]["validation"]["values"] == [0.62] * 3
    assert session.read_bytes().partition(b"\n")[2] == before.partition(b"\n")[2]
    header = jsonl.read(session)[0]
    assert header.tolerance[3]["validation"].n == 3 and 2 not in header.tolerance
    assert run("replay", session, "--check")[1][-1] == "7 steps: 7 identical"


def test_a_file_that_cannot_carry_the_spread_is_refused_before_the_first_seed(run: Run, session: Path) -> None:
    with session.open("r+b") as there:
        lock.take(there)
        code, out, err = run("replay", session, "--repeat", 3, "--keep")
    assert (code, out) == (2, [])
    assert "cannot carry the spread: this session is open in another labbench" in err
    assert "seed 0" not in err


@pytest.mark.parametrize("stop", [Stopped, KeyboardInterrupt])
def test_seeds_that_were_done_before_a_stop_are_printed(
    run: Run, session: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    do_again = repeat.do_again

    async def at_last_stopped(plan: Plan, *arguments: object, **options: object) -> Session:
        if plan.operations[0].seed == 2:  # type: ignore[union-attr]
            raise stop
        return await do_again(plan, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(repeat, "do_again", at_last_stopped)
    code, out, err = run("replay", session, "--repeat", 4, "--until", 3)
    assert code == 130 and "stopped; 2 of 4 seeds were done" in err
    assert out[3].split()[0] == "3" and out[3].endswith("2")


def test_a_seed_that_fails_counts_as_far_as_it_came(run: Run, session: Path) -> None:
    edit(session, '{"op":"prune","layers":["*"]', '{"op":"prune","layers":["nope"]')
    code, out, err = run("replay", session, "--repeat", 2)
    assert code == 1 and "seed 1, 2 of 2: step 4, prune nope" in err
    assert out[3].endswith("2") and "62.00 ± 0.00 %" in out[3]


def test_the_spread_that_a_file_carries_widens_the_tolerance_elsewhere_only(run: Run, session: Path) -> None:
    jsonl.keep_tolerance(session, {3: {"validation": Spread(n=5, mean=0.6, sd=0.05)}})
    edit(session, '"top1":0.62', '"top1":0.72')
    assert run("replay", session, "--check")[0] == 1
    edit(session, '"machine":"made up"', '"machine":"another"')
    edit(session, '"fingerprint":"1000-0-3"', '"fingerprint":"other"')
    code, out, _ = run("replay", session, "--check", "--until", 3)
    assert code == 0
    assert "step 3 validation ±14.14 % (5 seeds)" in out[3]
    assert out[-2].endswith("validation 72.00 %, now 62.00 % (band ±14.14, from 5 seeds)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "9"], "--from 9: no such step; the steps are 1 to 7"),
        (["--until", "0"], "--until 0: no such step"),
        (["--from", "5", "--until", "4"], "--from 5 lies behind --until 4"),
        (["--set", "9.amount=1"], "--set 9.amount=1: no step 9; the steps are 1 to 7"),
        (["--set", "4.amonut=1"], "prune has no field amonut; "),
        (["--set", "4.amount=2"], "amount must be a number from 0 to 1, not 2"),
        (["--set", "4.method=nope"], "no such method: nope"),
        (["--set", "amount=2"], "--set takes STEP.FIELD=VALUE, such as 4.amount=0.6"),
        (["--from", "5", "--set", "4.amount=0.6"], "only steps 5 to 7 are done again"),
        (["--repeat", "4-0"], "--repeat takes seeds such as 0-4"),
        (["--repeat", "3", "--check"], "leave out --check, --out"),
        (["--keep"], "--json and --keep go with --repeat"),
        (["--repeat", "3", "--keep", "--set", "4.amount=0.6"], "leave out --set"),
    ],
)
def test_a_replay_that_cannot_be_meant_is_refused_before_anything_runs(
    run: Run, session: Path, arguments: list[str], words: str
) -> None:
    code, out, err = run("replay", session, *arguments)
    assert (code, out) == (2, []) and words in err


def test_a_step_that_fails_here_differs_and_takes_the_rest_with_it(run: Run, session: Path) -> None:
    edit(session, '{"op":"prune","layers":["*"]', '{"op":"prune","layers":["nope"]')
    code, out, _ = run("replay", session, "--check")
    assert code == 1
    assert out[5].endswith("differs: it failed here: no such layer: nope; the layers are conv1")
    assert out[6].endswith("not comparable: step 4 failed here")
    assert out[-1] == "7 steps: 3 identical, 1 differs, 3 not comparable"
    code, _, err = run("replay", session)
    assert code == 1 and "step 4, prune nope to 50 % (magnitude): no such layer" in err


def test_what_cannot_be_opened_here_is_exit_code_3(run: Run, session: Path) -> None:
    edit(session, '"model":"lenet-5"', '"model":"nope"')
    code, _, err = run("replay", session, "--check")
    assert code == 3 and "step 1 cannot be done here: no such model: nope" in err


def test_refused_operations_of_a_recording_are_not_done_again(run: Run, session: Path) -> None:
    refused = {"event": "failed", "error": "no", "operation": {"op": "prune", "layers": ["nope"]}}
    with session.open("a", encoding="utf-8") as file:
        file.write(json.dumps([9.0, refused]) + "\n")
    assert run("replay", session, "--check")[1][-1] == "7 steps: 7 identical"


@pytest.mark.parametrize("command", ["replay", "show", "play", "export"])
def test_a_broken_file_is_exit_code_2_with_file_line_and_reason(run: Run, session: Path, command: str) -> None:
    lines = session.read_bytes().splitlines(keepends=True)
    session.write_bytes(b"".join([*lines[:3], b"{broken\n", *lines[3:]]))
    more = ["--to", "m.safetensors"] if command == "export" else []
    code, out, err = run(command, session, *more)
    assert (code, out) == (2, [])
    assert "lesson.jsonl, line 4: " in err
    assert run(command, "nowhere.jsonl", *more)[0] == 2


def test_a_session_without_operations_is_nothing_to_do_again(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "empty.jsonl"
    jsonl.Writer(file, jsonl.Header(labbench=1)).close()
    assert run("replay", file)[0] == 2
    assert run("export", file, "--to", "m.safetensors")[0] == 2
    assert run("show", file, "--recipe")[0] == 2
    assert run("show", file)[0] == 0


def test_a_cut_off_last_line_is_said_on_stderr(run: Run, session: Path) -> None:
    session.write_bytes(session.read_bytes()[:-5])
    code, out, err = run("show", session)
    assert code == 0 and out
    assert "the last line was cut off" in err


def test_show_tells_the_history_the_layers_and_the_sums(run: Run, session: Path) -> None:
    code, out, err = run("show", session)
    assert (code, err) == (0, "")
    text = "\n".join(out)
    assert out[0] == "A lesson"
    assert "  2✎ half of it\n     in two lines" in text
    assert "conv1  conv  10×4×5×5       500   1,000    50.0 %" in text
    assert "prunable weights  500 not zero of 1,000 now, 1,000 loaded: 50.0 % gone, 2.0× fewer" in text


def test_show_gives_json(run: Run, session: Path, lesson: Path) -> None:
    value = json.loads("\n".join(run("show", session, "--json")[1]))
    assert value["title"] == "A lesson"
    assert value["steps"][3]["operation"]["op"] == "prune"
    assert value["now"] == 4 and value["points"] == {"1": {"from": 0}, "3": {"from": 1}, "4": {"from": 3}}
    assert value["steps"][3]["sparsity"] == 0.5
    assert value["snapshot"]["rows"][0]["nonzero"] == 500
    assert json.loads("\n".join(run("show", lesson, "--json")[1]))["steps"][2]["epochs"] == 3


def test_show_gives_every_measure_as_text_and_as_json(run: Run, session: Path) -> None:
    code, out, _ = run("show", session, "--measures")
    words = "\n".join(out)
    assert code == 0
    assert [line for line in out if line in ("model:", "layers:", "classes:", "confusion:")] == [
        "model:", "layers:", "classes:", "confusion:",
    ]  # fmt: skip
    assert "fewer (1)" in words and "measure (M) does" in words
    value = json.loads("\n".join(run("show", session, "--measures", "--json")[1]))
    assert value["measures"]["looked_closely"] is None
    assert len(value["measures"]["compression"]) == 2
    assert value["measures"]["layers"].keys() == {row["name"] for row in value["snapshot"]["rows"] if row["prunable"]}
    assert "measures" not in json.loads("\n".join(run("show", session, "--json")[1]))


def test_show_gives_a_session_back_as_a_recipe(run: Run, session: Path, lesson: Path) -> None:
    code, out, _ = run("show", session, "--recipe")
    assert code == 0
    again = recipe.parse("\n".join(out))
    assert again.title == "A lesson"
    assert again.steps == recipe.read(lesson).steps


def test_show_takes_a_recipe_too(run: Run, lesson: Path) -> None:
    out = run("show", lesson)[1]
    assert out[:2] == ["A lesson", "what it shows"]
    assert out[-1] == "  7  evaluate on test"
    assert recipe.parse("\n".join(run("show", lesson, "--recipe")[1])) == recipe.read(lesson)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("models", "lenet-5: "),
        ("datasets", "digits: "),
        ("methods", "magnitude: "),
        ("operations", "prune: Remove weights or filters"),
    ],
)
def test_list_names_what_can_be_chosen(run: Run, what: str, words: str) -> None:
    code, out, _ = run("list", what)
    assert code == 0
    assert any(line.startswith(words) for line in out)
    names = [entry["name"] for entry in json.loads("\n".join(run("list", what, "--json")[1]))]
    assert names == [line.split(":")[0] for line in out if not line.startswith(" ")]


def test_the_models_are_listed_as_a_table_and_nothing_else_is(run: Run) -> None:
    code, (head, _, *rows), _ = run("list", "models", "--table")
    assert code == 0
    assert head == "| name | parameters | input | model | source |"
    assert rows[0].startswith("| `lenet-5` | 431,080 | 1×28×28 | LeNet-5: two 5×5 convolutions")
    assert [row.split("`")[1] for row in rows] == [entry.name for entry in shipped().models]
    assert all(row.count("|") == 6 for row in rows)


def test_list_shows_types_ranges_and_defaults(run: Run) -> None:
    lines = [" ".join(line.split()) for line in run("list", "operations")[1]]
    assert any(line.startswith("amount float from 0 to 1 default 0.5 ") for line in lines)
    assert any(line.startswith("optimizer sgd, adam, adamw default ") for line in lines)
    assert any(line.startswith("model text must be given a name") for line in lines)
    assert any(line.startswith("amounts map from 0 to 1 other amounts by layer") for line in lines)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("what", ["models", "datasets", "methods", "clusterings", "regularizers", "operations"])
def test_a_list_is_wrapped_to_the_terminal_and_loses_no_word(what: str, width: int) -> None:
    for entry in getattr(shipped(), what):
        lines = listing.entry_lines(entry, width)
        assert max(map(len, lines)) <= width
        assert sorted(" ".join(lines).split()) == sorted(" ".join(listing.entry_lines(entry, None)).split())


def test_export_writes_once_and_overwrites_only_by_force(run: Run, session: Path, tmp_path: Path) -> None:
    to = tmp_path / "model.safetensors"
    code, out, _ = run("export", session, "--to", to)
    assert (code, out[0]) == (0, f"{to}  7 bytes, 5 gzipped")
    assert out[1:] == [
        "     · gzipped 10.0 % of the parameters as they were loaded (50 bytes)",
        "     · run once: its answers differ from the bench's model by 2.0e-07 at most",
        "     · made up",
    ]
    to.write_bytes(b"precious")
    assert run("export", session, "--to", to)[0] == 2
    assert to.read_bytes() == b"precious"
    assert run("export", session, "--to", to, "--force")[0] == 0
    assert to.read_bytes() == b"made up"
    assert run("export", session, "--to", tmp_path / "no folder" / "m.safetensors")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rply", "x.jsonl"], "no command or file rply; did you mean labbench replay?"),
        (["frobnicate"], "no command or file frobnicate; the commands are play, replay, run"),
        (["lesson.tolm"], "no file lesson.tolm; did you mean lesson.toml?"),
        (["nowhere.jsonl"], "no file nowhere.jsonl"),
        (["lesson.toml", "--model", "lenet-5"], "says what to open; leave out --model"),
        (["lesson.jsonl", "--session", "x.jsonl"], "goes on in its own file; leave out --session"),
        (["--model", "lenet5"], "no such model: lenet5; the models are .*did you mean lenet-5?"),
        (["--dataset", "digit"], "no such data set: digit; the data sets are .*did you mean digits?"),
        (["--model", "resnet-20", "--option", "shortcut=C"], "resnet-20: shortcut must be one of A, B, not 'C'"),
        (["--model", "resnet-20", "--option", "shortcut"], "--option takes NAME=VALUE, not shortcut"),
        (["--option", "shortcut=A"], "--option and --weights go with --model"),
        (["--model", "lenet-5", "--session", "lesson.jsonl"], "is there and goes on as it is"),
        (["--seed", "one"], "invalid int value"),
        (["--model", "lenet-5", "--seed", "-1"], "load: seed must be a whole number from 0"),
        (["list", "model"], "labbench list: .*invalid choice: 'model'"),
        (["list", "methods", "--table"], "there is a table of the models only, not of the methods"),
        (["show"], "labbench show: .*required: FILE"),
        (["export", "lesson.jsonl", "--to", "m.zip"], "m.zip: its ending says the format, one of .safetensors, .pth"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused_in_one_sentence(
    run: Run, session: Path, arguments: list[str], sentence: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, [])
    assert len(err.splitlines()) == 1
    assert re.search(sentence.replace("?", r"\?"), err), err


def test_without_a_terminal_the_app_does_not_start(run: Run, session: Path) -> None:
    for arguments in ([], [session], ["play", session], ["--model", "lenet-5"]):
        code, out, err = run(*arguments)
        assert (code, out) == (3, [])
        assert "needs a terminal" in err and "replay, run, show, compare, list or export" in err


def test_a_bug_is_a_sentence_that_names_the_log(run: Run, lesson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(recipe, "read", broken)
    code, out, err = run("show", lesson)
    assert (code, out) == (70, [])
    assert "labbench.log" in err and "Traceback" not in err
    assert "ZeroDivisionError: a fault" in folders.log().read_text(encoding="utf-8")


def test_version_and_help(run: Run) -> None:
    assert run("--version")[1] == ["labbench 0.1.0"]
    out = run("--help")[1]
    assert any("replay FILE [--check]" in line for line in out)


def script(tmp_path: Path) -> Path:
    """A program that is `labbench` with the made-up worker."""
    file = tmp_path / "labbench_fake.py"
    file.write_text(
        "import sys\nfrom labbench import cli, client\n"
        f"client.worker_command = lambda *folders: {FAKE!r}\nsys.exit(cli.main())\n",
        encoding="utf-8",
    )
    return file


def test_ctrl_c_stops_the_run_and_keeps_what_was_done(lesson: Path, tmp_path: Path) -> None:
    edit(lesson, "epochs = 3", "epochs = 3\nseed = 13")
    out = tmp_path / "s.jsonl"
    process = subprocess.Popen(
        [sys.executable, script(tmp_path), "run", lesson, "--out", out], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(3)]
    while '"phase":"train"' not in out.read_text(encoding="utf-8"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    lines += process.communicate(timeout=30)[0].splitlines()
    assert process.returncode == 130
    assert "finetune 3 epochs" in lines[-1]
    assert [type(step.operation) for step in jsonl.read(out)[1].steps] == [Load, Note, Finetune]


def test_a_reader_that_has_seen_enough_is_no_error(session: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, script(tmp_path), "show", session], stdout=write, stderr=subprocess.PIPE, text=True, timeout=30
    )
    os.close(write)
    assert done.stderr == ""


def in_terminal(*arguments: object, until: bytes, keys: bytes, env: dict[str, str]) -> tuple[int, bytes]:
    """Run `labbench` in a terminal of its own, press keys once a text is on the screen; exit code and all output."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-m", "labbench", *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", **env},
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the program has ended
        while chunk := os.read(master, 2**16):
            before, shown = shown, shown + chunk
            if until in shown and until not in before:
                os.write(master, keys)
    os.close(master)
    return process.wait(timeout=30), shown


def test_a_recording_plays_in_a_terminal_and_q_ends_it(session: Path, tmp_path: Path) -> None:
    folders = {name: str(tmp_path) for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    code, shown = in_terminal("play", session, until=b"conv1", keys=b"q", env=folders)
    assert code == 0
    assert b"lenet-5" in shown and b"Traceback" not in shown


def test_a_dumb_terminal_is_told_what_to_use_instead(session: Path) -> None:
    code, shown = in_terminal("play", session, until=b"never", keys=b"", env={"TERM": "dumb"})
    assert code == 3
    assert b"needs a terminal" in shown


def test_code_that_a_file_names_is_run_only_with_trust_code(run: Run, lesson: Path, tmp_path: Path) -> None:
    edit(lesson, 'model = "lenet-5"', 'model = "net.py:build"')
    (tmp_path / "net.py").write_text("")
    out = tmp_path / "own.jsonl"
    code, lines, err = run("run", lesson, "--out", out)
    assert (code, lines) == (3, []) and not out.exists()
    assert f"net.py:build ({tmp_path / 'net.py'}); nothing was run; --trust-code allows it" in err
    assert run("run", lesson, "--out", out, "--trust-code")[0] == 0
    for command in (("replay", out), ("replay", out, "--check"), ("export", out, "--to", tmp_path / "m.safetensors")):
        code, lines, err = run(*command)
        assert (code, lines) == (3, []) and "--trust-code allows it" in err
        assert run(*command, "--trust-code")[0] == 0
    assert run("show", out)[0] == 0


def test_a_check_says_that_the_code_is_not_that_of_the_recording(run: Run, lesson: Path, tmp_path: Path) -> None:
    edit(lesson, 'model = "lenet-5"', 'model = "net.py:build"')
    out = tmp_path / "own.jsonl"
    assert run("run", lesson, "--out", out, "--trust-code")[0] == 0
    assert not any("not the code" in line for line in run("replay", out, "--check", "--trust-code")[1])
    edit(out, '"code_sha256":"that of the file"', '"code_sha256":"another"')
    edit(out, '"nonzero":500,', '"nonzero":499,')
    code, found, _ = run("replay", out, "--check", "--trust-code")
    said = [line.partition("identical: ")[2] or line.partition("differs: ")[2] for line in found[2:-1]]
    other = "net.py:build is not the code that was recorded"
    assert said[0] == said[2] == other and said[1] == ""
    assert code == 1 and any(line.startswith(f"{other}; ") for line in said)


def test_a_model_of_ones_own_is_opened_by_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("labbench.tui.start.main", lambda **given: started.append(given) or 0)
    monkeypatch.setattr(cli, "_no_terminal", lambda: 0)
    assert run("--model", "net.py:build", "--option", "width=8")[0] == 0
    assert started[0]["load"] == Load(model="net.py:build", dataset="digits", options={"width": 8})
    code, _, err = run("--model", "net.py:1")
    assert code == 2 and "such as net.py:build" in err
