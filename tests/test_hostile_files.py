"""A file of somebody else in every command: what is printed acts on no terminal, and data says what the file does."""

import json
import tomllib

import pytest
from everything import everything
from hostile import PAYLOAD, SHORT, hostile, hostile_session, write

from labbench import cli
from labbench.commands import Printer
from labbench.exits import say
from labbench.printable import harmless
from labbench.session.events import Finished
from labbench.session.jsonl import BadFile, encode, read

NAME = f"e{SHORT}"
"""Of files: no slash, no NUL, and short."""


@pytest.fixture
def session(tmp_path):
    return write(tmp_path / f"{NAME}.jsonl", hostile(everything())[0])


@pytest.fixture
def printed(capfd):
    """Run a command; all it printed, of which nothing acts, and its exit code."""

    def run(*arguments):
        try:
            code = cli.main(list(map(str, arguments)))
        except SystemExit as end:
            code = end.code
        out, err = capfd.readouterr()
        assert [char for char in (out + err).replace("\n", "").replace("\t", "") if not harmless(char)] == []
        return out, err, code

    return run


@pytest.mark.parametrize("more", [(), ("--measures",)])
def test_show_prints_words(printed, session, more):
    out, _, code = printed("show", session, *more)
    assert code == 0 and "�" in out


def test_json_has_every_character_of_the_file_escaped(printed, session):
    out, _, _ = printed("show", session, "--json", "--measures")
    assert json.loads(out)["title"] == read(session)[0].title
    assert json.loads(out)["snapshot"]["rows"][0]["name"] == "conv1" + PAYLOAD
    assert "\\u009b" in out and "\\u202e" in out and "\\u007f" in out and "卷积" in out


def test_a_recipe_has_every_character_of_the_file_escaped(printed, session, tmp_path):
    out, _, _ = printed("show", session, "--recipe")
    assert tomllib.loads(out)["title"] == "a lesson" + PAYLOAD
    path = tmp_path / "r.toml"
    note = f"[[step]]\nop = 'note'\ntext = {json.dumps('a' + SHORT)}\n"
    path.write_text(out.partition("[[step]]")[0] + note, encoding="utf-8")
    assert "�" in printed("show", path)[0]
    assert tomllib.loads(printed("show", path, "--recipe")[0])["step"][0]["text"] == f"a{SHORT}"
    assert json.loads(printed("show", path, "--json")[0])["title"] == "a lesson" + PAYLOAD


def test_compare_prints_words(printed, session):
    assert printed("compare", f"{session}@1", f"{session}@5")[2] == 0
    assert json.loads(printed("compare", f"{session}@1", f"{session}@5", "--json")[0])["models"]


def test_check_prints_words(printed, session):
    printed("check", session, session.with_name(f"no{SHORT}"))
    out, _, _ = printed("check", session, "--json")
    assert json.loads(out)[0]["file"] == str(session)


def test_sessions_prints_words(printed, session):
    assert "�" in printed("sessions", session.parent)[0]
    assert json.loads(printed("sessions", session.parent, "--json")[0])["sessions"][0]["file"] == session.name


def test_pack_and_unpack_print_words(printed, session):
    _, err, code = printed("pack", session)
    assert code in (0, 2), err
    printed("unpack", session.with_name(f"{NAME}.labbench.zip"), "--to", session.parent / f"to{SHORT}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "FILE", "--check"),
        ("run", f"no{SHORT}.toml"),
        ("export", "FILE", "--to", NAME),
        ("show", NAME),
        ("play", NAME),
        (NAME,),
        (NAME, NAME),
        ("shaw", NAME),
        ("--model", NAME, "--option", NAME),
        ("show", "FILE", NAME),
        ("replay", "FILE", "--set", NAME),
        ("sessions", NAME),
        ("sessions", "--prune", NAME),
        ("list", NAME),
    ],
    ids=lambda arguments: " ".join(arguments).replace(SHORT, "…"),
)
def test_whatever_is_refused_is_refused_in_words(printed, session, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert printed(*(session if one == "FILE" else one for one in arguments))[2]


def test_each_line_of_a_broken_file_is_refused_in_words(printed, session):
    lines = session.read_bytes().splitlines(keepends=True)
    for number in range(0, len(lines), 10):
        broken = session.with_name(f"b{number}.jsonl")
        broken.write_bytes(b"".join(lines[:number]) + lines[number].replace(b'":', b'\x9b\\u001b":', 1))
        with pytest.raises(BadFile):
            read(broken)
        assert printed("show", broken)[2] == 2


def test_steps_are_printed_in_words_as_they_are_done(capfd):
    events = hostile(everything(end=False))[0]
    done = [event.operation for _, event in events if isinstance(event, Finished)]
    printer = Printer(done, None)
    for place, (_, event) in enumerate(events, 1):
        printer.see(hostile_session(events[:place]), event)
    out, err = capfd.readouterr()
    assert [char for char in (out + err).replace("\n", "") if not harmless(char)] == []


def test_a_written_line_says_the_same_to_a_program_and_nothing_to_a_terminal(session, tmp_path):
    header, found, _ = read(session)
    lines = [encode(header), *(encode(event) for event in found.events)]
    assert all(map(harmless, b"".join(lines).decode().replace("\n", "")))
    again = tmp_path / "again.jsonl"
    again.write_bytes(b"".join(lines))
    assert read(again)[0] == header
    assert read(again)[1].events == found.events


def test_narration_is_one_line(capfd):
    say(PAYLOAD)
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and all(map(harmless, err.rstrip("\n")))
