"""From features to answers: clusters with their centroids, neighbours, and a map."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dclib.cluster.kmeans import kmeans
from dclib.cluster.nearest import import_faiss
from dclib.cluster.whitening import PcaWhitening, fit_pca_whitening, l2_normalise
from dclib.explore.answers import Grouping
from dclib.explore.nearest_rows import nearest_rows
from dclib.explore.space import Space
from dclib.machine import count_cores
from dclib.randomness import derive_seed, generator

PER_CLUSTER = 100  # photographs of a cluster, on average: what somebody looks through
MOST_CLUSTERS = 300
DIMENSIONS = 64  # of the whitened points that are clustered and compared
ROUNDS = 20  # updates of k-means
NEIGHBOURS = 12  # kept of each photograph
BLOCK = 4096  # rows at once
QUERIES = 2048  # photographs whose neighbours are looked for at once
MAPPED = 20_000  # photographs that the map is made of; the others are put among their neighbours
PERPLEXITY = 30


def clusters_for(n: int) -> int:
    """How many clusters so many photographs are shown in: one for each hundred, two at least."""
    return min(MOST_CLUSTERS, max(2, round(n / PER_CLUSTER)))


def find_space(features: Tensor, k: int, scale: Tensor, *, seed: int = 0) -> Space:
    """Whiten features (n, d), their columns multiplied by ``scale`` (d,), and cluster them into ``k``.

    Each photograph is expected to show something else: no duplicates.
    """
    whitening = fit_pca_whitening(features * scale, min(DIMENSIONS, *features.shape))
    whitening = PcaWhitening(whitening.mean / scale, whitening.projection * scale[:, None], whitening.explained)
    points = l2_normalise(whitening.transform(features))
    found = kmeans(points, min(k, len(points)), generator=generator(seed, "explore"), n_iter=ROUNDS)
    filled = found.counts > 0
    return Space(whitening.mean, whitening.projection, found.centroids[filled])


def group(name: str, features: Tensor, space: Space, *, seed: int = 0) -> Grouping:
    """Clusters, neighbours and places of all photographs.

    Args:
        features: (n, d) float32.
        space: Found among these, or among some of them.
    """
    points = torch.cat([space.points(block) for block in features.split(BLOCK)])
    placed = {name: values.numpy() for name, values in space.place(features).items()}
    neighbours, similarity = nearest(points, NEIGHBOURS)
    place, map_name = draw_map(points, seed=seed)
    return Grouping(
        name,
        placed["cluster"].astype(np.int32),
        placed["distance"],
        placed["second"].astype(np.int32),
        placed["sharpness"],
        place,
        neighbours,
        similarity,
        map_name,
    )


def nearest(points: Tensor, m: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The ``m`` nearest others of each point of unit length, (n, m), and their cosines; fewer where there are fewer."""
    stored, count = points.numpy(), min(m, len(points) - 1)
    found = [
        nearest_rows(stored, range(start, min(start + QUERIES, len(points))), None, count, points=lambda rows: rows)
        for start in range(0, len(points), QUERIES)
    ]
    numbers, cosines = zip(*found, strict=True)
    return np.concatenate(numbers), np.concatenate(cosines)


def draw_map(points: Tensor, *, seed: int = 0) -> tuple[NDArray[np.float32], str]:
    """Where each point lies on a flat map, (n, 2) in [0, 1], and how that was found: t-SNE, or PCA without openTSNE."""
    n = len(points)
    flat = fit_pca_whitening(points, min(2, *points.shape)).transform(points).numpy().astype(np.float64)
    flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    try:
        from openTSNE import TSNE
    except ImportError:
        return _to_unit(flat), "PCA"
    if n <= 3 * PERPLEXITY:
        return _to_unit(flat), "PCA"
    chosen = np.random.default_rng(derive_seed(seed, "map")).permutation(n)[:MAPPED]
    tsne = TSNE(
        perplexity=PERPLEXITY,
        initialization=flat[chosen] * (1e-4 / max(flat[chosen, 0].std(), 1e-12)),
        n_jobs=count_cores(),
        random_state=derive_seed(seed, "map") % 2**31,
    )
    drawn = np.asarray(tsne.fit(points.numpy()[chosen]))
    drawn = _among_neighbours(drawn, chosen, points) if len(chosen) < n else drawn[np.argsort(chosen)]
    return _to_unit(drawn), "t-SNE"


def _among_neighbours(drawn: NDArray[np.float64], chosen: NDArray[np.int64], points: Tensor) -> NDArray[np.float64]:
    """Places of all points: those of the chosen, and for the others the middle of their three nearest chosen ones."""
    place = np.empty((len(points), 2))
    place[chosen] = drawn
    stored = np.ascontiguousarray(points.numpy())
    index = import_faiss().IndexFlatIP(stored.shape[1])
    index.add(stored[chosen])
    others = np.setdiff1d(np.arange(len(points)), chosen)
    for start in range(0, len(others), BLOCK):
        rows = others[start : start + BLOCK]
        place[rows] = np.median(drawn[index.search(stored[rows], 3)[1]], axis=1)
    return place


def _to_unit(place: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = place.min(axis=0), place.max(axis=0)
    unit: NDArray[np.float32] = ((place - low) / np.maximum((high - low).max(), 1e-12)).astype(np.float32)
    return unit
