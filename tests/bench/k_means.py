"""k-means over filters against scikit-learn with ten starts, and each position by itself against a loop over it.

    python tests/bench/k_means.py [--rounds 3] [--json FILE]

scikit-learn takes as many threads as it likes (--threads limits it), labbench one. Inertias stand beside each case.
"""

import argparse
from collections.abc import Callable, Iterator

import torch
from side_by_side import Timed, arguments, show, side_by_side
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from labbench.bench.clusterings import components
from labbench.bench.models import MODELS
from labbench.bench.threads import one_thread
from labbench.bench.vectors.k_means import by_distances

SEED = 0
CASES = ("random 512×4608", "kinds 512×4608", "random 64×576", "kinds 256×1152", "resnet-20", "components 64×576")


def random(n: int, length: int) -> Tensor:
    """Normal values."""
    return torch.randn(n, length, generator=torch.Generator().manual_seed(n))


def kinds(n: int, length: int, count: int) -> Tensor:
    """Vectors scattered around so many different ones."""
    which = torch.randint(count, (n,), generator=torch.Generator().manual_seed(SEED))
    return random(count, length)[which] + 0.3 * random(n, length)


def filters_of(model: str) -> list[Tensor]:
    """Of every convolution of a network with three input channels."""
    torch.manual_seed(SEED)
    parameters = MODELS[model].build((3, 32, 32), 10).parameters()
    return [parameter.detach().flatten(1) for parameter in parameters if parameter.dim() == 4]


def inertia(vectors: Tensor, labels: Tensor) -> float:
    """Squared distances from the centroids, added up in float64."""
    values = vectors.double()
    sums = torch.zeros(int(labels.max()) + 1, values.shape[1], dtype=values.dtype).index_add_(0, labels, values)
    return float(((values - (sums / labels.bincount()[:, None])[labels]) ** 2).sum())


def compared(
    case: str, sets: list[Tensor], parts: list[int], options: argparse.Namespace, single: bool = False
) -> Timed:
    """Sets of vectors, each gathered into so many clusters; with `single` each column of theirs by itself."""
    found: dict[str, list[Tensor]] = {}
    """What each side found last: labels, or, with `single`, vectors whose components are shared."""

    def theirs() -> None:
        with threadpool_limits(limits=options.threads or None):
            found["theirs"] = [
                torch.from_numpy(KMeans(n_clusters=k, n_init=10, random_state=SEED).fit(columns.numpy()).labels_).long()
                for vectors, k in zip(sets, parts, strict=True)
                for columns in (vectors.split(1, dim=1) if single else [vectors])
            ]

    def ours() -> None:
        with one_thread(), threadpool_limits(limits=1):
            found["ours"] = [
                components.share(vectors, k, SEED)[0] if single else by_distances(vectors, k, SEED).labels
                for vectors, k in zip(sets, parts, strict=True)
            ]

    timed = side_by_side(case, {"scikit-learn, n_init 10": theirs, "labbench": ours}, options.rounds)
    each = [columns for vectors in sets for columns in (vectors.split(1, dim=1) if single else [vectors])]
    expected = sum(inertia(vectors, labels) for vectors, labels in zip(each, found["theirs"], strict=True))
    if single:
        reached = sum(float(((x - shared).double() ** 2).sum()) for x, shared in zip(sets, found["ours"], strict=True))
    else:
        reached = sum(inertia(vectors, labels) for vectors, labels in zip(sets, found["ours"], strict=True))
    return Timed(f"{case}: inertia {reached / expected:.4f} of scikit-learn's", timed.seconds)


def cases(options: argparse.Namespace) -> Iterator[Timed]:
    """All that were asked for."""
    makers: dict[str, Callable[[str], Timed]] = {
        "random 512×4608": lambda name: compared(f"{name}, K 256", [random(512, 4608)], [256], options),
        "kinds 512×4608": lambda name: compared(f"{name}, K 256", [kinds(512, 4608, 100)], [256], options),
        "random 64×576": lambda name: compared(f"{name}, K 32", [random(64, 576)], [32], options),
        "kinds 256×1152": lambda name: compared(f"{name}, K 64", [kinds(256, 1152, 64)], [64], options),
        "resnet-20": lambda name: compared(
            f"{name}, every layer to half its filters",
            filters_of(name),
            [len(filters) // 2 for filters in filters_of(name)],
            options,
        ),
        "components 64×576": lambda name: compared(f"{name}, K 32", [random(64, 576)], [32], options, single=True),
    }
    for name in options.cases:
        yield makers[name](name)


if __name__ == "__main__":
    parser = arguments(__doc__.splitlines()[0], rounds=3)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, metavar="CASE", help=", ".join(CASES))
    chosen = parser.parse_args()
    show(chosen, cases(chosen))
