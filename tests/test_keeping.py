"""Listing, pruning, packing and unpacking from the command line: what is printed, what is refused, what stays."""

import fcntl
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from labbench import cli, folders, keeping
from labbench.exits import BAD, CANNOT, SAME
from labbench.session import jsonl, store
from labbench.session.jsonl import Header, Writer
from labbench.session.keys import keys_of
from labbench.session.operations import Load, Prune
from labbench.session.store import Store

from session_examples import finished, snapshot  # isort: skip

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line: exit code, lines of stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> tuple[int, list[str], str]:
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return command


def session(path: Path, title: str = "", model: str = "lenet-5", points: int = 2, checkpoints: bool = True) -> Path:
    """A session file, and a checkpoint of 10 kB for each of its points."""
    operations = [Load(model=model, dataset="digits"), *(Prune(amount=n / 100) for n in range(1, points))]
    with Writer(path, Header(labbench=1, title=title, created="2026-11-20T12:00:00")) as writer:
        for number, operation in enumerate(operations):
            for event in finished(operation, snapshot(fingerprint=f"{path.stem}{number}", validation=0.978)):
                writer.write(0.0, event)
    kept = Store(folders.checkpoints())
    for key in keys_of(jsonl.read(path)[1]).values() if checkpoints else ():
        kept.put(key, "{}", [((key,), key.encode() * (10_000 // len(key)))])
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three sessions in labbench's own folder: two with checkpoints, the newest without."""
    own = folders.sessions()
    made = [
        session(own / "2026-11-20-120000-lenet-5-digits.jsonl", title="2026-11-20-120000-lenet-5-digits"),
        session(own / "lesson.jsonl", title="Zeros [@click=app.quit]do not\nmake it faster\x1b[31m", points=3),
        session(own / "long.jsonl", model="somebodys/file_of_a_model.py:build_the_model", checkpoints=False),
    ]
    for number, path in enumerate(made):
        os.utime(path, (number, number))
    return made


def test_every_session_is_listed_with_what_it_did_and_what_it_takes(run: Run, three: list[Path]) -> None:
    code, out, err = run("sessions")
    assert (code, err) == (SAME, "")
    assert [line for line in out if ".jsonl" in line] == [
        "long.jsonl",
        "lesson.jsonl  Zeros [@click=app.quit]do not make it faster�[31m",
        "2026-11-20-120000-lenet-5-digits.jsonl",
    ]
    first, second, third = (line.split() for line in out if line.startswith("  2026"))
    size = keeping.in_words(three[1].stat().st_size).split()
    assert second == ["2026-11-20", "lenet-5", "on", "digits", "3", "97.8", "%", "×1.00", *size, "30", "kB"]
    assert third[4] == "2" and third[-2:] == ["20", "kB"]
    assert first[-1] == "–" and first[1] == "file_of_a_model.py:build_the_model"
    total = keeping.in_words(sum(path.stat().st_size for path in three))
    assert f"3 sessions, {total}, in ~/data/labbench/sessions" in out
    assert out[-2:] == [
        f"checkpoints: {keeping.in_words(Store(folders.checkpoints()).size())} in ~/cache/labbench/checkpoints",
        "  at most 4.3 GB are kept: those used longest ago go first",
    ]


def test_what_belongs_to_other_sessions_is_said(run: Run, three: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    session(other / "mine.jsonl")
    _, out, _ = run("sessions", other)
    assert "  50 kB belong to none of these sessions" in out
    _, out, _ = run("sessions")
    assert "  20 kB belong to none of these sessions" in out


def test_a_broken_file_is_listed_with_its_reason(run: Run, three: list[Path]) -> None:
    three[1].write_text(three[1].read_text() + "[1, 2]\n")
    three[2].write_text(three[2].read_text() + "[1, 2")
    (three[0].parent / "empty.jsonl").touch()
    (three[0].parent / "folder.jsonl").mkdir()
    (three[0].parent / "gone.jsonl").symlink_to("nowhere")
    code, out, _ = run("sessions")
    assert code == SAME
    said = {line: out[number + 1] for number, line in enumerate(out) if ".jsonl" in line and not line.startswith("  ")}
    assert said["lesson.jsonl"].startswith("  ! line 8: ")
    assert said["empty.jsonl"].startswith("  ! not a session file: it has no first line")
    assert said["folder.jsonl"] == "  ! Is a directory"
    assert said["gone.jsonl"] == "  ! No such file or directory"
    assert "  ! long.jsonl: the last line was cut off and is left out" in out


def test_a_folder_without_sessions_says_so(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("sessions")
    assert code == SAME
    assert out[:2] == [
        "no session files in ~/data/labbench/sessions",
        "checkpoints: 0 bytes in ~/cache/labbench/checkpoints",
    ]
    assert not folders.checkpoints().exists(), "looking makes no folder"
    assert run("sessions", tmp_path / "nowhere")[0] == BAD
    (tmp_path / "file").touch()
    assert "is no folder" in run("sessions", tmp_path / "file")[2]


def test_a_list_for_programs(run: Run, three: list[Path]) -> None:
    code, out, _ = run("sessions", "--json")
    found = json.loads("\n".join(out))
    assert code == SAME
    assert [one["file"] for one in found["sessions"]] == [path.name for path in reversed(three)]
    assert [one["checkpoints"] // 1000 for one in found["sessions"]] == [0, 29, 19]
    assert found["sessions"][1]["title"].endswith("\x1b[31m")
    assert found["sessions"][1] | {"title": "", "size": 0, "checkpoints": 0} == {
        "file": "lesson.jsonl",
        "size": 0,
        "problem": "",
        "title": "",
        "created": "2026-11-20T12:00:00",
        "model": "lenet-5",
        "dataset": "digits",
        "operations": 3,
        "accuracy": 0.978,
        "ratio": 1.0,
        "checkpoints": 0,
    }
    assert found["checkpoints"]["limit"] == store.LIMIT
    assert found["checkpoints"]["size"] == Store(folders.checkpoints()).size()


def test_a_terminal_of_80_columns_holds_every_line(
    run: Run, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    session(three[0].parent / "a.jsonl", title="A long title " * 9)
    _, out, _ = run("sessions")
    assert max(map(len, out)) <= 80
    assert any(re.match(r"  2026-11-20  file_of_a_model\.py:\w*…  +2    97\.8 %  ×1\.00  ", line) for line in out)


# Prune


def test_prune_drops_all_that_can_be_computed_again(run: Run, three: list[Path]) -> None:
    kept = Store(folders.checkpoints())
    kept.put("elsewhere", "{}", [(("x",), b"x" * 10_000)], here=False)
    assert run("sessions")[1][-1].startswith("  10 kB were unpacked")
    code, out, err = run("sessions", "--prune")
    assert code == SAME
    assert [entry.key for entry in kept.entries()] == ["elsewhere"]
    assert re.fullmatch(r"freed 5\d kB: 5 checkpoints; 10 kB left", out[0])
    assert "--prune 0 drops it, too" in err
    assert run("sessions", "--prune", "0")[1] == ["freed 10 kB: 1 checkpoint; 0 bytes left"]
    assert kept.size() == 0
    assert run("show", three[1])[0] == SAME, "sessions stay"


def test_prune_to_a_size_drops_the_oldest(run: Run, three: list[Path]) -> None:
    kept = Store(folders.checkpoints())
    for number, entry in enumerate(kept.entries()):
        os.utime(kept.path(entry.key), (number, number))
    newest = [entry.key for entry in kept.entries()][-2:]
    assert re.fullmatch(r"freed 3\d kB: 3 checkpoints; 2\d kB left", run("sessions", "--prune", "25kB")[1][0])
    assert [entry.key for entry in kept.entries()] == newest
    assert run("sessions", "--prune", "1GB")[1][0].startswith("freed 0 bytes: 0 checkpoints; ")


def test_prune_without_checkpoints_and_with_no_size(run: Run) -> None:
    assert run("sessions", "--prune")[1] == ["freed 0 bytes; there are no checkpoints"]
    for size in ("much", "-1", "1 parsec", "nan", "1e99"):
        code, _, err = run("sessions", f"--prune={size}")
        assert (code, "such as 500MB or 2GB" in err) == (BAD, True)


def test_prune_waits_for_nobody_forever(run: Run, three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store.shrink, "__kwdefaults__", {"others": True, "wait": 0.05})
    with (folders.checkpoints() / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        code, _, err = run("sessions", "--prune")
    assert (code, err) == (CANNOT, "labbench: another labbench is writing checkpoints; try again when it is done\n")
    assert len(Store(folders.checkpoints()).entries()) == 5


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("2GB", 2 * 10**9), ("1.5 GiB", 1.5 * 2**30), ("300k", 300_000), ("7 bytes", 7), ("1_000", 1000)],
)
def test_sizes_are_read_as_they_are_written(text: str, size: int) -> None:
    assert keeping.bytes_of(text) == size


@pytest.mark.parametrize(
    ("size", "words"),
    [
        *((0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9950, "10 kB")),
        *((999_499, "999 kB"), (999_500, "1.0 MB"), (4 * 2**30, "4.3 GB"), (10**15, "1000 TB")),
    ],
)
def test_sizes_are_written_in_few_characters(size: int, words: str) -> None:
    assert keeping.in_words(size) == words


# Pack and unpack


def test_a_session_is_packed_and_unpacked(run: Run, three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    archive = three[1].with_name("lesson.labbench.zip")
    code, out, _ = run("pack", three[1])
    assert code == SAME
    assert out == [
        f"{archive}  {archive.stat().st_size:,} bytes",
        "     · the checkpoints of 3 of 3 points, 30 kB",
        "     · there: labbench unpack lesson.labbench.zip",
    ]
    monkeypatch.setenv("XDG_CACHE_HOME", str(three[0].parent / "other machine"))
    code, out, _ = run("unpack", archive)
    assert code == SAME
    assert out[0].startswith("lesson.jsonl  ")
    assert re.fullmatch(r"     · the checkpoints of 3 of 3 points, 30 kB; 3\d kB of them were not here yet", out[1])
    assert out[2] == "     · go on with: labbench lesson.jsonl"
    assert Path("lesson.jsonl").read_bytes() == three[1].read_bytes()
    assert len(Store(folders.checkpoints()).entries()) == 3
    assert run("unpack", archive)[1][1].endswith("all of them were here already")


def test_missing_checkpoints_are_named(run: Run, three: list[Path], tmp_path: Path) -> None:
    Store(folders.checkpoints()).drop(keys_of(jsonl.read(three[1])[1])[2])
    _, out, _ = run("pack", three[1], "--to", tmp_path / "a.zip")
    assert out[1] == "     · the checkpoints of 2 of 3 points, 20 kB; what step 2 made will be computed again"
    _, out, _ = run("unpack", tmp_path / "a.zip", "--to", tmp_path / "to")
    assert out[1].startswith(
        "     · the checkpoints of 2 of 3 points, 20 kB; what step 2 made will be computed again; "
    )
    _, out, _ = run("pack", three[2])
    assert out[1] == "     · the checkpoints of 0 of 2 points, 0 bytes; what steps 1, 2 made will be computed again"
    assert out[2] == "     · without the code of file_of_a_model.py:build_the_model: it must be there, too"


def test_nothing_is_replaced_without_force(run: Run, three: list[Path], tmp_path: Path) -> None:
    to = tmp_path / "a.zip"
    assert run("pack", three[1], "--to", to)[0] == SAME
    before = to.read_bytes()
    code, _, err = run("pack", three[0], "--to", to)
    assert (code, to.read_bytes()) == (BAD, before)
    assert "a.zip is there already; --force replaces it, --to names another" in err
    mine = tmp_path / "lesson.jsonl"
    mine.write_text("mine")
    code, out, err = run("unpack", to)
    assert (code, out, mine.read_text()) == (BAD, [], "mine")
    assert "lesson.jsonl is there already and is another; --force replaces it, --to names another folder" in err
    assert run("unpack", to, "--force")[0] == SAME
    assert mine.read_bytes() == three[1].read_bytes()
    assert run("pack", three[0], "--to", to, "--force")[0] == SAME
    assert to.read_bytes() != before


def test_what_cannot_be_packed_or_unpacked_is_refused_and_nothing_is_written(
    run: Run, three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("pack", three[1], "--to", tmp_path / "a.zip")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "broken.jsonl").write_text("hello\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other machine"))
    before = sorted(tmp_path.rglob("*"))
    for arguments, words in (
        (("unpack", "a.zip"), "a.zip is damaged, or no archive of labbench pack"),
        (("unpack", "broken.jsonl"), "broken.jsonl is no archive of labbench pack"),
        (("unpack", "nowhere.zip"), "no file nowhere.zip"),
        (("pack", "broken.jsonl"), "broken.jsonl, line 1: not a session file"),
        (("pack", "nowhere.jsonl"), "no file nowhere.jsonl"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (BAD, [])
        assert words in err and err.count("\n") == 1
    after = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert [path.name for path in after if path.is_file() and path.name != "lock"] == []
