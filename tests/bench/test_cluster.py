"""k-means over filters: as scikit-learn does it, and filters of one cluster stay equal while they train."""

import itertools

import numpy as np
import pytest
import torch
from bench_examples import Opened, Small, distinct, do, doing, untouched, with_weights
from sklearn.cluster import KMeans

from labbench.bench.clusterings import components, cosine, k_means
from labbench.bench.errors import BenchError, Stopped
from labbench.bench.measuring.snapshot import snapshot, unique_filters
from labbench.bench.states import surgery
from labbench.bench.states.fingerprint import fingerprint
from labbench.bench.states.state import State
from labbench.bench.tools import Tools
from labbench.session.events import Progress, Sparsity
from labbench.session.operations import Cluster, Finetune, Freeze, Prune, Unprune

CONVS = ("layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2")
TRAINING = [
    {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-3},
    {"optimizer": "adam", "lr": 0.01, "weight_decay": 5e-2},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 5e-2},
]


def same_within_clusters(state: State, name: str) -> bool:
    weight, labels = state.weight(name), state.clusters[name]
    return all(bool((weight[labels == label] == weight[labels == label][0]).all()) for label in labels.unique())


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (30, 50), (50, 20, 5, 5), (12, 1)])
@pytest.mark.parametrize("k", [1, 2, 7, 11])
@pytest.mark.parametrize("seed", [0, 1])
def test_clusters_are_those_of_scikit_learn(shape: tuple[int, ...], k: int, seed: int) -> None:
    weight = distinct(shape, seed=3)
    vectors = weight.flatten(1).numpy()
    shared, labels = surgery.share_filters(weight, k_means.share, k, seed, {"solver": "scikit-learn"})
    reference = KMeans(n_clusters=k, n_init=1, random_state=seed).fit(vectors)
    assert np.array_equal(labels.numpy(), reference.labels_)
    inertia = float(((shared.flatten(1) - weight.flatten(1)).double() ** 2).sum())
    assert inertia == pytest.approx(reference.inertia_, rel=1e-4)
    np.testing.assert_allclose(shared.flatten(1).numpy(), reference.cluster_centers_[reference.labels_], atol=1e-6)
    assert shared.shape == weight.shape
    assert unique_filters(shared) == k


@pytest.mark.parametrize("k", [1, 3, 15])
def test_k_distinct_filters_remain_and_shapes_do_not_change(small: Small, k: int) -> None:
    state = small()
    with untouched(state):
        after = do(state, Cluster(layers=("layer2.0.conv2",), k=k))
    weight = after.weight("layer2.0.conv2")
    assert weight.shape == state.weight("layer2.0.conv2").shape
    assert len(weight.unique(dim=0)) == k == len(after.clusters["layer2.0.conv2"].unique())
    assert same_within_clusters(after, "layer2.0.conv2")
    row = snapshot(after).row("layer2.0.conv2")
    assert row is not None
    assert (row.filters_unique, row.clusters, row.last) == (k, k, f"k {k} of 16")
    before = snapshot(state)
    assert snapshot(after).unique == before.unique - (16 - k) * 16 * 9
    assert before.unique == before.prunable.now
    unnamed = [name for name in state.model.state_dict() if name != "layer2.0.conv2.weight"]
    assert all(torch.equal(state.model.state_dict()[n], after.model.state_dict()[n]) for n in unnamed)


def test_a_filter_becomes_the_mean_of_its_cluster(small: Small) -> None:
    after = do(small(), Cluster(layers=("layer2.0.conv1",), k=5))
    weight, labels = small().weight("layer2.0.conv1"), after.clusters["layer2.0.conv1"]
    for label in range(5):
        mean = weight[labels == label].double().mean(0)
        assert float((after.weight("layer2.0.conv1")[labels == label] - mean).abs().max()) < 1e-6


def test_a_filter_that_is_alone_in_its_cluster_keeps_every_bit(small: Small) -> None:
    weight, labels = small().weight("layer2.0.conv2"), None
    after = do(small(), Cluster(layers=("layer2.0.conv2",), k=12))
    labels = after.clusters["layer2.0.conv2"]
    alone = [i for i in range(16) if (labels == labels[i]).sum() == 1]
    assert alone
    assert torch.equal(after.weight("layer2.0.conv2")[alone], weight[alone])


