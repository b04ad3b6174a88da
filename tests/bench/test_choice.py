"""Which layers an operation means: names, globs, containers; frozen ones; and options of methods."""

import pytest
from bench_examples import Opened, Small, do, doing

from labbench.bench.errors import BenchError
from labbench.bench.methods import METHODS
from labbench.bench.states.chosen_layers import checked_options, choose, choose_unfrozen
from labbench.session.operations import Cluster, Freeze, Prune, Unfreeze, Unprune

PRUNABLE = (
    "conv1",
    "layer1.0.conv1",
    "layer1.0.conv2",
    "layer2.0.conv1",
    "layer2.0.conv2",
    "layer2.0.shortcut.0",
    "fc",
)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("*",), PRUNABLE),
        (("fc", "conv1"), ("conv1", "fc")),
        (("layer1",), PRUNABLE[1:3]),
        (("layer2.0.shortcut",), ("layer2.0.shortcut.0",)),
        (("*.conv?",), PRUNABLE[1:5]),
        (("layer[12].0.conv1",), ("layer1.0.conv1", "layer2.0.conv1")),
        (("layer1", "layer1.0.conv1", "*conv1"), ("conv1", *PRUNABLE[1:4])),
    ],
)
def test_names_globs_and_containers_mean_layers_in_forward_order(
    small: Small, patterns: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert choose(small(), patterns).layers == names


def test_what_was_named_in_full_is_known_apart_from_what_a_glob_matched(small: Small) -> None:
    assert choose(small(), ("*", "fc")).literal == {"fc"}
    assert choose(small(), ("layer1",)).literal == frozenset()


def test_norms_are_layers_only_where_they_are_asked_for(small: Small) -> None:
    assert choose(small(), ("bn1",), norms=True).layers == ("bn1",)
    with pytest.raises(
        BenchError, match="bn1 is a BatchNorm2d, no conv or linear layer; the layers that can be meant here are conv1"
    ):
        choose(small(), ("bn1",))


def test_a_mistyped_name_is_refused_with_the_layers_and_a_guess(small: Small) -> None:
    with pytest.raises(BenchError, match=r"no such layer: conv; the layers are conv1, .*fc; did you mean conv1\?"):
        choose(small(), ("fc", "conv"))


def test_a_glob_that_matches_nothing_is_refused_with_the_layers(small: Small) -> None:
    with pytest.raises(BenchError, match=r"no layer matches layer9\.\*; the layers are conv1, layer1\.0\.conv1"):
        choose(small(), ("layer9.*",))


def test_no_name_at_all_is_refused(small: Small) -> None:
    with pytest.raises(BenchError, match="no layer was named"):
        choose(small(), ())
    with pytest.raises(BenchError, match="no such layer: ;"):
        choose(small(), ("",))


def test_a_long_list_of_layers_is_shortened_in_a_refusal(opened: Opened) -> None:
    with pytest.raises(BenchError, match="and 8 more"):
        choose(opened("resnet-20"), ("nope",))


def test_frozen_layers_are_left_out_of_globs_with_a_remark(small: Small) -> None:
    state = do(small(), Freeze(layers=("layer1",)))
    chosen = choose_unfrozen(state, ("*",), "prune")
    assert chosen.layers == ("conv1", *PRUNABLE[3:])
    assert chosen.remarks == ("left out, frozen: layer1.0.conv1, layer1.0.conv2",)


@pytest.mark.parametrize("operation", [Prune(layers=("fc", "conv1")), Cluster(layers=("fc", "conv1"), k=2)])
def test_frozen_layers_are_refused_by_name(small: Small, operation: Prune | Cluster) -> None:
    state = do(small(), Freeze(layers=("fc",)))
    with pytest.raises(BenchError, match=r"cannot (prune|cluster) fc: frozen; unfreeze first"):
        doing(state, operation)


def test_a_glob_of_frozen_layers_only_is_refused(small: Small) -> None:
    state = do(small(), Freeze(layers=("layer1",)))
    with pytest.raises(BenchError, match="nothing to prune: every layer that was named is frozen"):
        doing(state, Prune(layers=("layer1.*",)))


def test_freezing_takes_the_norm_behind_a_layer_unless_told_not_to(small: Small) -> None:
    assert do(small(), Freeze(layers=("conv1", "fc"))).frozen == {"conv1", "bn1", "fc"}
    assert do(small(), Freeze(layers=("conv1",), norms=False)).frozen == {"conv1"}
    assert do(small(), Freeze(layers=("layer2.0.shortcut",))).frozen == {"layer2.0.shortcut.0", "layer2.0.shortcut.1"}
    assert do(small(), Freeze(layers=("*",), norms=False)).frozen == set(PRUNABLE)


def test_norms_can_be_frozen_alone_by_name_and_by_glob(small: Small) -> None:
    assert do(small(), Freeze(layers=("bn1",))).frozen == {"bn1"}
    assert do(small(), Freeze(layers=("layer1.0.bn*",))).frozen == {"layer1.0.bn1", "layer1.0.bn2"}


def test_unfreezing_takes_the_norm_behind_a_layer_along(small: Small) -> None:
    state = do(small(), Freeze(layers=("layer1", "conv1")))
    assert do(state, Unfreeze(layers=("conv1",))).frozen == state.frozen - {"conv1", "bn1"}
    assert do(state, Unfreeze()).frozen == frozenset()


def test_freezing_twice_and_unfreezing_what_is_not_frozen_are_refused(small: Small) -> None:
    state = do(small(), Freeze(layers=("conv1",)))
    with pytest.raises(BenchError, match="already frozen: bn1, conv1"):
        doing(state, Freeze(layers=("conv1",)))
    with pytest.raises(BenchError, match="none of these is frozen: fc"):
        doing(state, Unfreeze(layers=("fc",)))


def test_unpruning_what_is_not_pruned_is_refused(small: Small) -> None:
    with pytest.raises(BenchError, match="no pruned weights in fc"):
        doing(small(), Unprune(layers=("fc",)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"q": 2}, r"group-magnitude has no key 'q'; its keys are p, reduction, normalizer"),
        ({"p": 3}, "p must be one of 1, 2, not 3"),
        ({"p": "2"}, "p must be one of 1, 2"),
        ({"p": True}, "p must be one of 1, 2"),
        ({"reduction": "median"}, "reduction must be one of mean, sum, max, prod, first"),
    ],
)
def test_options_of_a_wrong_name_type_or_value_are_refused(options, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        checked_options(METHODS["group-magnitude"].score, options, "group-magnitude")


def test_a_number_out_of_range_is_refused_with_its_range() -> None:
    from typing import Annotated

    from msgspec import Meta

    def method(*, share: Annotated[float, Meta(gt=0, le=1, description="")] = 0.5, count: int = 3) -> None: ...

    assert checked_options(method, {}, "m") == {"share": 0.5, "count": 3}
    assert checked_options(method, {"share": 1}, "m") == {"share": 1, "count": 3}
    for options, words in (
        ({"share": 0.0}, "share must be a number above 0 to 1, not 0.0"),
        ({"share": float("nan")}, "share must be a number"),
        ({"count": 2.5}, "count must be a whole number, not 2.5"),
    ):
        with pytest.raises(BenchError, match=words):
            checked_options(method, options, "m")


def test_a_method_without_options_says_so(small: Small) -> None:
    with pytest.raises(BenchError, match="magnitude has no key 'p'; it has no keys"):
        doing(small(), Prune(options={"p": 2}))


def test_an_unknown_method_is_refused_with_a_guess(small: Small) -> None:
    with pytest.raises(BenchError, match=r"no such method: magnitud; .*did you mean magnitude\?"):
        doing(small(), Prune(method="magnitud"))


@pytest.mark.parametrize("operation", [Prune(amount=0.0), Unfreeze()])
def test_a_refusal_that_concerns_every_layer_stays_readable(opened: Opened, operation: Prune | Unfreeze) -> None:
    with pytest.raises(BenchError, match=r" and \d+ more") as caught:
        doing(opened("resnet-20"), operation)
    assert len(str(caught.value)) < 320
