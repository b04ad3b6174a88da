"""What clustering makes of zeros is said, before and after; a layer is called masked only where it holds zeros."""

import pytest
from bench_examples import Small, do, doing

from labbench.bench.measuring.snapshot import snapshot
from labbench.bench.states.state import State
from labbench.session.compare import Verdict, judge
from labbench.session.events import Finished
from labbench.session.operations import Cluster, Prune
from labbench.session.snapshot import LayerRow

LAYER = "layer2.0.conv2"


def row(state: State) -> LayerRow:
    found = snapshot(state).row(LAYER)
    assert found is not None
    return found


def test_zeros_that_a_mean_takes_away_are_counted_in_a_remark(small: Small) -> None:
    pruned = do(small(), Prune(layers=(LAYER,), amount=0.9))
    applied = doing(pruned, Cluster(layers=(LAYER,), k=4))
    left = 1 - row(applied.state).nonzero / row(applied.state).weights
    assert left < 0.5
    assert applied.remarks == (
        "zeros are lost where the mean of a cluster is not zero; held are those that are left: "
        f"{LAYER} 90 % → {100 * left:.1f} %",
    )
    assert row(applied.state).masked == (left > 0)
    assert row(applied.state).nonzero == int(applied.state.masks[LAYER].sum())


def test_a_layer_that_lost_all_its_zeros_is_not_masked_and_old_recordings_still_agree(small: Small) -> None:
    pruned = do(small(), Prune(layers=(LAYER,), amount=0.3))
    assert row(pruned).masked
    clustered = do(pruned, Cluster(layers=(LAYER,), k=1))
    assert row(clustered).nonzero == row(clustered).weights
    assert not row(clustered).masked
    now = snapshot(clustered)
    rows = [LayerRow(**{name: getattr(r, name) for name in r.__struct_fields__} | {"masked": True}) for r in now.rows]
    then = type(now)(
        **{name: getattr(now, name) for name in now.__struct_fields__}
        | {"rows": tuple(old if new.name == LAYER else new for old, new in zip(rows, now.rows, strict=True))}
    )
    operation = Cluster(layers=(LAYER,), k=1)
    old, new = (Finished(operation=operation, snapshot=shot, remarks=(), seconds=0.0) for shot in (then, now))
    assert judge(old, new, [operation], away=False).verdict == Verdict.IDENTICAL


@pytest.mark.parametrize("operation", [Cluster(layers=(LAYER,), k=4), Cluster(layers=(LAYER,), k=4, method="cosine")])
def test_where_there_were_no_zeros_nothing_is_said_of_them(small: Small, operation: Cluster) -> None:
    assert not any("zeros" in remark for remark in doing(small(), operation).remarks)
