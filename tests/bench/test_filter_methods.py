"""Each method that ranks filters, against a computation by hand on a small network."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from bench_examples import Small, do, doing, noise, shaken, state_of, untouched, with_weights
from torch import Tensor, nn

from labbench.bench.apply import apply
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.methods import METHODS, kmeans, needs_gradients
from labbench.bench.pruning.gradients import BATCH, Remembered, gradients
from labbench.bench.pruning.graph import Graph
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session.events import Progress
from labbench.session.operations import Freeze, Prune

BY_FILTER = [name for name, method in METHODS.items() if method.GRANULARITY == "filter"]
BY_GRADIENT = [name for name in BY_FILTER if needs_gradients(METHODS[name])]


class Chain(nn.Module):
    """Two convolutions with their norms, and a linear layer that reads 4 places of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 5, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(self.bn1(self.conv1(x)).relu(), 2)
        return self.fc(F.adaptive_avg_pool2d(self.bn2(self.conv2(x)).relu(), 2).flatten(1))


@pytest.fixture(scope="module")
def chain() -> State:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return shaken(state_of(Chain(), noise((1, 8, 8), classes=3, images=150)))


def scores(state: State, name: str, method: str, values: nn.Module | None = None, **options: object) -> Tensor:
    """What a method says of a layer's filters; `values` stand in for the weights."""
    graph = Graph(state.copy_model(), state.data.shape)
    if values is not None:
        graph.model.load_state_dict(values.state_dict())
    found = graph.group(name).scores(lambda group: METHODS[method].score(group, torch.Generator(), **options))
    assert found is not None
    return found


def parts(model: nn.Module, name: str) -> list[Tensor]:
    """By hand: for each channel of a layer its filters, norm scales and readers, a tensor channels × … each."""
    return {
        "conv1": lambda: [
            model.conv1.weight.flatten(1),
            model.bn1.weight[:, None],
            model.conv2.weight.transpose(0, 1).flatten(1),
        ],
        "conv2": lambda: [
            model.conv2.weight.flatten(1),
            model.bn2.weight[:, None],
            model.fc.weight.view(3, 6, 4).transpose(0, 1).flatten(1),
        ],
    }[name]()


def mean_of_one(values: Tensor) -> Tensor:
    return values / values.mean()


@pytest.mark.parametrize("name", ["conv1", "conv2"])
@pytest.mark.parametrize("p", [1, 2])
def test_group_magnitude_is_the_norm_of_all_that_is_coupled(chain: State, name: str, p: int) -> None:
    norms = [part.abs().pow(p).sum(1) for part in parts(chain.model, name)]
    summed = scores(chain, name, "group-magnitude", p=p, reduction="sum", normalizer="none")
    torch.testing.assert_close(summed, sum(norms))
    first = scores(chain, name, "group-magnitude", p=p, reduction="first", normalizer="none")
    torch.testing.assert_close(first, norms[0])


@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_bn_scale_is_the_scale_of_the_norm_behind(chain: State, name: str) -> None:
    norm = chain.model.get_submodule(name.replace("conv", "bn"))
    torch.testing.assert_close(scores(chain, name, "bn-scale"), norm.weight.detach().abs())
    worst = int(norm.weight.abs().argmin())
    after = do(chain, Prune(layers=(name,), method="bn-scale", amount=1 / 6))
    kept = after.kept[name].outputs
    assert kept is not None and worst not in kept and len(kept) == norm.num_features - 1


def test_bn_scale_compares_over_layers_as_it_is(chain: State) -> None:
    after = do(chain, Prune(method="bn-scale", amount=4 / 11, scope="global"))
    both = torch.cat([chain.model.bn1.weight, chain.model.bn2.weight]).detach().abs()
    gone = set(both.argsort()[:4].tolist())
    kept = [set(after.kept[name].outputs or range(n)) for name, n in (("conv1", 5), ("conv2", 6))]
    assert gone == set(range(11)) - kept[0] - {5 + channel for channel in kept[1]}


