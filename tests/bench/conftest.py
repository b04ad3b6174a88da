"""A bench on a part of the embedded digits. States are shared between tests: nothing may change them."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_examples import Opened, Small, picture, state_of

from labbench.bench.apply import apply
from labbench.bench.data.dataset import Reading
from labbench.bench.datasets import DATASETS
from labbench.bench.models.resnet import ResNet
from labbench.bench.states.state import Data, State
from labbench.bench.tools import Tools
from labbench.session.operations import Load, Value

IMAGES = {"train": 200, "validation": 90, "test": 110}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on one thread: others work on the same cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data() -> Callable[[str, int], Data]:
    """The digits, few of them, at least so many pixels high and wide."""
    images = DATASETS["digits"].read(Reading(Path("/nowhere")))
    few = {}
    for name, (x, y) in images.splits.items():
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: IMAGES[name]]
        few[name] = x[order], y[order]
    return functools.cache(lambda name, side: Data(name, replace(images, splits=few), DATASETS[name].flip, side))


@pytest.fixture(scope="session")
def tools(data: Callable[[str, int], Data]) -> Tools:
    return Tools(lambda name, options, side: data(name, side))


@pytest.fixture(scope="session")
def opened(tools: Tools) -> Iterator[Opened]:
    """A model of the catalogue on the digits, as it was opened."""
    states: list[tuple[State, object]] = []

    @functools.cache
    def load(model: str, shortcut: str = "", **options: Value) -> State:
        options |= {"shortcut": shortcut} if shortcut else {}
        state = apply(Load(model=model, dataset="digits", options=options, device="cpu"), None, tools).state
        states.append((state, picture(state)))
        return state

    yield load
    assert all(picture(state) == before for state, before in states)


@pytest.fixture(scope="session")
def small(data: Callable[[str, int], Data]) -> Iterator[Small]:
    """A residual network of two blocks (8 and 16 filters) on 8×8 digits: milliseconds a step."""
    states: list[tuple[State, object]] = []

    @functools.cache
    def build(shortcut: str = "B", seed: int = 0) -> State:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ResNet(1, 10, widths=(8, 16), blocks=(1, 1), shortcut=shortcut)  # type: ignore[arg-type]
        state = state_of(model, data("digits", 8))
        states.append((state, picture(state)))
        return state

    yield build
    assert all(picture(state) == before for state, before in states)
