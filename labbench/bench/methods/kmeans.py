"""One filter of each cluster of similar filters stays."""

import numpy as np
from threadpoolctl import threadpool_limits
from torch import Tensor

GRANULARITY = "filter"


def keep(filters: Tensor, count: int, seed: int) -> list[int]:
    """k-means: of similar filters one stays, the nearest to its cluster's centroid

    k-means++ and Lloyd over the filters of a layer (of the first, where layers are coupled) as vectors, with as many
    clusters as filters shall stay (after Li et al., ICCV 2019). It counts in each layer: the scope is the layer's.
    """
    from sklearn.cluster import KMeans  # its import costs as much as half of torch's

    vectors = filters.detach().cpu().flatten(1).double().numpy()
    _, first = np.unique(vectors, axis=0, return_index=True)
    if len(first) <= count:  # fewer different filters than shall stay: one of each, and the first of the others
        return sorted([*first.tolist(), *(n for n in range(len(vectors)) if n not in first)][:count])
    with threadpool_limits(limits=1):
        means = KMeans(n_clusters=count, n_init=1, random_state=seed).fit(vectors)
    away = ((vectors - means.cluster_centers_[means.labels_]) ** 2).sum(1)
    members = (np.flatnonzero(means.labels_ == label) for label in range(count))
    return sorted(int(own[away[own].argmin()]) for own in members)
