"""A session goes on where it was, on another machine, with its checkpoints: nothing is computed again, and what was
tampered with is not taken for it."""

import zipfile
from pathlib import Path

import msgspec
import pytest
from bench_examples import restore_of

from labbench.bench.measuring.accuracy import measured
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.timeline import Timeline
from labbench.bench.tools import Tools
from labbench.session import archive, jsonl
from labbench.session.events import Finished
from labbench.session.jsonl import Header, Writer
from labbench.session.keys import keys_of
from labbench.session.operations import AnyOperation, Cluster, Finetune, Jump, Load, Note, Prune, Undo
from labbench.session.store import Store

STEPS: tuple[AnyOperation, ...] = (
    Load(model="lenet-5", dataset="digits", device="cpu"),
    Finetune(epochs=1, batch_size=50, lr=0.02),
    Prune(amount=0.5),
    Undo(),
    Prune(method="group-magnitude", amount=0.3),
    Note(text="another way"),
    Cluster(layers=("fc1",), fraction=0.5),
    Finetune(epochs=2, batch_size=50, lr=0.02, steps=6, distill=0.5),
)


def measure(state: State) -> State:
    return measured(state, "validation", lambda _: None, lambda: False)


@pytest.fixture
def packed(tools: Tools, tmp_path: Path) -> tuple[Timeline, Path]:
    """A bench, and the archive of its session."""
    timeline = Timeline(Cache(tmp_path / "here", 10**9))
    with Writer(tmp_path / "lesson.jsonl", Header(labbench=jsonl.VERSION)) as writer:
        for operation in STEPS:
            made = timeline.do(operation, tools, measure)
            writer.write(0.0, Finished(operation=made.operation, snapshot=snapshot(made.state)))
    archive.pack(tmp_path / "lesson.jsonl", timeline.cache.store, tmp_path / "a.zip")
    return timeline, tmp_path / "a.zip"


def unpacked(path: Path, folder: Path, tools: Tools) -> Timeline:
    """A bench on another machine, where the session was left."""
    archive.unpack(archive.opened(path), Store(folder / "checkpoints"), folder / "lesson.jsonl")
    timeline = Timeline(Cache(folder / "checkpoints", 10**9))
    timeline.restore(jsonl.read(folder / "lesson.jsonl")[1].restore(), tools, measure)
    return timeline


def test_with_its_checkpoints_a_session_goes_on_and_nothing_is_computed_again(
    packed: tuple[Timeline, Path], tools: Tools, tmp_path: Path
) -> None:
    here, path = packed
    there = unpacked(path, tmp_path / "there", tools)
    assert here.state and there.state
    assert there.state.accuracy == here.state.accuracy
    for operation in (Jump(to="3"), Jump(to="7"), Undo(), Jump(to="1"), Jump(to="8"), Finetune(resume=True)):
        before, after = (timeline.do(operation, tools, measure).state for timeline in (here, there))
        assert fingerprint(before) == fingerprint(after)
    assert there.recomputed == 0
    assert restore_of(there) == restore_of(here)


def test_without_some_of_them_the_rest_is_computed_again(
    packed: tuple[Timeline, Path], tools: Tools, tmp_path: Path
) -> None:
    here, path = packed
    keys = keys_of(jsonl.read(tmp_path / "lesson.jsonl")[1])
    assert set(keys.values()) == {change.key for change in here.tree.items.values()}, "both sides use the same names"
    for number in (5, 7, 8):
        here.cache.store.drop(keys[number])
    archive.pack(tmp_path / "lesson.jsonl", here.cache.store, path)
    there = unpacked(path, tmp_path / "there", tools)
    assert here.state and there.state
    assert there.recomputed == 3
    assert fingerprint(there.state) == fingerprint(here.state)


def test_weights_that_are_not_those_of_the_session_are_not_taken_for_them(
    packed: tuple[Timeline, Path], tools: Tools, tmp_path: Path
) -> None:
    """Somebody packs the weights of one point as those of another."""
    here, path = packed
    last, other = (here.tree.items[number].key for number in (3, 2))
    entries = {key: here.cache.store.get(key) for key in (last, other)}
    forged = entries[other]
    assert forged and entries[last]
    here.cache.store.path(last).write_bytes(msgspec.json.encode(forged))
    archive.pack(tmp_path / "lesson.jsonl", here.cache.store, path)
    with zipfile.ZipFile(path) as found:
        assert found.read(f"states/{last}.json") == msgspec.json.encode(forged)
    there = unpacked(path, tmp_path / "there", tools)
    here.do(Jump(to="2"), tools, measure)
    expected = fingerprint(here.do(Prune(amount=0.5), tools, measure).state)
    assert fingerprint(there.do(Jump(to="3"), tools, measure).state) == expected
    assert there.recomputed == 1
