"""What holds for every method of the catalogue, and that masks are those of torch.nn.utils.prune."""

import copy
import math

import pytest
import torch
from bench_examples import Opened, Small, distinct, do, doing, shaken, state_of, untouched, with_weights
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from labbench.bench.errors import BenchError
from labbench.bench.methods import METHODS, function_of, has_own_target, magnitude, random
from labbench.bench.states import surgery
from labbench.bench.states.checkpoints import Cache, fill, read, save
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import Data, State
from labbench.session.operations import Finetune, Prune, Undo, Unprune

BY_WEIGHT = [name for name, method in METHODS.items() if method.GRANULARITY == "weight"]
BY_AMOUNT = [name for name in BY_WEIGHT if not has_own_target(METHODS[name])]
BY_RULE = [name for name in BY_WEIGHT if has_own_target(METHODS[name])]
BY_FILTER = [name for name, method in METHODS.items() if method.GRANULARITY == "filter"]
AMOUNTS = [0.02, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9, 0.995, 1.0]
SHAPES = [(1, 7), (10, 1), (3, 5), (17, 31), (4, 1, 3, 3), (6, 5, 5, 5), (16, 16, 3, 3), (100, 300)]
INNER = ("layer1.0.conv1", "layer2.0.conv1")


def gone(state: State, name: str) -> int:
    """How many weights of a layer are missing against the loaded model."""
    loaded = next(layer.weights for layer in state.layers if layer.name == name)
    return loaded - int(state.masks[name].sum() if name in state.masks else state.weight(name).numel())


def test_every_method_has_a_granularity_and_a_menu_entry() -> None:
    assert set(BY_WEIGHT) | set(BY_FILTER) == set(METHODS)
    for name in METHODS:
        first, *more = (function_of(METHODS[name]).__doc__ or "").splitlines()
        assert 0 < len(first) <= 76
        assert not first.endswith(".")
        assert any(line.strip() for line in more)


@pytest.mark.parametrize("method", BY_AMOUNT)
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("amount", [0.001, 0.3, 0.5, 0.77, 1.0])
def test_as_many_weights_go_as_were_asked_for(small: Small, method: str, scope: str, amount: float) -> None:
    state = do(small(), Prune(method=method, scope=scope, amount=amount))
    layers = [layer for layer in state.layers if layer.prunable]
    if scope == "layer":
        assert [gone(state, layer.name) for layer in layers] == [round(amount * layer.weights) for layer in layers]
    else:
        assert sum(gone(state, layer.name) for layer in layers) == round(amount * sum(x.weights for x in layers))
    for name, mask in state.masks.items():
        assert torch.equal(state.weight(name) != 0, mask)
        assert torch.equal(state.weight(name)[mask], small().weight(name)[mask])