def test_the_fraction_counts_the_filters_of_each_layer(small: Small) -> None:
    after = do(small(), Cluster(layers=("*",), fraction=0.25))
    assert {name: int(labels.max()) + 1 for name, labels in after.clusters.items()} == {
        layer.name: layer.channels // 4 for layer in after.layers if layer.prunable and layer.name != "fc"
    }


def test_clustering_is_the_same_for_the_same_seed(small: Small) -> None:
    one, other, third = (do(small(), Cluster(layers=CONVS, k=6, seed=seed)) for seed in (1, 1, 2))
    assert fingerprint(one) == fingerprint(other) != fingerprint(third)


def test_as_many_clusters_as_distinct_filters_are_refused_by_name_and_left_by_glob(small: Small) -> None:
    for k in (16, 40):
        with pytest.raises(
            BenchError, match=f"layer2.0.conv2 has 16 distinct filters of 16; k must be below.* not {k}"
        ):
            doing(small(), Cluster(layers=("layer2.0.conv2",), k=k))
    applied = doing(small(), Cluster(layers=("*",), k=8))
    assert set(applied.state.clusters) == {"layer2.0.conv1", "layer2.0.conv2", "layer2.0.shortcut.0"}
    assert any(remark.startswith("left as it is: conv1 has 8 distinct filters") for remark in applied.remarks)
    with pytest.raises(BenchError, match=r"nothing to cluster in layer1\.\*: left as it is"):
        doing(small(), Cluster(layers=("layer1.*",), fraction=1.0))
    clustered = do(small(), Cluster(layers=("conv1",), k=3))
    with pytest.raises(BenchError, match="conv1 has 3 distinct filters of 8"):
        doing(clustered, Cluster(layers=("conv1",), k=3))
    assert unique_filters(do(clustered, Cluster(layers=("conv1",), k=2)).weight("conv1")) == 2


def test_the_classifier_is_left_out_of_globs_but_can_be_named(small: Small) -> None:
    applied = doing(small(), Cluster(layers=("*",), k=2))
    assert "fc" not in applied.state.clusters
    assert "left out: the rows of fc are the classes" in applied.remarks
    assert unique_filters(do(small(), Cluster(layers=("fc",), k=3)).weight("fc")) == 3


def test_frozen_layers_are_left_out_of_a_clustering(small: Small) -> None:
    applied = doing(do(small(), Freeze(layers=("layer1",))), Cluster(layers=("*",), k=2))
    assert not {"layer1.0.conv1", "layer1.0.conv2"} & set(applied.state.clusters)
    assert "left out, frozen: layer1.0.conv1, layer1.0.conv2" in applied.remarks


def test_zeros_that_a_whole_cluster_shares_stay_zero_and_are_held(opened: Opened) -> None:
    pruned = do(opened("lenet-5"), Prune(layers=("conv2", "fc1"), amount=0.9))
    after = do(pruned, Cluster(layers=("conv2", "fc1"), k=20))
    for name in ("conv2", "fc1"):
        labels, mask = after.clusters[name], pruned.masks[name]
        held = torch.stack([mask[labels == label].any(0) for label in labels])
        assert torch.equal(after.masks[name], held)
        assert not after.weight(name)[~held].any()
        assert not held.all()
        assert torch.equal(after.values[name], pruned.values[name].masked_fill(held, 0))


def test_filters_that_are_all_but_equal_cluster_without_noise(small: Small) -> None:
    base = distinct((1, 16, 3, 3), seed=0)
    weight = base + 1e-7 * distinct((16, 16, 3, 3), seed=1)
    state = with_weights(small(), {"layer2.0.conv2": weight})
    distinct_before = unique_filters(weight)
    after = do(state, Cluster(layers=("layer2.0.conv2",), k=min(5, distinct_before - 1)))
    labels = after.clusters["layer2.0.conv2"]
    assert sorted(labels.unique().tolist()) == list(range(int(labels.max()) + 1))
    do(after, Finetune(epochs=1, lr=0.01))