def test_a_layer_without_a_norm_has_no_scale_and_says_so(opened) -> None:
    with pytest.raises(BenchError, match="conv1 cannot be cut: bn-scale finds nothing there to score it by"):
        do(opened("lenet-5"), Prune(layers=("conv1",), method="bn-scale"))
    with pytest.raises(BenchError, match="left whole: conv1, conv2, fc1, because bn-scale finds nothing there"):
        do(opened("lenet-5"), Prune(method="bn-scale"))


@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_lamp_is_the_share_of_what_is_not_smaller(chain: State, name: str) -> None:
    magnitude = scores(chain, name, "group-magnitude", p=2, normalizer="none").tolist()
    expected = [one / sum(other for other in magnitude if other >= one) for one in magnitude]
    found = scores(chain, name, "lamp")
    torch.testing.assert_close(found, torch.tensor(expected))
    assert float(found.max()) == pytest.approx(1.0)


def test_geometric_median_is_the_sum_of_the_distances_to_the_other_filters(chain: State) -> None:
    filters = chain.model.conv1.weight.detach().flatten(1).double()
    expected = [math.fsum(float((one - other).pow(2).sum().sqrt()) for other in filters) for one in filters]
    torch.testing.assert_close(scores(chain, "conv1", "fpgm"), mean_of_one(torch.tensor(expected)))


def test_geometric_median_knows_a_filter_from_its_negative() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    state = state_of(model, noise((1, 2, 2), classes=2))
    row = torch.tensor([1.0, 2.0, -1.0, 0.5])
    state = with_weights(state, {"1": torch.stack([row, -row, row + 0.1, 1.1 * row])})
    after = do(state, Prune(layers=("1",), method="fpgm", amount=0.25))
    assert after.kept["1"].outputs in ((1, 2, 3), (0, 1, 3), (0, 1, 2))
    assert 1 in after.kept["1"].outputs  # the negative is far from all others: it stays


def test_geometric_median_averages_over_coupled_layers(small: Small) -> None:
    state = shaken(small())
    layers = [state.weight(name).flatten(1).double() for name in ("conv1", "layer1.0.conv2")]
    each = [mean_of_one(torch.stack([(filters - one).norm(dim=1).sum() for one in filters])) for filters in layers]
    torch.testing.assert_close(scores(state, "conv1", "fpgm"), (sum(each) / 2).float())


# gradients


