"""A long run is recorded in little: its file grows with the logarithm of its length, and its end is what it was."""

import math
from pathlib import Path

import pytest
from session_examples import HERE, LOAD, finished, snapshot

from labbench.session.events import AnyEvent, Failed, Finished, Metric, Progress, Sparsity, Started
from labbench.session.jsonl import VERSION, Header, Writer, read
from labbench.session.operations import Finetune
from labbench.session.session import Session
from labbench.session.thinning import METRIC, PROGRESS, PROGRESS_INTERVAL, SPARSITY, Thinning

NAMES = ("train/loss", "validation/accuracy")
LAYERS = {
    f"layer{stage}.{block}.conv{conv}": 1_000_000 for stage in range(1, 6) for block in range(35) for conv in (1, 2)
}
EPOCH = 0.864  # seconds: 100,000 epochs in a day


def write_run(path: Path, epochs: int) -> Session:
    """A run that was never trained, as a bench would tell it; what the screen then knows of it."""
    live = Session()
    live.thinning = Thinning()
    with Writer(path, Header(labbench=VERSION, environment=HERE)) as writer:

        def take(seconds: float, event: AnyEvent) -> None:
            live.append(seconds, event)
            writer.write(seconds, event)

        for event in finished(LOAD):
            take(0.0, event)
        operation = Finetune(epochs=min(epochs, 100_000))
        take(1.0, Started(operation=operation))
        for epoch in range(1, epochs + 1):
            now, loss = 1.0 + EPOCH * epoch, 1 / epoch
            progress = Progress(phase="train", fraction=epoch / epochs, epoch=epoch, epochs=epochs, loss=loss, eta=1.0)
            take(now - EPOCH / 2, progress)
            take(now - EPOCH / 2, Metric(name="step/loss", x=epoch - 0.5, y=loss))
            take(now, Sparsity(epoch=epoch, nonzero=LAYERS, unique={"layer1.0.conv1": 64}))
            for name in NAMES:
                take(now, Metric(name=name, x=epoch, y=loss))
        take(now + 1, Finished(operation=operation, snapshot=snapshot(), seconds=now))
    return live


def kinds(session: Session) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, event in session.events:
        kind = event.name if isinstance(event, Metric) else type(event).__name__
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def test_a_hundred_thousand_epochs_stay_within_the_bound_and_their_end_is_exact(tmp_path: Path) -> None:
    path, epochs = tmp_path / "long.jsonl", 100_000
    live = write_run(path, epochs)
    _, session, _ = read(path)
    assert session.events == [(pytest.approx(seconds, abs=1e-3), event) for seconds, event in live.events]
    counts = kinds(session)
    for name in ("step/loss", *NAMES):
        assert METRIC < counts[name] <= METRIC + METRIC * math.log(epochs / METRIC) + 2
    assert SPARSITY < counts["Sparsity"] <= SPARSITY + SPARSITY * math.log(epochs / SPARSITY) + 2
    assert counts["Progress"] <= PROGRESS * (1 + math.log(epochs * EPOCH / (PROGRESS * PROGRESS_INTERVAL))) + 2
    assert path.stat().st_size < 8e6
    seconds = [seconds for seconds, _ in session.events]
    assert seconds == sorted(seconds)
    for name in NAMES:
        assert session.curves[name].points == live.curves[name].points
        assert session.curves[name].points[-1] == (epochs, 1 / epochs)
        assert session.curves[name].points[:METRIC] == [(x, 1 / x) for x in range(1, METRIC + 1)]
    assert session.snapshot == live.snapshot
    assert session.runs == live.runs == [0.0]


def test_a_short_run_is_recorded_whole(tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    write_run(path, SPARSITY)
    counts = kinds(read(path)[1])
    assert {counts[kind] for kind in ("Sparsity", "Progress", "step/loss", *NAMES)} == {SPARSITY}


def test_what_was_held_back_is_there_when_the_run_fails() -> None:
    thinning = Thinning()
    thinning.admit(0.0, Started(operation=Finetune()))
    for tenth in range(1, 9):
        thinning.admit(tenth / 10, Progress(phase="train", fraction=tenth / 10))
        thinning.admit(tenth / 10, Metric(name="train/loss", x=5000 + tenth, y=0.1))
    events = thinning.admit(0.95, Failed(error="the loss became nan", operation=Finetune()))
    assert [type(event) for _, event in events] == [Progress, Metric, Failed]
    assert events[1][1] == Metric(name="train/loss", x=5008, y=0.1)
    assert [seconds for seconds, _ in events] == [0.8, 0.8, 0.95]