@pytest.mark.parametrize("training", TRAINING, ids=lambda t: t["optimizer"])
def test_filters_of_one_cluster_stay_equal_to_the_last_bit_while_they_train(small: Small, training) -> None:
    state = do(
        small(), Prune(layers=(*CONVS, "fc"), amount=0.4), Cluster(layers=("layer1.0.conv2", "layer2.0.conv2"), k=5)
    )
    assert set(state.clusters) <= set(state.masks)
    seen: list[Sparsity] = []
    tools = Tools(lambda name, options, side: state.data, lambda e: seen.append(e) if isinstance(e, Sparsity) else None)
    after = do(state, Finetune(epochs=4, batch_size=32, keep="last", **training), tools=tools)
    for name in state.clusters:
        assert not torch.equal(after.weight(name), state.weight(name))
        assert same_within_clusters(after, name)
        assert torch.equal(after.clusters[name], state.clusters[name])
    assert len(seen) == 4
    assert all(set(event.unique) == set(state.clusters) and max(event.unique.values()) <= 5 for event in seen)


def test_filters_of_one_cluster_train_with_the_mean_of_their_gradients(small: Small) -> None:
    state = do(small(), Cluster(layers=("layer2.0.conv2",), k=4))
    tied, loose = (
        do(
            state,
            Finetune(epochs=1, batch_size=200, lr=0.1, momentum=0.0, weight_decay=0.0, keep="last", tied=tied, steps=1),
        )
        for tied in (True, False)
    )
    name = "layer2.0.conv2"
    labels = state.clusters[name]
    for label in range(4):
        mean = loose.weight(name)[labels == label].mean(0)
        assert float((tied.weight(name)[labels == label] - mean).abs().max()) < 1e-6


def test_filters_that_are_not_tied_grow_apart(small: Small) -> None:
    state = do(small(), Cluster(layers=("layer2.0.conv2", "conv1"), k=4), Freeze(layers=("conv1",)))
    after = do(state, Finetune(epochs=1, tied=False))
    assert unique_filters(after.weight("layer2.0.conv2")) == 16
    assert set(after.clusters) == {"conv1"}
    row = snapshot(after).row("layer2.0.conv2")
    assert row is not None
    assert row.clusters == 0


def test_frozen_clusters_do_not_move(small: Small) -> None:
    state = do(small(), Cluster(layers=CONVS, k=4), Freeze(layers=CONVS))
    after = do(state, Finetune(epochs=2))
    assert all(torch.equal(after.weight(name), state.weight(name)) for name in CONVS)
    assert set(after.clusters) == set(CONVS)


def test_pruning_single_weights_of_a_clustered_layer_ends_its_clustering_with_a_remark(small: Small) -> None:
    state = do(small(), Cluster(layers=CONVS, k=4))
    applied = doing(state, Prune(layers=(CONVS[0], "fc"), amount=0.3))
    assert set(applied.state.clusters) == set(CONVS[1:])
    assert applied.remarks == (f"no longer clustered, because single weights went: {CONVS[0]}",)


def test_clusters_outlive_unpruning_and_stay_equal(small: Small) -> None:
    state = do(small(), Prune(layers=CONVS, amount=0.9), Cluster(layers=CONVS, k=3), Unprune())
    after = do(state, Finetune(epochs=1))
    assert all(same_within_clusters(after, name) for name in CONVS)
    assert all(after.weight(n).count_nonzero() > state.weight(n).count_nonzero() for n in CONVS)


def test_a_stop_between_two_layers_leaves_the_state_as_it_was(small: Small) -> None:
    state, calls = small(), iter([False, True])
    with untouched(state), pytest.raises(Stopped):
        doing(
            state,
            Cluster(layers=CONVS, k=2),
            Tools(lambda name, options, side: state.data, stopped=lambda: next(calls)),
        )


