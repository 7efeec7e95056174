"""k-means of directions: points and centroids have unit length, and the nearest is the one of the highest cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from dclib.cluster.kmeans import assign, draw_rows, update_centroids
from dclib.cluster.whitening import l2_normalise
from dclib.distributed import gather, shard


def spherical_kmeans(points: Tensor, k: int, n_iter: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cluster (n, d) unit vectors, which every process has, into k; each process compares its share of them.

    From k points drawn at random, ``n_iter`` times: means of the clusters, brought to unit length. An empty cluster
    keeps its centroid.

    Returns:
        Centroids (k, d) of unit length, and the clusters (n,) int64 that are nearest to them.

    Raises:
        ValueError: there are fewer points than clusters.

    Source: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020,
    appendix on DeepCluster-v2.
    """
    n = len(points)
    if n < k:
        raise ValueError(f"need at least as many points as clusters; got {n} and {k}: lower cluster.n_sub")
    rows = shard(n)
    own = points[rows.start : rows.stop]
    centroids = points[draw_rows(n, k, generator)].clone()
    for _ in range(n_iter):
        nearest, _ = assign(own, centroids)
        centroids = l2_normalise(update_centroids(own, nearest, centroids)[0])
    nearest, _ = assign(own, centroids)
    return centroids, gather(nearest, torch.arange(rows.start, rows.stop, device=nearest.device), n)
