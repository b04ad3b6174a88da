"""Models of one's own that cannot be copied, or cannot be worked on, are refused in a sentence when they are opened;
those that can be keep all they are through every operation."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_examples import do, noise
from own_copies import KNOWING
from torch import Tensor

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError
from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.states.checkpoints import Cache
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.states.user_model import OwnModels
from labbench.bench.tools import Applied, Tools
from labbench.bench.training.forwards import as_written, compute_by
from labbench.session.operations import Cluster, Evaluate, Finetune, Freeze, Load, Measure, Prune, Unfreeze

Open = Callable[[str], Applied]


@pytest.fixture
def opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a model of the examples on random images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "knows.py").write_text(KNOWING)
    data, own = noise((1, 28, 28)), OwnModels()

    def load(name: str) -> Applied:
        model = f"knows.py:{name}"
        own.trusted.add(model)
        with warnings.catch_warnings(action="ignore"):  # torch is about to give up TorchScript
            return apply(Load(model=model, dataset="digits", device="cpu"), None, Tools(lambda *what: data, own=own))

    return load


def logits(state: State) -> Tensor:
    x = torch.randn(3, *state.data.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return state.model(x)


@pytest.mark.parametrize("name", ["tapped", "gain", "wrapped", "buffered", "global_gain"])
def test_a_model_whose_copy_computes_with_the_originals_weights_is_refused(opening: Open, name: str) -> None:
    with pytest.raises(
        BenchError, match=f"a copy of knows.py:{name} does not answer as the original does, in eval mode"
    ):
        opening(name)


def test_what_a_copy_does_wrong_in_training_alone_is_noticed_too(opening: Open) -> None:
    with pytest.raises(BenchError, match=r"a copy of .* does not answer as the original does, in training"):
        opening("gain_in_training")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gradient_hook", r"hooks into the gradient of 1\.weight, and a copy loses such hooks"),
        ("locked", "cannot be copied, and the bench works on copies: TypeError: cannot pickle"),
        ("compiled", r"is compiled, and would not see a change; return the model without torch\.compile"),
        ("compiled_inside", "is compiled"),
        ("traced", "gave TorchScript, whose layers cannot be changed"),
        ("NoReturn", "its train.. gives back something else; end it with return self"),
        ("stubborn", "does not run on images of 1×28×28, with its bfloat16 made float32: RuntimeError"),
    ],
)
def test_what_cannot_be_worked_on_is_one_sentence(opening: Open, name: str, said: str) -> None:
    with pytest.raises(BenchError, match=said) as raised:
        opening(name)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250


@pytest.mark.parametrize(
    "name", ["scaled", "partial_tap", "global_tap", "Counting", "Depth", "Features", "Own", "Partial"]
)
def test_hooks_states_and_forwards_that_go_by_their_own_model_are_worked_on(opening: Open, name: str) -> None:
    state = opening(name).state
    before = fingerprint(state)
    made = do(state, Prune(amount=0.3), Finetune(epochs=1, batch_size=8), Evaluate(split="test"))
    assert fingerprint(state) == before != fingerprint(made)


def test_a_forward_of_its_own_outlasts_training_and_trains_as_in_plain_torch(opening: Open) -> None:
    own, plain = opening("Own").state, opening("Cast").state
    assert fingerprint(own) == fingerprint(plain)  # one network, once by its own forward, once by that of its class
    way = Finetune(epochs=2, batch_size=8, lr=0.1)
    for operations in ((way,), (Prune(amount=0.5), way), (Freeze(layers=("body.1",)), way), (way, way)):
        one, other = do(own, *operations), do(plain, *operations)
        assert fingerprint(one) == fingerprint(other)
        assert torch.equal(logits(one), logits(other))
        assert one.accuracy["validation"].loss == pytest.approx(other.accuracy["validation"].loss, rel=1e-6)


def test_only_what_the_bench_put_in_place_of_a_forward_is_taken_away() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    own = lambda x: x + 1  # noqa: E731
    model[0].forward = own
    compute_by(model[1], lambda module, x: 2 * x, model[1])
    assert model(torch.ones(1, 2)).tolist() == [[4.0, 4.0]]
    assert copy.deepcopy(model)(torch.ones(1, 2)).tolist() == [[4.0, 4.0]]
    as_written(model)
    assert vars(model[0])["forward"] is own and "forward" not in vars(model[1])


def test_weights_of_sixteen_bits_become_float32_and_that_is_said(opening: Open) -> None:
    for name, kind in (("half", "float16"), ("brain", "bfloat16")):
        applied = opening(name)
        assert applied.remarks == (f"stored as {kind}; float32 from here on",)
        assert {p.dtype for p in applied.state.model.parameters()} == {torch.float32}
        do(
            applied.state,
            Prune(amount=0.5),
            Cluster(layers=("body.1" if name == "brain" else "1",), k=2),
            Finetune(epochs=1, batch_size=8),
        )


def test_a_parameter_of_whole_numbers_is_legal_and_never_trains(opening: Open, tmp_path: Path) -> None:
    applied = opening("Whole")
    assert applied.remarks == ("frozen, because the model itself holds them fixed: code",)
    made = do(applied.state, Prune(amount=0.5), Unfreeze(), Finetune(epochs=1, batch_size=8), Measure())
    assert made.model.get_parameter("code").tolist() == [0, 1, 2, 3]
    cache = Cache(tmp_path / "c", 10**9)
    cache.put("key", made)
    again = cache.get("key", lambda: applied.state)
    assert again and fingerprint(again) == fingerprint(made)


def test_a_complex_parameter_counts_as_two_numbers(opening: Open, tmp_path: Path) -> None:
    state = opening("Complex").state
    real = 784 * 16 + 16 + 16 * 10 + 10
    found = snapshot(state)
    assert (found.whole.now, found.whole.loaded, found.whole.nonzero) == (real + 20, real + 20, real + 20)
    assert next(row.parameters for row in found.rows if row.name == "turn") == 20
    cache = Cache(tmp_path / "c", 10**9)
    made = do(state, Prune(amount=0.5), Finetune(epochs=1, batch_size=8))
    cache.put("key", made)
    again = cache.get("key", lambda: state)
    assert again and fingerprint(again) == fingerprint(made)
    with torch.no_grad():
        made.model.get_parameter("turn").mul_(1j)
    assert fingerprint(replace(made)) != fingerprint(again)


def test_a_model_that_is_random_in_eval_mode_opens_and_that_is_said(opening: Open) -> None:
    applied = opening("drawn")
    assert len(applied.remarks) == 1 and "answers at random, in eval mode too" in applied.remarks[0]
    one, two = (apply(Evaluate(split="test"), applied.state, Tools(lambda *what: applied.state.data)) for _ in "12")
    assert one.state.accuracy == two.state.accuracy