@pytest.mark.parametrize(
    "operation",
    [Cluster(layers=("*",), fraction=0.5), Prune(layers=("*",), method="kmeans", amount=0.3)],
    ids=("cluster", "cut"),
)
def test_a_stop_is_heard_in_every_layer_and_costs_no_more_than_that_layer(opened: Opened, operation) -> None:
    state = opened("resnet-20")
    told: list[Progress] = []

    def apply_until(stop: int) -> None:
        told.clear()
        tools = Tools(lambda name, options, side: state.data, told.append, lambda: len(told) == stop)
        doing(state, operation, tools)

    apply_until(-1)
    whole = [event.note for event in told]
    assert len(whole) >= 20
    assert [event.fraction for event in told] == sorted(event.fraction for event in told)
    assert told[0].fraction == 0 and told[-1].fraction < 1
    with untouched(state):
        for stop in (0, 1, len(whole) // 2, len(whole) - 1):
            with pytest.raises(Stopped):
                apply_until(stop)
            assert [event.note for event in told] == whole[:stop]


# The other clusterings


@pytest.mark.parametrize("k", [1, 2, 5])
def test_cosine_gathers_directions_and_keeps_or_shares_lengths(k: int) -> None:
    weight = distinct((12, 3, 3, 3), seed=4)
    vectors = weight.flatten(1)
    shared, labels = cosine.share(vectors, k, 0)
    assert labels is not None
    assert len(shared.unique(dim=0)) == k == len(labels.unique())
    units = torch.nn.functional.normalize(vectors, dim=1)
    for label in labels.unique():
        members = labels == label
        direction = torch.nn.functional.normalize(units[members].mean(0), dim=0)
        length = vectors[members].norm(dim=1).mean()
        assert torch.allclose(shared[members], (direction * length).expand_as(shared[members]), atol=1e-6)
    centers = torch.stack([torch.nn.functional.normalize(shared[labels == c][0], dim=0) for c in range(k)])
    assert torch.equal((units @ centers.T).argmax(1), labels)  # nobody is nearer to another direction
    kept, none = cosine.share(vectors, k, 0, norm="kept")
    assert none is None
    assert torch.allclose(kept.norm(dim=1), vectors.norm(dim=1), atol=1e-6)
    assert len((kept / kept.norm(dim=1, keepdim=True)).round(decimals=4).unique(dim=0)) == k


def test_cosine_does_not_see_lengths() -> None:
    vectors = distinct((10, 20), seed=1)
    scaled = vectors * torch.linspace(0.5, 3, 10)[:, None]
    assert torch.equal(cosine.share(vectors, 4, 0)[1], cosine.share(scaled, 4, 0)[1])


@pytest.mark.parametrize(("filters", "k"), [(6, 2), (7, 3), (9, 5), (8, 7)])
def test_components_are_the_best_clusters_at_every_place(filters: int, k: int) -> None:
    """Against every way to part the sorted values in k intervals."""
    vectors = distinct((filters, 5), seed=filters)
    shared, labels = components.share(vectors, k, 0)
    for column in range(5):
        ordered = vectors[:, column].double().sort().values
        ways = itertools.combinations(range(1, filters), k - 1)
        parts = ([ordered[a:b] for a, b in itertools.pairwise((0, *way, filters))] for way in ways)
        best = min(sum(float(((part - part.mean()) ** 2).sum()) for part in way) for way in parts)
        ours = float(((vectors[:, column] - shared[:, column]).double() ** 2).sum())
        assert ours == pytest.approx(best, rel=1e-5, abs=1e-12)
        assert len(shared[:, column].unique()) == k == len(labels[:, column].unique())


def test_components_are_no_worse_than_scikit_learn_from_ten_starts() -> None:
    vectors = distinct((32, 12), seed=2)
    shared, _ = components.share(vectors, 8, 0)
    ours = ((vectors - shared).double() ** 2).sum(0)
    for column in range(12):
        theirs = KMeans(n_clusters=8, n_init=10, random_state=0).fit(vectors[:, [column]].numpy()).inertia_
        assert float(ours[column]) <= theirs * 1.0001


def test_components_are_the_same_however_many_places_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = distinct((20, 30), seed=5)
    together = components.share(vectors, 6, 0)
    monkeypatch.setattr(components, "ENTRIES", 100)
    for one, other in zip(together, components.share(vectors, 6, 0), strict=True):
        assert torch.equal(one, other)


def test_components_of_equal_values_need_no_more_clusters_than_values() -> None:
    vectors = torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0], [2.0, 3.0]])
    shared, labels = components.share(vectors, 3, 0)
    assert torch.equal(shared, vectors)
    assert labels.max(0).values.tolist() == [1, 1]


