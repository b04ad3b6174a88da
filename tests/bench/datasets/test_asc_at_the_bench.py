"""A model on sounds, from the wav files to what pruning leaves of it: the bench takes spectrograms as they are."""

from pathlib import Path

import asc_folder
import pytest
import torch

from labbench.bench.apply import apply
from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.datasets.asc import SCENES
from labbench.bench.states.state import Data, State
from labbench.bench.tools import Tools
from labbench.bench.training.loop import batches, gathered
from labbench.bench.training.run import set_up
from labbench.session.operations import AnyOperation, Evaluate, Finetune, Load, Prune

MODEL = "cp-resnet"
FIRST, AGAIN = Finetune(epochs=6, lr=0.05, batch_size=10), Finetune(epochs=4, lr=0.05, batch_size=10)
FRONT_END, SHAPE = "128x100", (1, 128, 100)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = asc_folder.write(tmp_path_factory.mktemp("sounds") / "small")
    dataset = DATASETS["asc"]
    images = dataset.read(Reading(Path("/nowhere")), path=str(folder), front_end=FRONT_END)
    return Data("asc", images, dataset.flip, 28, dataset.vertical)


def do(data: Data, state: State | None, operation: AnyOperation) -> State:
    return apply(operation, state, Tools(lambda name, options, side: data)).state


@pytest.fixture(scope="module")
def opened(data: Data) -> State:
    return do(data, None, Load(model=MODEL, dataset="asc", device="cpu"))


def test_a_model_learns_scenes_is_pruned_by_35_percent_and_learns_again(data: Data, opened: State) -> None:
    assert data.shape == SHAPE and data.classes == SCENES
    trained = do(data, opened, FIRST)
    assert trained.accuracy["validation"].macro > 0.4, "chance is 0.1"
    pruned = do(data, trained, Prune(amount=0.35, method="group-magnitude"))
    channels = {layer.name: layer.channels for layer in opened.layers if layer.prunable}
    cut = {name: len(pruned.weight(name)) for name in channels if len(pruned.weight(name)) < channels[name]}
    assert cut
    assert all(count == pytest.approx(0.65 * channels[name], abs=1) for name, count in cut.items())
    again = do(data, pruned, AGAIN)
    measured = do(data, again, Evaluate(split="test")).accuracy["test"]
    assert measured.macro > 0.4
    assert measured.images == 20 and len(measured.confusion) == 10


def test_spectrograms_move_in_time_and_never_in_frequency(data: Data, opened: State) -> None:
    run = set_up(Finetune(batch_size=60, augment=True), opened)
    (pick,) = batches(run)
    x, y = gathered(run, pick)
    originals, labels = data.on(torch.device("cpu"))["train"]
    assert x.dtype == torch.float32 and x.shape[1:] == SHAPE
    order = torch.randperm(len(originals), generator=torch.Generator().manual_seed(run.operation.seed))
    assert torch.equal(y, labels[order])
    border = SHAPE[2] // 8
    moves = set()
    for image, original in zip(x, originals[order].float(), strict=True):
        padded = torch.nn.functional.pad(original, (border, border))
        fits = [move for move in range(2 * border + 1) if torch.equal(image, padded[:, :, move : move + SHAPE[2]])]
        assert fits
        moves.add(fits[0])
    assert len(moves) > border