def by_hand(state: State, seed: int, batches: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean gradients and sums of squares, with autograd and nothing else."""
    model = copy.deepcopy(state.model).eval().requires_grad_(True)
    x, y = state.data.on(state.device)["train"]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: batches * BATCH]
    names, tensors = zip(*model.named_parameters(), strict=True)
    loss = F.cross_entropy(model(state.data.normalized(x[order])), y[order])
    mean = dict(zip(names, torch.autograd.grad(loss, tensors), strict=True))
    squares = dict.fromkeys(names, torch.zeros(()))
    for part in order.split(BATCH):
        loss = F.cross_entropy(model(state.data.normalized(x[part])), y[part])
        found = torch.autograd.grad(loss, tensors)
        squares = {name: squares[name] + gradient**2 for name, gradient in zip(names, found, strict=True)}
    return mean, squares


def nobody(_: Progress) -> None:
    pass


@pytest.mark.parametrize("batches", [1, 2, 3, 9])
def test_gradients_are_those_of_the_mean_loss_and_all_batches_count(chain: State, batches: int) -> None:
    with untouched(chain):
        found = gradients(chain, batches, 5, nobody, lambda: False)
    mean, squares = by_hand(chain, 5, batches)
    assert found.batches == min(batches, 3)  # 150 images: 64, 64 and 22
    for name in mean:
        torch.testing.assert_close(found.mean[name], mean[name], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(found.squares[name], squares[name], atol=1e-7, rtol=1e-4)


def test_a_gradient_is_what_the_loss_does_when_a_weight_moves(chain: State) -> None:
    found = gradients(chain, 9, 0, nobody, lambda: False).mean["bn1.weight"]
    x, y = chain.data.on(chain.device)["train"]

    def loss(step: float) -> float:
        model = copy.deepcopy(chain.model).double().eval()
        with torch.no_grad():
            model.bn1.weight[2] += step
            return float(F.cross_entropy(model(chain.data.normalized(x).double()), y))

    assert (loss(1e-5) - loss(-1e-5)) / 2e-5 == pytest.approx(float(found[2]), rel=1e-3)


@pytest.mark.parametrize(("method", "batches"), [("taylor", 1), ("taylor", 2), ("hessian", 2), ("hessian", 3)])
@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_taylor_and_hessian_are_what_their_formulas_say(chain: State, method: str, batches: int, name: str) -> None:
    mean, squares = by_hand(chain, 7, batches)
    model = copy.deepcopy(chain.model)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_((parameter * mean[key]).abs() if method == "taylor" else parameter**2 * squares[key])
    expected = sum(part.detach().sum(1) for part in parts(model, name))
    count = 3
    options = {"batches": batches, "reduction": "sum", "normalizer": "none"}
    after = do(chain, Prune(layers=(name,), method=method, amount=count / len(expected), options=options, seed=7))
    kept = set(after.kept[name].outputs or ())
    assert set(range(len(expected))) - kept == set(expected.argsort()[:count].tolist())


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_the_norm_behind_a_filter_counts(chain: State, method: str) -> None:
    """Torch-Pruning's Taylor forgets batch norm: where only norms differ, it cannot tell filters apart."""
    module = METHODS[method]
    found = gradients(chain, 2, 0, nobody, lambda: False)
    values = copy.deepcopy(chain.model)
    with torch.no_grad():
        for key, parameter in values.named_parameters():
            made = module.salience(parameter, found.mean[key], found.squares[key])
            parameter.copy_(made if key == "bn1.weight" else torch.zeros_like(made))
    expected = values.bn1.weight.detach().abs()
    given = scores(chain, "conv1", method, values, reduction="sum", normalizer="none")
    torch.testing.assert_close(given, expected)
    assert len(given.unique()) == 5


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_frozen_layers_have_gradients_too_and_stay(small: Small, method: str) -> None:
    state = do(shaken(small()), Freeze(layers=("layer1.0.conv2",)))
    with untouched(state):
        applied = doing(state, Prune(method=method, amount=0.5, options={"batches": 2}))
    assert torch.equal(applied.state.weight("layer1.0.conv2"), state.weight("layer1.0.conv2"))
    assert len(applied.state.weight("layer2.0.conv1")) == 8
    with pytest.raises(BenchError, match=r"conv1 cannot be cut: .* layer1\.0\.conv2, which is frozen"):
        doing(state, Prune(layers=("conv1",), method=method))


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_which_images_are_looked_at_depends_on_the_seed_alone(chain: State, method: str) -> None:
    one, same, other = (gradients(chain, 1, seed, nobody, lambda: False).mean["conv1.weight"] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    cut = Prune(layers=("conv1",), method=method, options={"batches": 1})
    assert fingerprint(do(chain, cut)) == fingerprint(do(chain, cut))


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_gradients_tell_how_far_they_are_and_can_be_stopped(chain: State, method: str) -> None:
    seen: list[Progress] = []
    asked = iter([False, False, True])
    tools = Tools(lambda name, options, side: chain.data, seen.append, lambda: next(asked))
    with untouched(chain), pytest.raises(Stopped):
        apply(Prune(method=method), chain, tools)
    assert [(event.phase, event.fraction) for event in seen] == [("gradients", 0.0), ("gradients", 1 / 3)]


def test_gradients_are_remembered_for_one_model_and_its_settings(chain: State, small: Small) -> None:
    remembered = Remembered()
    one = remembered(chain, 2, 0, nobody, lambda: False)
    assert remembered(replace(chain, frozen=frozenset({"conv1"})), 2, 0, nobody, lambda: False) is one
    assert remembered(chain, 2, 1, nobody, lambda: False) is not one
    assert remembered(small(), 2, 1, nobody, lambda: False).mean.keys() != one.mean.keys()


def test_a_gradient_that_is_no_number_is_refused(chain: State) -> None:
    weight = chain.weight("fc").clone()
    weight[0, 0] = math.inf
    with pytest.raises(BenchError, match=r"the gradient of .* is not finite"):
        do(with_weights(chain, {"fc": weight}), Prune(layers=("conv1",), method="taylor"))


# k-means and random


def test_kmeans_keeps_of_each_cluster_the_filter_that_is_nearest_to_its_centroid() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = 10 * torch.randn(4, 9, generator=generator)
    owner = torch.arange(20) % 4
    filters = centers[owner] + torch.randn(20, 9, generator=generator)
    kept = kmeans.keep(filters.view(20, 1, 3, 3), 4, 0)
    assert sorted(owner[kept].tolist()) == [0, 1, 2, 3]
    for one in kept:
        own = (owner == owner[one]).nonzero().flatten()
        away = (filters[own] - filters[own].mean(0)).norm(dim=1)
        assert one == int(own[away.argmin()])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_kmeans_of_equal_filters_keeps_one_of_each_kind_first(count: int) -> None:
    filters = torch.tensor([[1.0, 0], [1.0, 0], [0, 2.0], [0, 2.0], [0, 0], [0, 0]])
    kept = kmeans.keep(filters, count, 0)
    assert len(set(kept)) == count
    assert len({tuple(filters[one].tolist()) for one in kept}) == min(count, 3)


def test_kmeans_keeps_as_many_as_asked_and_goes_by_the_seed(chain: State) -> None:
    for amount in (0.2, 0.5, 0.9):
        after = do(chain, Prune(layers=("conv2",), method="kmeans", amount=amount))
        assert len(after.weight("conv2")) == max(1, math.floor(6 * (1 - amount) + 1e-9))
    kept = kmeans.keep(chain.weight("conv2"), 3, 4)
    assert do(chain, Prune(layers=("conv2",), method="kmeans", seed=4)).kept["conv2"].outputs == tuple(kept)


def test_random_filters_are_drawn_alike_from_the_seed(chain: State) -> None:
    counts = torch.zeros(6)
    for seed in range(60):
        after = do(chain, Prune(layers=("conv2",), method="random-filters", amount=0.5, seed=seed))
        counts[list(after.kept["conv2"].outputs or ())] += 1
    assert counts.sum() == 180
    assert float((counts - 30).abs().max()) < 5 * math.sqrt(60 * 0.25)


# what holds for all


@pytest.mark.parametrize("method", BY_FILTER)
def test_equal_filters_are_cut_all_the_same_and_it_is_said(chain: State, method: str) -> None:
    model = copy.deepcopy(chain.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    applied = doing(replace(chain, model=model), Prune(layers=("conv1", "conv2"), method=method, amount=0.4))
    assert [len(applied.state.weight(name)) for name in ("conv1", "conv2")] == [3, 3]
    said = "all scores are equal, so the first filters go: conv1, conv2" in applied.remarks
    assert said == (method not in ("kmeans", "random-filters"))


@pytest.mark.parametrize("method", BY_FILTER)
def test_weights_that_are_no_numbers_are_refused(chain: State, method: str) -> None:
    weight = chain.weight("conv1").clone()
    weight[1, 0, 0, 0] = math.nan
    with pytest.raises(BenchError, match="not finite"):
        do(with_weights(chain, {"conv1": weight}), Prune(layers=("conv1",), method=method))