def test_a_filter_far_from_its_centroid_keeps_its_own_values() -> None:
    vectors = distinct((10, 8), seed=0)
    vectors[3] += 50
    plain, _ = k_means.share(vectors, 2, 0)
    farthest = (vectors - plain).norm(dim=1)
    limit = float(farthest.sort().values[-3:-1].mean())  # two are farther
    shared, labels = k_means.share(vectors, 2, 0, distance=limit)
    far = farthest > limit
    assert int(far.sum()) == 2
    assert torch.equal(shared[far], vectors[far])
    assert torch.equal(shared[~far], plain[~far])
    assert len(labels[far].unique()) == 2
    assert not set(labels[far].tolist()) & set(labels[~far].tolist())


def test_k_by_map_goes_before_k_and_of_two_patterns_the_last_counts(small: Small) -> None:
    operation = Cluster(layers=("*",), k=7, ks={"layer2": 5, "layer2.0.conv2": 3})
    after = do(small(), operation)
    ks = {name: int(labels.max()) + 1 for name, labels in after.clusters.items()}
    assert ks["layer1.0.conv1"] == 7 and ks["layer2.0.conv1"] == 5 and ks["layer2.0.conv2"] == 3
    assert operation.describe() == "cluster all layers to 7 filters, layer2 5, layer2.0.conv2 3"
    applied = doing(small(), Cluster(layers=("conv1", "layer2.0.conv2"), ks={"conv1": 8, "layer2.0.conv2": 3}))
    assert set(applied.state.clusters) == {"layer2.0.conv2"}
    assert applied.remarks == ("left as it is: conv1 has 8 distinct filters of 8; k must be below that, not 8",)
    with pytest.raises(BenchError, match="no such layer: layer9; the layers are"):
        doing(small(), Cluster(layers=("*",), ks={"layer9": 2}))


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize(
    "clustering",
    [{"method": "components"}, {"method": "cosine"}, {"options": {"distance": 0.5}}],
    ids=lambda clustering: str(clustering),
)
def test_every_clustering_holds_through_training_and_a_cut(small: Small, clustering: dict, training: dict) -> None:
    after = do(small(), Cluster(layers=CONVS, k=4, **clustering))
    distinct_before = {name: values_at_places(after.weight(name)) for name in CONVS}
    trained = do(after, Finetune(epochs=1, batch_size=50, device="cpu", **training))
    for name in CONVS:
        assert not torch.equal(trained.weight(name), after.weight(name))
        assert torch.equal(trained.clusters[name], after.clusters[name])
        assert values_at_places(trained.weight(name)) <= distinct_before[name]
    smaller = do(trained, Prune(layers=("layer1.0.conv1", "layer2.0.conv1"), method="group-magnitude", amount=0.5))
    again = do(smaller, Finetune(epochs=1, batch_size=50, device="cpu", **training))
    for name in CONVS:
        assert values_at_places(again.weight(name)) <= values_at_places(smaller.weight(name))


def values_at_places(weight: torch.Tensor) -> int:
    """Distinct values at each place of the filters, summed over the places."""
    return sum(len(place.unique()) for place in weight.flatten(1).T)


def test_an_unknown_clustering_or_option_is_refused(small: Small) -> None:
    with pytest.raises(BenchError, match="no such clustering: cosin; they are k-means, cosine, components; did"):
        doing(small(), Cluster(layers=("*",), method="cosin"))
    with pytest.raises(BenchError, match="k-means has no key 'norm'; its keys are distance"):
        doing(small(), Cluster(layers=("*",), options={"norm": "kept"}))


def test_kept_lengths_are_not_tied_and_a_remark_says_so(small: Small) -> None:
    applied = doing(small(), Cluster(layers=CONVS, k=3, method="cosine", options={"norm": "kept"}))
    assert not applied.state.clusters
    assert applied.remarks[-1].startswith("not equal, so finetuning does not tie them: layer1.0.conv2, layer2.0.conv1")
