"""The session file: what is written is read; what is broken refused with its line; nothing is more than text."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from session_examples import EVENTS, HERE, LOAD, OPERATIONS, finished, snapshot

from labbench.session.catalogue import shipped
from labbench.session.events import AnyEvent, Exported, Finished, Previewed, Progress, Ready, Started
from labbench.session.jsonl import VERSION, BadFile, Header, Writer, decode_event, encode, read
from labbench.session.operations import PLAIN, Cluster, Finetune, Load, Note, Prune, Redo, Undo

HEADER = Header(labbench=VERSION, title="a lesson", created="2026-01-01T12:00:00+00:00", environment=HERE)

SPLINTERS = [b"9" * 40, b"\n", b'"', b"{", b"null", b"-", b"e999", b"\\ud800"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lesson.jsonl"


def write(file: Path, *events: AnyEvent) -> None:
    with Writer(file, HEADER) as writer:
        for number, event in enumerate(events):
            writer.write(float(number), event)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_the_pipe(event: AnyEvent) -> None:
    assert decode_event(encode(event)) == event


def test_what_is_written_is_read(file: Path) -> None:
    write(file, *EVENTS)
    header, session, notice = read(file)
    assert header == HEADER
    assert session.events == [(float(number), event) for number, event in enumerate(EVENTS)]
    assert notice == ""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_finetune_of_format_1_was_plain_where_it_does_not_say_more(file: Path, precision: Any) -> None:
    write(
        file,
        *finished(LOAD),
        *finished(Finetune(precision=precision, layout="channels_last", engine="fast")),
        *finished(Finetune()),
    )
    text = file.read_text(encoding="utf-8").replace(f'{{"labbench":{VERSION}', '{"labbench":1', 1)
    old = text.replace(',"layout":"channels_last","engine":"fast"', "").replace(',"layout":"auto","engine":"auto"', "")
    assert old.count('"layout"') == 0 < text.count('"layout"')
    file.write_text(old.replace('"precision":"auto",', ""), encoding="utf-8")
    _, session, _ = read(file)
    assert session.changes[1:] == (Finetune(**{**PLAIN, "precision": precision}), Finetune(**PLAIN))
    file.write_text(text, encoding="utf-8")
    assert read(file)[1].changes[1] == Finetune(precision=precision, layout="channels_last", engine="fast")
    file.write_text(old.replace('{"labbench":1', f'{{"labbench":{VERSION}', 1), encoding="utf-8")
    assert read(file)[1].changes[1] == Finetune(precision=precision)


def test_each_line_is_on_disk_as_soon_as_it_is_written(file: Path) -> None:
    writer = Writer(file, HEADER)
    for count, event in enumerate(EVENTS, 1):
        writer.write(float(count), event)
        assert len(read(file)[1].events) == count
    writer.close()


def test_an_existing_file_is_never_begun_again(file: Path) -> None:
    write(file)
    with pytest.raises(FileExistsError):
        Writer(file, HEADER)


def test_previews_exports_and_the_catalogue_are_not_recorded_and_progress_is_thinned(file: Path) -> None:
    with Writer(file, HEADER) as writer:
        writer.write(0.0, Ready(environment=HERE, catalogue=shipped()))
        writer.write(0.1, Previewed(operation=LOAD))
        writer.write(0.2, Exported(path="x", size=1))
        for tenth in range(20):
            writer.write(1.0 + tenth / 10, Progress(phase="train", fraction=tenth / 20))
    events = [event for _, event in read(file)[1].events]
    assert events[0] == Ready(environment=HERE)
    assert all(isinstance(event, Progress) for event in events[1:])
    assert 3 <= len(events) - 1 <= 5


def test_a_last_line_that_was_cut_off_is_left_out_with_a_notice_and_continued_cleanly(file: Path) -> None:
    write(file, *finished(LOAD), *finished(Prune()))
    file.write_bytes(file.read_bytes()[:-20])
    _, session, notice = read(file)
    assert session.changes == (LOAD,)
    assert "lesson.jsonl: the last line was cut off" in notice
    with Writer(file, None) as writer:
        writer.write(9.0, Finished(operation=Prune(), snapshot=snapshot()))
    _, session, notice = read(file)
    assert session.changes == (LOAD, Prune())
    assert notice == ""


def test_k_means_of_a_file_of_format_1_is_that_of_scikit_learn(file: Path) -> None:
    old = (Cluster(layers=("conv1",), k=3), Cluster(layers=("conv1",), k=2, method="cosine"), Prune(method="kmeans"))
    with Writer(file, msgspec.structs.replace(HEADER, labbench=1)) as writer:
        for operation in (LOAD, *old):
            for event in finished(operation):
                writer.write(0.0, event)
    before = file.read_bytes()
    session = read(file)[1]
    solvers = [step.operation.options for step in session.steps[1:]]
    assert solvers == [{"solver": "scikit-learn"}, {}, {"solver": "scikit-learn"}]
    with Writer(file, None) as writer:  # what is added to it means what it means today
        for event in finished(old[0]):
            writer.write(0.0, event)
    header, continued, _ = read(file)
    assert header == HEADER
    assert [step.operation for step in continued.steps] == [*(step.operation for step in session.steps), old[0]]
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert before.splitlines()[1] in file.read_bytes().splitlines()  # what means the same is not touched


def test_a_broken_line_in_the_middle_is_refused_with_its_number(file: Path) -> None:
    write(file, *finished(LOAD), *finished(Prune()))
    lines = file.read_bytes().splitlines(keepends=True)
    for number, line in ((3, b"[0.5,{\n"), (4, b"\n"), (2, b'[1,{"event":"exploded"}]\n'), (3, b"\xff\n")):
        file.write_bytes(b"".join([*lines[: number - 1], line, *lines[number:]]))
        with pytest.raises(BadFile, match=rf"lesson\.jsonl, line {number}: "):
            read(file)


@pytest.mark.parametrize("operation", [Undo(), Redo()])
def test_an_undo_or_redo_of_nothing_in_a_file_is_refused_with_its_line(file: Path, operation: Undo | Redo) -> None:
    write(file, *finished(LOAD), *finished(operation))
    with pytest.raises(BadFile, match="line 5: nothing to"):
        read(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a session file"),
        (b'{"labbench":1}', "not a session file"),  # cut off in its first line
        (b"\n", "line 1: not a session file"),
        (b'title = "a recipe"\n', "line 1: not a session file"),
        (b'{"labbench":99}\n', "line 1: format 99; this labbench reads format 2 and before"),
        (b'{"labbench":1,"colour":"red"}\n', "line 1: .*colour"),
        (b"[" * 200_000 + b"\n", "line 1"),
        (b'{"labbench":1}\n' + b"[" * 200_000 + b"\n", "line 2"),
    ],
)
def test_what_is_no_session_is_refused(file: Path, content: bytes, sentence: str) -> None:
    file.write_bytes(content)
    with pytest.raises(BadFile, match=sentence):
        read(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"nope\.jsonl: No such file"):
        read(tmp_path / "nope.jsonl")
    with pytest.raises(BadFile, match="directory"):
        read(tmp_path)


def test_bytes_changed_at_random_give_a_session_or_a_refusal_and_nothing_else(file: Path) -> None:
    write(file, *EVENTS[:6], *[event for operation in OPERATIONS[1:10] for event in finished(operation)])
    content = file.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(600):
        mutated = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(mutated))
            match chance.randrange(4):
                case 0:
                    mutated[place] = chance.randrange(256)
                case 1:
                    del mutated[place : place + chance.randint(1, 30)]
                case 2:
                    mutated[place:place] = chance.choice(
                        [b"9" * 40, b"\n", b'"', b"{", b"null", b"-", b"e999", b"\\ud800"]
                    )
                case _:
                    mutated[place] ^= 1 << chance.randrange(8)
        file.write_bytes(mutated)
        try:
            read(file)
        except BadFile as error:
            refused += 1
            assert str(file) in str(error)
    assert refused > 100


def test_markup_in_a_file_stays_text(file: Path) -> None:
    text = "[bold red]now[/] [@click=app.quit]here[/] \x1b]0;title\x07 {__import__('os')}"
    write(file, *finished(Load(model=text, dataset="digits")), *finished(Note(text=text)))
    _, session, _ = read(file)
    first, second = session.steps[0].operation, session.steps[1].operation
    assert isinstance(first, Load) and first.model == text
    assert isinstance(second, Note) and second.text == text


def test_started_operations_are_on_disk_before_they_end(file: Path) -> None:
    write(file, Started(operation=LOAD))
    assert read(file)[1].running == LOAD
