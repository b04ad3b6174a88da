"""Whatever its streams, folders and names are, a command does its work or says in a sentence why not."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import fake_worker
import pytest

from labbench import cli, folders
from labbench.session.jsonl import read
from labbench.session.store import Store

ROOT = Path(__file__).parents[1]
LESSON = ROOT / "sessions" / "lesson-1-zeros-are-not-faster.jsonl"
PROGRAM = f"""
import sys
from labbench import cli, client, headless
client.worker_command = lambda *_: [sys.executable, {fake_worker.__file__!r}]
client.LOOK, client.SILENT, client.TERM_AFTER, client.KILL_AFTER = 0.05, 0.3, 0.2, 0.4
sys.exit(cli.main())
"""
RECIPE = """
title = "größer × kleiner"
[[step]]
op = "load"
model = "lenet-5"
dataset = "digits"
[[step]]
op = "finetune"
epochs = 3
[[step]]
op = "prune"
amount = 0.5
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a labbench with a made-up worker, in a folder with a recipe."""
    monkeypatch.chdir(tmp_path)
    return program_in(tmp_path)


def program_in(folder: Path) -> list[str]:
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "lesson.toml").write_text(RECIPE, encoding="utf-8")
    return [sys.executable, str(folder / "program.py")]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("recorded")
    command = [*program_in(folder), "run", str(folder / "lesson.toml"), "--out", str(folder / "lesson.jsonl")]
    homes = {f"XDG_{name}_HOME": str(folder) for name in ("DATA", "CACHE", "CONFIG", "STATE")}
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **homes})
    return (folder / "lesson.jsonl").read_bytes()


@pytest.fixture
def session(program: list[str], recorded: bytes, tmp_path: Path) -> Path:
    """What the recipe came to, as lesson.jsonl."""
    path = tmp_path / "lesson.jsonl"
    path.write_bytes(recorded)
    return path


def called(
    program: list[str], *arguments: object, shell: str = '"$@"', **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run labbench through a line of bash, in which "$@" is the command."""
    words = [word if isinstance(word, bytes) else str(word) for word in arguments]
    return subprocess.run(
        ["bash", "-c", shell, "bash", *program, *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env={**os.environ, **environment},
    )


UNREAD = """exec 3> >(exec true); wait $!; "$@" {}>&3"""
COMMANDS = [
    ("run", "lesson.toml"),
    ("replay", "lesson.jsonl", "--check"),
    ("show", "lesson.jsonl"),
    ("compare", "lesson.jsonl@1", "lesson.jsonl"),
    ("list", "models"),
    ("--help",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_is_gone_is_never_exit_code_0(
    program: list[str], session: Path, command: tuple[str, ...]
) -> None:
    done = called(program, *command, shell=UNREAD.format(1))
    assert done.returncode == 141
    assert done.stderr == b""


def test_what_was_done_before_the_reader_went_is_in_the_file(program: list[str]) -> None:
    done = called(program, "run", "lesson.toml", "--out", "s.jsonl", shell='"$@" | head -1; exit ${PIPESTATUS[0]}')
    assert done.stdout.count(b"\n") == 1
    steps = len(read(Path("s.jsonl"))[1].steps)
    assert done.returncode == (0 if steps == 3 else 141)


def test_a_full_disk_under_the_output_is_a_sentence(program: list[str], session: Path) -> None:
    done = called(program, "show", session, shell='"$@" > /dev/full')
    assert (done.returncode, done.stderr) == (3, b"labbench: No space left on device\n")


@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[2], COMMANDS[-1]], ids=" ".join)
def test_a_closed_stdout_is_no_bug(program: list[str], session: Path, command: tuple[str, ...]) -> None:
    done = called(program, *command, shell='"$@" >&-')
    assert (done.returncode, done.stderr) == (0, b"")


def test_narration_never_gets_into_data_where_stderr_is_closed(program: list[str]) -> None:
    done = called(program, "run", "lesson.toml", "--out", "s.jsonl", "--device", "nowhere", shell='"$@" 2>&-')
    assert (done.returncode, done.stdout) == (3, b"")
    done = called(program, "run", "lesson.toml", "--out", "s.jsonl", shell='"$@" 2>&- >&-')
    assert done.returncode == 0
    assert len(read(Path("s.jsonl"))[1].steps) == 3
    assert called(program, "show", "nothing.jsonl", shell='"$@" 2>&-').stdout == b""


def test_a_closed_stdin_is_no_terminal(program: list[str]) -> None:
    done = called(program, shell='"$@" <&-')
    assert done.returncode == 3 and b"needs a terminal" in done.stderr


def test_narration_that_nobody_reads_holds_nothing_up(program: list[str]) -> None:
    done = called(program, "run", "lesson.toml", "--out", "s.jsonl", shell=UNREAD.format(2))
    assert done.returncode == 0


@pytest.mark.parametrize(
    "encoding",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["latin-1", "cp1252", "ascii"],
)
def test_an_encoding_that_lacks_a_sign_costs_the_sign_only(
    program: list[str], session: Path, encoding: dict[str, str]
) -> None:
    done = called(program, "compare", "lesson.jsonl@1", "lesson.jsonl", **encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") > 10
    assert called(program, "run", "lesson.toml", **encoding).stdout.count(b"\n") == 4
    recipe = called(program, "show", session, "--recipe", **encoding).stdout.decode()
    assert tomllib.loads(recipe)["title"] == "größer × kleiner"


def test_names_that_are_not_utf_8_are_used_or_refused_in_a_sentence(program: list[str], session: Path) -> None:
    odd = b"\xff.jsonl"
    Path(os.fsdecode(odd)).write_bytes(session.read_bytes())
    for command in (("show", odd, "--json"), ("replay", odd, "--check"), ("sessions", ".", "--json")):
        done = called(program, *command)
        assert (done.returncode, done.stderr) == (0, b""), command
    assert called(program, "run", "lesson.toml", "--out", b"\xfe.jsonl").returncode == 0
    assert len(read(Path(os.fsdecode(b"\xfe.jsonl")))[1].steps) == 3
    for command in (
        ("show", b"\xfd.jsonl"),
        ("check", odd, "--json"),
        ("--model", b"\xff.py:build"),
        ("list", b"\xff"),
        (b"\xff",),
    ):
        done = called(program, *command)
        assert done.returncode == 2, command
        assert done.stderr.startswith(b"labbench") and done.stderr.count(b"\n") == 1, command


def test_python_m_takes_nothing_from_the_folder_where_it_is_started(tmp_path: Path) -> None:
    for name in ("msgspec", "platformdirs", "typing", "argparse", "traceback", "difflib", "textual"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(66)")
    for command in (["list", "methods"], ["show", str(LESSON)]):
        done = subprocess.run([sys.executable, "-m", "labbench", *command], cwd=tmp_path, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


def test_python_m_finds_the_package_of_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "labbench").symlink_to(ROOT / "labbench")
    done = subprocess.run([sys.executable, "-m", "labbench", "list", "methods"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


NOWHERE = {"XDG_STATE_HOME": "/dev/null/state", "XDG_CACHE_HOME": "/dev/null/cache", "XDG_DATA_HOME": "/dev/null/data"}


def test_without_log_and_cache_everything_is_done_and_that_is_said_once(program: list[str], session: Path) -> None:
    words = b"no log and no checkpoints: /dev/null/state/labbench/log: Not a directory; /dev/null/cache/labbench"
    for command in (("run", "lesson.toml"), ("replay", session, "--check"), ("export", session, "--to", "m.pth")):
        done = called(program, *command, **NOWHERE)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(b"\n") == 1 and words in done.stderr
    for command in (("show", session), ("list", "models"), ("sessions",), ("pack", session)):
        done = called(program, *command, **NOWHERE)
        assert (done.returncode, done.stderr) == (0, b"")


def test_an_archive_is_unpacked_without_its_checkpoints_where_none_can_be_kept(
    program: list[str], session: Path, tmp_path: Path
) -> None:
    assert called(program, "pack", session).returncode == 0
    (tmp_path / "there").mkdir()
    done = called(program, "unpack", "lesson.labbench.zip", "--to", "there", **NOWHERE)
    assert done.returncode == 0
    assert b"without its checkpoints, which cannot be kept here (/dev/null/cache" in done.stderr
    assert (tmp_path / "there" / "lesson.jsonl").read_bytes() == session.read_bytes()


def test_a_store_that_cannot_be_written_says_why_and_stands_still(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = Store(tmp_path / "file" / "checkpoints")
    assert kept.unusable() == f"{kept.folder}: Not a directory"
    with kept.steady() as locked:
        assert not locked
    assert Store(tmp_path / "checkpoints").unusable() == ""


def test_a_bug_where_no_log_can_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(arguments: list[str]) -> int:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(cli, "_dispatch", broken)
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/state")
    assert cli.main(["show"]) == 70
    said = capsys.readouterr().err
    assert said.startswith("labbench: this is a bug in labbench; ZeroDivisionError: a fault (test_streams.py, line ")
    assert said.endswith("the log cannot be written: Not a directory)\n")


def test_who_has_no_home_gets_folders_that_nobody_else_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # no such user
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders._homeless.cache_clear()
    made = folders.sessions()
    assert made.is_relative_to(tmp_path) and folders.log().is_relative_to(made.parents[1])
    assert made.parents[1].name != f"labbench-{2**31 - 7}", "that one is, here, another's"
    assert made.parents[1].stat().st_mode & 0o777 == 0o700
    assert folders.trouble() == f"no home folder: what would lie there is in {made.parents[1]}"
    folders._homeless.cache_clear()


def started(program: list[str], *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(process: subprocess.Popen[bytes], file: Path, words: str) -> None:
    while not file.exists() or words not in file.read_text(encoding="utf-8"):
        assert process.poll() is None
        time.sleep(0.02)


def test_a_signal_stops_a_command_as_ctrl_c_does_and_is_its_exit_code(program: list[str]) -> None:
    Path("long.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 3\nseed = 13"), encoding="utf-8")
    for number, out, command, words in (
        (signal.SIGTERM, "s.jsonl", ("run", "long.toml"), "s.jsonl has what was done, and the same command goes on"),
        (signal.SIGHUP, "again.jsonl", ("replay", "s.jsonl"), "go on with: labbench again.jsonl"),
    ):
        process = started(program, *command, "--out", out)
        until(process, Path(out), '"train"')
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        assert said.decode() == f"labbench: stopped; {words}\n"
        session = read(Path(out))[1]
        assert len(session.steps) == 2 and session.interrupted is None
        assert Path(out).read_bytes().endswith(b'"event":"closed"}]\n')


def test_a_signal_that_is_ignored_stays_ignored(program: list[str]) -> None:
    Path("long.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 3\nseed = 13"), encoding="utf-8")
    process = started(["nohup", *program], "run", "long.toml", "--out", "s.jsonl")
    until(process, Path("s.jsonl"), '"train"')
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)], ids=["ctrl+c", "SIGTERM"])
def test_a_worker_that_hangs_is_said_and_ctrl_c_twice_or_one_signal_ends_it(
    program: list[str], numbers: tuple[signal.Signals, ...]
) -> None:
    Path(program[1]).write_text(PROGRAM.replace("sys.exit", "headless.GRACE = 0.3\nsys.exit"), encoding="utf-8")
    Path("long.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 3\nseed = 14"), encoding="utf-8")
    process = started(program, "run", "long.toml", "--out", "s.jsonl")
    assert process.stderr
    said = process.stderr.readline().decode()
    assert said.startswith("labbench: the worker does not answer: nothing was heard of it for ")
    assert said.endswith("ctrl+c twice ends it\n")
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 128 + numbers[0]
    assert rest.decode() == "labbench: stopped; s.jsonl has what was done, and the same command goes on\n"
    session = read(Path("s.jsonl"))[1]
    assert session.interrupted and len(session.steps) == 1
    assert not Path("s.jsonl").read_bytes().endswith(b'"event":"closed"}]\n'), "the next start offers to go on"