@pytest.mark.parametrize("method", BY_FILTER)
@pytest.mark.parametrize("amount", [0.1, 0.3, 0.5, 0.8])
def test_as_many_filters_go_as_were_asked_for(small: Small, method: str, amount: float) -> None:
    state = do(shaken(small()), Prune(method=method, amount=amount))
    for layer in state.layers[:-1]:
        assert state.module(layer.name).weight.shape[0] == int(layer.channels * (1 - amount) + 1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_method_is_deterministic_and_leaves_the_given_state_as_it_was(small: Small, method: str, scope: str) -> None:
    state = shaken(small())
    if method == "kmeans" and scope == "global":
        with pytest.raises(BenchError, match="kmeans counts in each layer: its scope must be layer, not global"):
            do(state, Prune(method=method, scope=scope))
        return
    with untouched(state):
        one, other = (do(state, Prune(method=method, scope=scope, amount=0.4, seed=3)) for _ in range(2))
    assert fingerprint(one) == fingerprint(other) != fingerprint(state)


@pytest.mark.parametrize("method", BY_WEIGHT)
def test_layers_that_were_not_named_keep_every_bit(small: Small, method: str) -> None:
    state = do(small(), Prune(layers=("layer1",), method=method))
    before = small().model.state_dict()
    changed = {name for name, tensor in state.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"layer1.0.conv1.weight", "layer1.0.conv2.weight"} == {f"{name}.weight" for name in state.masks}


@pytest.mark.parametrize("method", BY_FILTER)
def test_a_cut_touches_only_what_is_coupled(small: Small, method: str) -> None:
    state = do(small(), Prune(layers=("layer1.0.conv1",), method=method))
    before = small().model.state_dict()
    same = {n for n, t in state.model.state_dict().items() if t.shape == before[n].shape and torch.equal(t, before[n])}
    assert {name.rpartition(".")[0] for name in set(before) - same} == {
        "layer1.0.conv1",
        "layer1.0.bn1",
        "layer1.0.conv2",
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("amount", AMOUNTS)
def test_magnitude_selects_what_torch_prune_selects_in_a_layer(shape: tuple[int, ...], amount: float) -> None:
    weight = distinct(shape, seed=len(shape))
    count = round(amount * weight.numel())
    if not count:
        return
    module = nn.Module()
    module.weight = nn.Parameter(weight.clone())
    torch_prune.l1_unstructured(module, "weight", amount)
    removed = magnitude.select({"a": weight}, {"a": torch.ones(shape, dtype=torch.bool)}, count, torch.Generator())
    assert torch.equal(~removed["a"], module.weight_mask.bool())


@pytest.mark.parametrize("model", ["lenet-5", "lenet-300-100", "resnet-20"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_gives_the_masks_of_torch_prune(opened: Opened, model: str, scope: str) -> None:
    loaded = opened(model)
    names = [layer.name for layer in loaded.layers if layer.prunable]
    flat = distinct((sum(loaded.weight(name).numel() for name in names),), seed=1)
    parts = flat.split([loaded.weight(name).numel() for name in names])
    state = with_weights(loaded, {n: part.view_as(loaded.weight(n)) for n, part in zip(names, parts, strict=True)})
    for amount in (0.1, 1 / 3, 0.9):
        hooked = copy.deepcopy(state.model)
        pairs = [(hooked.get_submodule(name), "weight") for name in names]
        if scope == "layer":
            for module, tensor in pairs:
                torch_prune.l1_unstructured(module, tensor, amount)
        else:
            torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=amount)
        pruned = do(state, Prune(scope=scope, amount=amount))
        for name in names:
            module = hooked.get_submodule(name)
            assert torch.equal(pruned.masks[name], module.weight_mask.bool())
            assert torch.equal(pruned.weight(name), module.weight)


def test_of_equal_weights_the_first_go() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.0], [0.5, 1.0, -1.0]])
    removed = magnitude.select({"a": weight}, {"a": torch.ones(2, 3, dtype=torch.bool)}, 3, torch.Generator())
    assert removed["a"].tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize("name", BY_AMOUNT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_only_weights_that_are_still_there_are_selected(name: str, shape: tuple[int, ...]) -> None:
    weights = {"a": distinct(shape, 1), "b": distinct((5, 4), 2)}
    alive = {"a": torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.7, "b": torch.ones(5, 4).bool()}
    total = sum(int(mask.sum()) for mask in alive.values())
    for count in (1, total // 2, total):
        removed = METHODS[name].select(weights, alive, count, torch.Generator().manual_seed(0))
        assert sum(int(mask.sum()) for mask in removed.values()) == count
        assert not any((removed[key] & ~alive[key]).any() for key in alive)


def test_random_differs_by_seed_and_takes_from_everywhere_alike() -> None:
    weights: dict[str, Tensor] = {"a": torch.randn(60, 50), "b": torch.randn(20, 50)}
    alive = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    one, other = (random.select(weights, alive, 2000, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(one["a"], other["a"])
    assert abs(int(one["a"].sum()) - 1500) < 5 * math.sqrt(2000 * 0.75 * 0.25)


def test_random_ignores_how_large_the_weights_are(small: Small) -> None:
    one = do(small(), Prune(method="random", amount=0.5, seed=4))
    other = do(shaken(small(seed=1)), Prune(method="random", amount=0.5, seed=4))
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in one.masks)


@pytest.mark.parametrize("method", BY_AMOUNT)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_again_goes_to_the_amount_and_not_by_it(small: Small, method: str, scope: str) -> None:
    once = do(small(), Prune(method=method, scope=scope, amount=0.3))
    twice = do(once, Prune(method=method, scope=scope, amount=0.6, seed=9))
    layers = [layer for layer in twice.layers if layer.prunable]
    assert sum(gone(twice, x.name) for x in layers) == pytest.approx(0.6 * sum(x.weights for x in layers), abs=4)
    assert all(not (twice.masks[name] & ~once.masks[name]).any() for name in once.masks)


def test_pruning_in_two_steps_by_magnitude_is_pruning_in_one(small: Small) -> None:
    steps = do(small(), Prune(amount=0.3), Prune(amount=0.6))
    assert fingerprint(steps) == fingerprint(do(small(), Prune(amount=0.6)))


@pytest.mark.parametrize("amount", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_an_amount_that_is_reached_already_is_refused(small: Small, amount: float, scope: str) -> None:
    state = do(small(), Prune(amount=0.5))
    with untouched(state), pytest.raises(BenchError, match=r"fc: already at .* or more; ask for more, or unprune"):
        doing(state, Prune(amount=amount, scope=scope))


def test_layers_at_the_amount_stay_while_others_follow(small: Small) -> None:
    state = do(small(), Prune(layers=("layer1",), amount=0.8))
    applied = doing(state, Prune(amount=0.5))
    assert applied.remarks == ("left as they are, already at 50 % or more: layer1.0.conv1, layer1.0.conv2",)
    assert torch.equal(applied.state.masks["layer1.0.conv1"], state.masks["layer1.0.conv1"])
    assert applied.state.last["layer1.0.conv1"] == "magnitude 80 %"
    assert applied.state.last["fc"] == "magnitude 50 %"


def test_amounts_count_against_the_loaded_model_also_after_a_cut(small: Small) -> None:
    cut = do(small(), Prune(layers=INNER, method="group-magnitude", amount=0.5))
    assert cut.weight("layer1.0.conv2").shape == (8, 4, 3, 3)
    with pytest.raises(BenchError, match=r"layer1\.0\.conv2: already at 50 % or more"):
        doing(cut, Prune(layers=("layer1.0.conv2",), amount=0.5))
    state = do(cut, Prune(layers=("layer1.0.conv2",), amount=0.75))
    assert int(state.weight("layer1.0.conv2").count_nonzero()) == round(0.25 * 8 * 8 * 9)
    together = do(cut, Prune(scope="global", amount=0.75))
    names = [layer for layer in together.layers if layer.prunable]
    assert sum(int(together.weight(x.name).count_nonzero()) for x in names) == pytest.approx(
        0.25 * sum(x.weights for x in names), abs=1
    )


def test_amount_zero_removes_nothing_and_is_refused(small: Small) -> None:
    for method in (*BY_AMOUNT, *BY_FILTER):
        with pytest.raises(BenchError, match="already at 0 %"):
            doing(small(), Prune(method=method, amount=0.0))


def test_amount_one_empties_every_layer_but_a_cut_leaves_a_filter(small: Small) -> None:
    empty = do(small(), Prune(amount=1.0))
    assert all(not empty.weight(layer.name).any() for layer in empty.layers if layer.prunable)
    for scope in ("layer", "global"):
        cut = do(small(), Prune(method="group-magnitude", amount=1.0, scope=scope))
        assert {len(cut.weight(layer.name)) for layer in cut.layers[:-1]} == {1}
        with pytest.raises(BenchError, match="nothing to cut"):
            doing(cut, Prune(method="group-magnitude", amount=1.0, scope=scope))


def test_zeros_that_were_unpruned_are_weights_again_and_go_first(small: Small) -> None:
    state = do(small(), Prune(layers=("fc",), amount=0.5), Unprune(layers=("fc",)))
    assert "fc" not in state.masks
    assert state.last["fc"] == "unpruned"
    zeros = state.weight("fc") == 0
    again = do(state, Prune(layers=("fc",), amount=0.3))
    assert int((~again.masks["fc"]).sum()) == 48
    assert not ((~again.masks["fc"]) & ~zeros).any()


def test_every_option_of_group_magnitude_cuts(small: Small) -> None:
    state = shaken(small())
    for reduction in ("mean", "sum", "max", "prod", "first"):
        for normalizer in ("mean", "sum", "max", "gaussian", "standarization", "none"):
            for p in (1, 2):
                options = {"reduction": reduction, "normalizer": normalizer, "p": p}
                made = do(state, Prune(method="group-magnitude", amount=0.5, scope="global", options=options))
                assert sum(len(made.weight(layer.name)) for layer in made.layers[:-1]) < sum(
                    layer.channels for layer in made.layers[:-1]
                )


def test_a_group_of_one_filter_can_be_scored_with_every_normalizer(small: Small) -> None:
    state = do(small(), Prune(layers=("layer1.0.conv1",), method="group-magnitude", amount=1.0))
    for normalizer in ("mean", "sum", "max", "gaussian", "standarization", "none"):
        made = do(state, Prune(method="group-magnitude", options={"normalizer": normalizer}))
        assert len(made.weight("layer1.0.conv1")) == 1


def test_group_magnitude_ranks_by_the_norm_of_the_filters_and_of_what_reads_them(data_of_vectors: Data) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    state = state_of(model, data_of_vectors)
    first = torch.tensor([[2.0, 0, 0, 0], [1.0, 0, 0, 0], [1.5, 0, 0, 0]])
    second = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.0, 0.0]])
    state = with_weights(state, {"1": first, "3": second})
    made = do(state, Prune(layers=("1",), method="group-magnitude", amount=0.3, options={"reduction": "sum"}))
    assert made.kept["1"].outputs == (0, 1)  # 4 + 0, 1 + 9, 2.25 + 1
    made = do(state, Prune(layers=("1",), method="group-magnitude", amount=0.3, options={"reduction": "first"}))
    assert made.kept["1"].outputs == (0, 2)


@pytest.fixture(scope="module")
def data_of_vectors() -> Data:
    from bench_examples import noise

    return noise((1, 2, 2), classes=2)


def test_undo_is_no_operation_on_a_state(small: Small) -> None:
    with pytest.raises(BenchError, match="timeline"):
        doing(small(), Undo())


def test_nothing_but_load_works_before_a_model_is_open() -> None:
    from labbench.bench.apply import apply
    from labbench.bench.tools import Tools

    for operation in (Prune(), Finetune(), Unprune()):
        with pytest.raises(BenchError, match="no model is open: load one first"):
            apply(operation, None, Tools(lambda name, options, side: pytest.fail("no data is needed")))


# Unpruning to the last values


def test_unpruned_weights_begin_from_their_last_values_after_training_and_a_cut(small: Small) -> None:
    name = "layer2.0.conv1"
    dense = small()
    pruned = do(dense, Prune(amount=0.3), Prune(amount=0.6))
    trained = do(pruned, Finetune(epochs=1, batch_size=50, device="cpu"))
    back = do(trained, Unprune(layers=(name,), begin="last"))
    mask = trained.masks[name]
    assert torch.equal(back.weight(name)[~mask], dense.weight(name)[~mask])
    assert torch.equal(back.weight(name)[mask], trained.weight(name)[mask])
    assert name not in back.masks and name not in back.values and "conv1" in back.masks
    smaller = do(trained, Prune(layers=(name,), amount=0.5, method="group-magnitude"))
    again = do(smaller, Unprune(layers=(name,), begin="last"))
    kept = smaller.kept[name]
    expected = torch.where(mask, trained.weight(name), dense.weight(name))
    assert torch.equal(again.weight(name), surgery.sliced(expected, kept))


def test_weights_that_trained_between_two_prunings_come_back_as_they_last_were(small: Small) -> None:
    name = "layer1.0.conv1"
    once = do(small(), Prune(layers=(name,), amount=0.3))
    trained = do(once, Finetune(epochs=1, batch_size=50, device="cpu"))
    twice = do(trained, Prune(layers=(name,), amount=0.6))
    back = do(twice, Unprune(begin="last")).weight(name)
    first = ~once.masks[name]
    assert torch.equal(back[first], small().weight(name)[first])
    assert torch.equal(back[~first], trained.weight(name)[~first])


def test_unpruned_to_zero_stays_zero_until_it_trains(small: Small) -> None:
    pruned = do(small(), Prune(amount=0.5))
    zeros = {name: pruned.weight(name) == 0 for name in pruned.masks}
    assert all(not do(pruned, Unprune()).weight(name)[zero].any() for name, zero in zeros.items())
    assert not do(pruned, Unprune()).values


def test_last_values_come_back_from_a_checkpoint_and_are_in_no_export(small: Small, tmp_path) -> None:
    pruned = do(small(), Prune(amount=0.5))
    cache = Cache(tmp_path / "cache", 10**9)
    cache.put("key", pruned)
    kept = cache.get("key", small)
    assert kept is not None
    assert fingerprint(do(kept, Unprune(begin="last"))) == fingerprint(do(pruned, Unprune(begin="last")))
    save(pruned, tmp_path / "plain.safetensors")
    tensors, record = read(tmp_path / "plain.safetensors")
    assert set(tensors) == set(pruned.model.state_dict())
    plain = fill(small(), tensors, record, tmp_path)
    with pytest.raises(BenchError, match=r"the last values of .* are not known: the mask came with the weights"):
        do(plain, Unprune(begin="last"))
