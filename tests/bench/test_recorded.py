"""A structured prune says which filters went, and one that says so cuts these, whatever its method now thinks."""

import functools

import msgspec
import pytest
import torch
from bench_examples import Small, do, doing, noise, removed_filters, shaken, state_of, untouched, with_weights
from test_filter_methods import BY_FILTER, Chain
from test_surgery import Grouped, foreign

from labbench.bench.errors import BenchError
from labbench.bench.methods import METHODS
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.session.operations import Prune


@pytest.fixture(scope="module")
def chain() -> State:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return shaken(state_of(Chain(), noise((1, 8, 8), classes=3, images=150)))


def contrary(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Make a method choose the other way round: last what it took first."""
    module = METHODS[method]
    if hasattr(module, "keep"):
        keep = module.keep

        @functools.wraps(keep)
        def others(filters: torch.Tensor, count: int, seed: int, **options: object) -> list[int]:
            kept = set(keep(filters, len(filters) - count, seed, **options))
            return [number for number in range(len(filters)) if number not in kept]

        monkeypatch.setattr(module, "keep", others)
    else:
        score = module.score

        @functools.wraps(score)
        def negative(group: object, generator: torch.Generator, **options: object) -> torch.Tensor:
            return -score(group, generator, **options)

        monkeypatch.setattr(module, "score", negative)


@pytest.mark.parametrize("method", BY_FILTER)
def test_what_went_is_recorded_and_goes_again_whatever_the_method_now_prefers(
    chain: State, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Prune(method=method, amount=0.5)
    first = doing(chain, asked)
    recorded = first.operation
    assert isinstance(recorded, Prune)
    gone = {name: tuple(numbers) for name, numbers in removed_filters(chain, first.state).items()}
    assert recorded.filters == gone and gone
    assert msgspec.structs.replace(recorded, filters={}) == asked
    assert recorded.describe() == asked.describe()
    contrary(monkeypatch, method)
    with untouched(chain):
        again = doing(chain, recorded)
    assert (fingerprint(again.state), again.operation) == (fingerprint(first.state), recorded)
    assert not any("as recorded" in remark for remark in again.remarks)
    assert fingerprint(do(chain, asked)) != fingerprint(first.state)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_of_equal_filters_the_same_ones_go_again(chain: State, scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    equal = with_weights(chain, {"conv2": chain.weight("conv2")[:1].expand(6, -1, -1, -1).clone()})
    first = doing(equal, Prune(layers=("conv2",), method="fpgm", amount=0.5, scope=scope))
    assert first.operation.filters == {"conv2": (0, 1, 2)}
    monkeypatch.setattr("labbench.bench.pruning.filters._lowest", lambda scores: list(range(len(scores)))[::-1])
    assert doing(equal, Prune(layers=("conv2",), method="fpgm", amount=0.5)).operation.filters == {"conv2": (3, 4, 5)}
    assert fingerprint(do(equal, first.operation)) == fingerprint(first.state)


def test_filters_are_numbered_as_in_the_loaded_model_and_once_for_coupled_layers(small: Small) -> None:
    loaded = shaken(small())
    once = doing(loaded, Prune(method="group-magnitude", amount=0.3))
    twice = doing(once.state, Prune(method="group-magnitude", amount=0.6, scope="global"))
    went = [set(kept.outputs or ()) for kept in (once.state.kept["conv1"], twice.state.kept["conv1"])]
    assert set(once.operation.filters["conv1"]) == set(range(8)) - went[0]
    assert set(twice.operation.filters.get("conv1", ())) == went[0] - went[1]
    assert "layer1.0.conv2" not in once.operation.filters  # it goes with conv1
    assert fingerprint(do(loaded, once.operation, twice.operation)) == fingerprint(twice.state)


def test_a_record_of_other_filters_than_the_amount_means_is_cut_and_said(chain: State) -> None:
    applied = doing(chain, Prune(layers=("conv1", "conv2"), method="fpgm", amount=0.5, filters={"conv2": (4,)}))
    assert removed_filters(chain, applied.state) == {"conv2": [4]}
    assert "as recorded: instead of 50 %, 1 of 6 are gone from conv2" in applied.remarks


def test_places_of_grouped_channels_go_together() -> None:
    state = foreign(Grouped)
    applied = doing(state, Prune(method="group-magnitude", amount=0.5))
    assert fingerprint(do(state, applied.operation)) == fingerprint(applied.state)
    grouped = next(name for name, m in state.model.named_modules() if getattr(m, "groups", 1) == 4)
    first = applied.operation.filters[grouped][0]
    with pytest.raises(BenchError, match="lie in 4 groups: the same places must go from each"):
        do(state, Prune(layers=(grouped,), method="group-magnitude", filters={grouped: (first,)}))


@pytest.mark.parametrize(
    ("filters", "method", "words"),
    [
        ({"conv2": (6,)}, "fpgm", "conv2 has no filter 6: it was loaded with 6, numbered from 0"),
        ({"conv2": (-1,)}, "fpgm", "conv2 has no filter -1"),
        ({"conv2": tuple(range(6))}, "fpgm", "filters names all of conv2: one must stay"),
        ({"conv2": (0,)}, "fpgm", "filters of conv2 that are already gone: 0"),
        ({"fc": (0,)}, "fpgm", "fc cannot be cut: these outputs are the answers of the model"),
        ({"nope": (0,)}, "fpgm", "filters names nope, which is not among the layers to cut: conv1, conv2"),
        ({"conv2": (1,)}, "magnitude", "filters names whole filters: magnitude takes single weights, so leave it out"),
        ({"conv2": ()}, "fpgm", "nothing to cut"),
    ],
)
def test_filters_that_cannot_go_are_refused(
    chain: State, filters: dict[str, tuple[int, ...]], method: str, words: str
) -> None:
    state = chain
    if "already" in words:
        state = do(chain, Prune(layers=("conv2",), method="fpgm", filters={"conv2": (0,)}))
    with untouched(state), pytest.raises(BenchError, match=words):
        do(state, Prune(method=method, filters=filters))


def test_of_coupled_layers_the_first_one_names_the_filters(small: Small) -> None:
    with pytest.raises(BenchError, match=r"layer1.0.conv2 loses the same filters as conv1: name them there"):
        do(small(), Prune(method="fpgm", filters={"layer1.0.conv2": (1,)}))
