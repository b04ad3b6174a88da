"""Files from the command line: everything is read through and repaired, sessions are found by their names, a recipe
that did not come to its end goes on, and names may be any bytes."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labbench import cli, client, folders, keeping
from labbench.exits import BAD, CANNOT, DIFFERS, SAME
from labbench.leftovers import _sweep
from labbench.session import jsonl, writing
from labbench.session.events import Started
from labbench.session.jsonl import VERSION, Header, Writer, read
from labbench.session.keys import keys_of
from labbench.session.operations import Evaluate, Finetune, Load, Note, Prune
from labbench.session.store import GRACE, Store

from session_examples import finished, snapshot  # isort: skip

FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
GONE = 2**22 + 1  # no process has this number
Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line with the made-up worker: exit code, lines of stdout, stderr."""
    monkeypatch.setattr(client, "worker_command", lambda *folders: FAKE)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def command(*arguments: object) -> tuple[int, list[str], str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return command


def session(name: str, closed: bool = True) -> Path:
    """A session in labbench's own folder, with checkpoints."""
    path = folders.sessions() / name
    operations = [Load(model="lenet-5", dataset="digits"), Prune(amount=0.5)]
    marks = (snapshot(fingerprint=f"{number}") for number in range(len(operations)))
    events = [event for one, mark in zip(operations, marks, strict=True) for event in finished(one, mark)]
    with Writer(path, Header(labbench=VERSION), [(0.0, event) for event in events]) as writer:
        if closed:
            writer.write(1.0, jsonl._event.decode(b'{"event":"closed"}'))
    kept = Store(folders.checkpoints())
    for key in keys_of(read(path)[1]).values():
        kept.put(key, "{}", [(("shared",), b"s" * 500), ((key,), key.encode() * 9)])
    return path


def left_by(process: int) -> str:
    """What a file is called that a process on this machine has not finished."""
    return f".x.{writing._here()}-{process}-01234567.part"


# sessions --check


def test_where_all_is_well_that_is_said(run: Run) -> None:
    assert run("sessions", "--check")[:2] == (
        SAME,
        [
            "0 sessions in ~/data/labbench/sessions",
            "0 checkpoints, 0 objects of 0 bytes, 0 runs under way, in ~/cache/labbench/checkpoints",
            "all is well",
        ],
    )
    assert not folders.checkpoints().exists(), "looking makes no folder"
    session("a.jsonl")
    code, out, err = run("sessions", "--check")
    assert (code, err) == (SAME, "")
    assert out[0] == "1 session in ~/data/labbench/sessions: 1 closed"
    assert out[1].startswith("2 checkpoints, 3 objects of ") and out[-1] == "all is well"


def test_what_was_cut_off_or_is_open_elsewhere_is_said_and_is_well(run: Run) -> None:
    session("cut.jsonl", closed=False)
    with Writer(session("held.jsonl", closed=False), None):
        code, out, _ = run("sessions", "--check")
    assert code == SAME
    assert out[0].endswith(": 1 cut off, 1 open")
    assert "  cut.jsonl: not closed in order; labbench cut goes on there" in out
    assert "  held.jsonl: open in another labbench" in out


@pytest.fixture
def damaged() -> dict[str, Path]:
    """What can be wrong, and where."""
    path = session("a.jsonl")
    kept = Store(folders.checkpoints())
    first, second = keys_of(read(path)[1]).values()
    entry = kept.get(second)
    assert entry
    found = {
        "broken": folders.sessions() / "broken.jsonl",
        "pipe": folders.sessions() / "pipe.jsonl",
        "part": folders.sessions() / left_by(GONE),
        "entry": kept.path(first),
        "object": kept.object_path(entry.pieces[1].object),
        "state without it": kept.path(second),
        "nobody's": kept.object_path("0" * 64),
        "run": kept.folder / "runs" / "abc.run",
        "epoch": kept.folder / "runs" / "abc.epoch",
        "part of an object": kept.folder / "objects" / "00" / left_by(GONE),
        "stranger": kept.folder / "states" / "notes.txt",
    }
    for path in found.values():
        path.parent.mkdir(exist_ok=True)
    os.mkfifo(found["pipe"])
    found["broken"].write_text('{"labbench":2}\n[1, 2]\n')
    for name in ("part", "entry", "object", "run", "epoch", "part of an object", "stranger"):
        found[name].write_bytes(b"half")
    found["nobody's"].write_bytes(b"")
    for path in kept.folder.glob("objects/*/*"):
        os.utime(path, (path.stat().st_mtime - GRACE - 9,) * 2)
    return found


def test_whatever_is_wrong_is_named_with_what_to_do_and_nothing_is_touched(run: Run, damaged: dict[str, Path]) -> None:
    before = {path: path.lstat().st_mtime for path in damaged.values()}
    code, out, _ = run("sessions", "--check")
    assert code == DIFFERS
    said = "\n".join(out)
    for path in damaged.values():
        assert path.name in said
    assert "  ! broken.jsonl: line 2: " in said
    assert "  ! pipe.jsonl: a pipe or a device, no regular file" in out
    assert said.count("it stays as it is: only you can tell") == 2
    assert f"  ! objects/{damaged['object'].parent.name}/{damaged['object'].name}: its bytes are not" in said
    assert f"{damaged['state without it'].name}: 1 of its 2 objects are missing or broken; --repair" in said
    assert "  ! states/notes.txt: no file of labbench; it is left alone" in out
    assert out[-1] == "everything else is well"
    assert {path: path.lstat().st_mtime for path in damaged.values()} == before


def test_repairing_removes_what_is_broken_among_checkpoints_and_never_a_session(
    run: Run, damaged: dict[str, Path]
) -> None:
    assert run("sessions", "--check", "--repair")[0] == DIFFERS, "the sessions are still broken"
    stay = {"broken", "pipe", "stranger"}
    assert {name for name, path in damaged.items() if path.exists()} == stay
    for name in ("broken", "pipe"):
        damaged[name].unlink()
    code, out, _ = run("sessions", "--check")
    assert (code, out[0]) == (SAME, "1 session in ~/data/labbench/sessions: 1 closed")
    session("b.jsonl")
    assert run("sessions", "--check")[0] == SAME


def test_the_same_for_programs(run: Run, damaged: dict[str, Path]) -> None:
    code, out, _ = run("sessions", "--check", "--json")
    found = json.loads("\n".join(out))
    assert (code, found["well"], found["repaired"]) == (DIFFERS, False, False)
    assert {one["file"]: one["state"] for one in found["sessions"]} == {
        "a.jsonl": "closed",
        "broken.jsonl": "broken",
        "pipe.jsonl": "broken",
    }
    assert found["leftovers"] == [damaged["part"].name]
    faults = {Path(one["path"]).name for one in found["checkpoints"]["faults"]}
    assert {damaged[name].name for name in damaged} - faults == {"broken.jsonl", "pipe.jsonl"}
    for name in ("broken", "pipe"):
        damaged[name].unlink()
    code, out, _ = run("sessions", "--check", "--repair", "--json")
    found = json.loads("\n".join(out))
    assert (code, found["well"], found["repaired"]) == (SAME, True, True)


def test_what_another_labbench_is_writing_is_no_leftover(run: Run) -> None:
    session("a.jsonl")
    kept = Store(folders.checkpoints())
    mine = [folders.sessions() / left_by(os.getpid()), kept.folder / "states" / left_by(os.getpid())]
    for path in mine:
        path.write_bytes(b"half")
    fresh = kept.object_path("0" * 64)
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_bytes(b"its state is on its way")
    named = kept.object_path(kept.digest(fresh))
    named.parent.mkdir(exist_ok=True)
    fresh.rename(named)
    assert run("sessions", "--check")[0] == SAME


# Leftovers


def test_what_killed_processes_left_goes_at_the_next_start(tmp_path: Path) -> None:
    session("a.jsonl")
    store, data = folders.checkpoints(), folders.data()
    places = [folders.sessions(), folders.settings().parent, store / "states", store / "runs", store / "objects" / "ab"]
    places += [data, data / "cached", data / "MNIST" / "raw"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / left_by(GONE)).write_bytes(b"half")
        (place / left_by(os.getpid())).write_bytes(b"half")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    _sweep(data)
    gone = before - {path for path in tmp_path.rglob("*") if path.is_file()}
    assert gone == {place / left_by(GONE) for place in places}


# Names


def test_a_session_is_found_by_the_name_that_is_listed(run: Run) -> None:
    session("2026-11-20-lesson.jsonl")
    name = run("sessions")[1][1]
    assert name == "2026-11-20-lesson.jsonl"
    for short in (name, "2026-11-20-lesson"):
        assert run("show", short)[0] == SAME
        assert run("show", short, "--recipe")[0] == SAME
        code, out, _ = run("compare", short, f"{short}@1")
        assert code == SAME and out[1].startswith("B  step 1")
        code, _, err = run("check", short)
        assert code == BAD and "no task in it" in err
        assert run("replay", short)[0] == SAME
        assert run("export", short, "--to", f"{short}.pth")[0] == SAME
        assert run("pack", short, "--to", f"{short}.zip")[0] == SAME
        for command in (("play", short), (short,)):
            code, _, err = run(*command)
            assert code == CANNOT and "needs a terminal" in err


def test_a_file_here_wins_and_a_path_is_a_path(run: Run) -> None:
    session("lesson.jsonl")
    Path("lesson.jsonl").write_text("nonsense\n")
    assert run("show", "lesson.jsonl")[0] == BAD
    assert run("show", "lesson")[0] == SAME
    assert run("show", "./lesson")[0] == BAD
    assert run("show", "nowhere/lesson.jsonl")[0] == BAD
    code, _, err = run("nothing")
    assert code == BAD and "no command or file nothing" in err


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system has no such names")
def test_names_that_are_no_utf_8_end_in_no_fault(run: Run) -> None:
    odd = os.fsdecode(b"\xff.jsonl")
    session(odd)
    code, out, _ = run("sessions", "--json")
    assert code == SAME and json.loads("\n".join(out))["sessions"][0]["file"] == "?.jsonl"
    for arguments in (("sessions",), ("sessions", "--check"), ("sessions", "--check", "--json"), ("show", odd)):
        assert run(*arguments)[0] == SAME
    assert run("pack", odd, "--to", os.fsdecode(b"\xfe.zip"))[0] == SAME
    assert run("unpack", os.fsdecode(b"\xfe.zip"))[0] == SAME
    assert run("compare", odd, odd, "--json")[0] == SAME
    assert run("check", odd, "--json")[0] == BAD
    code, out, _ = run("export", odd, "--to", os.fsdecode(b"\xff.pth"))
    assert code == SAME and "%FF.pth" in out[0]
    assert {os.fsencode(path) for path in Path().iterdir()} == {b"\xff.pth", b"\xfe.zip", "\ufffd.jsonl".encode()}


def test_a_session_that_would_take_long_to_read_is_listed_without_its_figures(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    session("a.jsonl")
    monkeypatch.setattr(keeping, "LARGE", 100)
    _, out, _ = run("sessions")
    assert out[1:3] == ["a.jsonl", "  ! too large to be read for this list; labbench show shows it"]


# A recipe again


STEPS = {
    "load": '[[step]]\nop="load"\nmodel="lenet-5"\ndataset="digits"\n',
    "tune": '[[step]]\nop="finetune"\nepochs=3\n',
    "evaluate": '[[step]]\nop="evaluate"\n',
    "no layer": '[[step]]\nop="prune"\nlayers=["nope"]\n',
    "prune": '[[step]]\nop="prune"\namount=0.5\n',
    "no model": '[[step]]\nop="load"\nmodel="net.py:build"\ndataset="digits"\n',
}


def recipe(*steps: str) -> Path:
    path = Path("lesson.toml")
    path.write_text('title = "A lesson"\n' + "".join(STEPS[step] for step in steps))
    return path


def kinds() -> list[type]:
    return [type(step.operation) for step in read(Path("out.jsonl"))[1].steps]


def test_a_run_that_was_refused_goes_on_when_its_recipe_was_mended(run: Run) -> None:
    code, _, err = run("run", recipe("load", "tune", "no layer", "evaluate"), "--out", "out.jsonl")
    assert code == DIFFERS and "step 3: no such layer" in err
    code, _, err = run("run", recipe("load", "tune", "no layer", "evaluate"), "--out", "out.jsonl")
    assert code == DIFFERS and "step 3: no such layer" in err
    code, out, err = run("run", recipe("load", "tune", "prune", "evaluate"), "--out", "out.jsonl")
    assert code == SAME and "steps 1 to 2 are restored" in err
    assert [line.split()[0] for line in out] == ["#", "3", "4"]
    assert kinds() == [Load, Finetune, Prune, Evaluate]
    assert run("replay", "out.jsonl", "--check")[0] == SAME


def test_a_run_that_was_refused_at_once_begins_again(run: Run) -> None:
    assert run("run", recipe("no layer"), "--out", "out.jsonl")[0] == DIFFERS
    assert kinds() == []
    assert run("run", recipe("load", "prune"), "--out", "out.jsonl")[0] == SAME
    assert kinds() == [Load, Prune]


def test_a_run_that_was_killed_goes_on_from_the_operation_that_was_under_way(run: Run) -> None:
    assert run("run", recipe("load", "tune", "evaluate"), "--out", "out.jsonl")[0] == SAME
    path = Path("out.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    begun = next(number for number, line in enumerate(lines) if b'"started","operation":{"op":"finetune"' in line)
    path.write_bytes(b"".join(lines[: begun + 2]) + b'[9.9,{"event":"met')
    assert isinstance(read(path)[1].running, Finetune)
    assert run("run", recipe("load", "tune", "evaluate"), "--out", "out.jsonl")[0] == SAME
    assert kinds() == [Load, Finetune, Evaluate]
    events = [event for _, event in read(path)[1].events]
    assert sum(isinstance(event, Started) for event in events) == 4
    assert path.read_bytes().startswith(b"".join(lines[: begun + 2])), "what was recorded stays"


def test_what_is_whole_or_something_else_is_not_touched(run: Run) -> None:
    assert run("run", recipe("load", "tune"), "--out", "out.jsonl")[0] == SAME
    before = Path("out.jsonl").read_bytes()
    code, _, err = run("run", recipe("load", "tune"), "--out", "out.jsonl")
    assert code == BAD and "already there and has all of it" in err
    code, _, err = run("run", recipe("load", "prune"), "--out", "out.jsonl")
    assert code == BAD and "is something else (its step 2 is finetune 3 epochs" in err
    with Writer(Path("out.jsonl"), None):
        code, _, err = run("run", recipe("load", "tune", "prune"), "--out", "out.jsonl")
    assert code == CANNOT and "open in another labbench" in err
    Path("other.jsonl").write_text("my notes\n")
    code, _, err = run("run", recipe("load"), "--out", "other.jsonl")
    assert code == BAD and "not a session file" in err
    assert Path("out.jsonl").read_bytes() == before
    assert Path("other.jsonl").read_text() == "my notes\n"


def test_a_note_in_the_recipe_counts_as_done_once(run: Run) -> None:
    Path("lesson.toml").write_text('title="t"\n[[step]]\nop="note"\ntext="one"\n' + STEPS["load"] + STEPS["no layer"])
    assert run("run", "lesson.toml", "--out", "out.jsonl")[0] == DIFFERS
    Path("lesson.toml").write_text('title="t"\n[[step]]\nop="note"\ntext="one"\n' + STEPS["load"])
    assert run("run", "lesson.toml", "--out", "out.jsonl")[0] == BAD
    assert kinds() == [Note, Load]
