"""k-means beside what else could be used: FAISS, scikit-learn, and plain loops.

    python benchmarks/kmeans.py
    python benchmarks/kmeans.py --n 2000 --d 16 --k 20 --iterations 2 --loop-points 500 --repeats 2  # in seconds

All cluster the same float32 points, unit vectors in loose groups, from the same centroids, for as many updates, and end
with the nearest centroid of every point. They take turns, ``--repeats`` times, in one process with the same threads.
Seconds are per update with its assignment; the last assignment is shared out among them. Of what each finds, the
inertia is computed in one and the same way, and must agree. The record is ``results/benchmarks/kmeans.json``.

The plain loops do one update of ``--loop-points`` of the points and have no last assignment; their seconds are scaled
to all points, for both steps are linear in them. One goes through the clusters, points in memory at once: distances
of all points to a centroid, then the mean of its members. The other takes distances by matrix products of 48 points at
a time, as the code published with the paper does, and means by a loop through the clusters.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from measuring import benchmark_card, record_path, side_by_side, take_turns
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from dclib.cluster.kmeans import Backend, assign, draw_rows, kmeans, update_centroids
from dclib.cluster.nearest import has_bfloat16
from dclib.randomness import generator
from dclib.records import Record, write_records
from dclib.train.runs import device_name

MIDDLES = 2_000  # of groups
SPREAD = 1.0  # of a group, in units of that of the middles
BATCH = 48
OURS = "auto"
LOOPS = ("loop over clusters", "batches of 48")
INERTIA_TOLERANCE = 1e-3

Way = Callable[[Tensor, Tensor, int], Tensor]  # of points (n, d), first centroids (k, d), updates: centroids (k, d)


def make_points(n: int, d: int, seed: int) -> Tensor:
    draws = generator(seed, "points")
    middles = torch.randn(MIDDLES, d, generator=draws)
    points = middles[torch.randint(MIDDLES, (n,), generator=draws)]
    return normalize(points + SPREAD * torch.randn(n, d, generator=draws), dim=1)


def with_backend(backend: Backend, used: dict[str, Any]) -> Way:
    """Ours; which back-end ran goes to ``used``."""

    def cluster(points: Tensor, initial: Tensor, n_iter: int) -> Tensor:
        draws = generator(0, "unused")
        result = kmeans(points, len(initial), generator=draws, n_iter=n_iter, backend=backend, initial=initial)
        used[backend] = result.backend
        return result.centroids

    return cluster


def by_faiss(points: Tensor, initial: Tensor, n_iter: int) -> Tensor:
    k, d = initial.shape
    # all points, instead of a sample of 256 a cluster
    found = faiss.Kmeans(d, k, niter=n_iter, max_points_per_centroid=len(points), min_points_per_centroid=1)
    found.train(points.numpy(), init_centroids=initial.numpy())
    found.assign(points.numpy())
    return torch.from_numpy(found.centroids)


def with_scikit_learn(used: dict[str, Any]) -> Way:
    """Its number of updates goes to ``used``: it stops early where nothing changes any more."""

    def cluster(points: Tensor, initial: Tensor, n_iter: int) -> Tensor:
        found = KMeans(len(initial), init=initial.numpy(), n_init=1, max_iter=n_iter, tol=0, algorithm="lloyd")
        centroids = found.fit(points.numpy()).cluster_centers_
        used["scikit-learn"] = found.n_iter_
        return torch.from_numpy(centroids)

    return cluster


def by_clusters(points: Tensor, initial: Tensor, n_iter: int) -> Tensor:
    """One cluster after the other, in both steps."""
    rows, centroids = points.numpy(), initial.numpy().copy()
    for _ in range(n_iter):
        shortest = np.full(len(rows), np.inf, dtype=np.float32)
        nearest = np.zeros(len(rows), dtype=np.int64)
        for c, centroid in enumerate(centroids):
            squared = ((rows - centroid) ** 2).sum(axis=1)
            closer = squared < shortest
            shortest[closer], nearest[closer] = squared[closer], c
        means_by_loop(rows, nearest, centroids)
    return torch.from_numpy(centroids)


def by_batches(points: Tensor, initial: Tensor, n_iter: int) -> Tensor:
    """Products of 48 points with all centroids, and one cluster after the other."""
    centroids = initial.clone()
    for _ in range(n_iter):
        norms = centroids.square().sum(dim=1)
        nearest = torch.cat([(norms - 2 * batch @ centroids.T).argmin(dim=1) for batch in points.split(BATCH)])
        means_by_loop(points.numpy(), nearest.numpy(), centroids.numpy())
    return centroids


def means_by_loop(rows: np.ndarray, nearest: np.ndarray, centroids: np.ndarray) -> None:
    """Put the mean of each cluster's rows into ``centroids``; one without rows stays."""
    for c in range(len(centroids)):
        members = rows[nearest == c]
        if len(members):
            centroids[c] = members.mean(axis=0)


def measure(options: argparse.Namespace, used: dict[str, Any]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds per update of every way in every repeat, and how far its inertia is from that of plain float32."""
    points = make_points(options.n, options.d, options.seed)
    initial = points[draw_rows(len(points), options.k, generator(options.seed, "centroids"))]
    few = points[: options.loop_points]
    ways: dict[str, Way] = {
        **{b: with_backend(b, used) for b in (OURS, "torch", "faiss")},
        **({"torch-bf16": with_backend("torch-bf16", used)} if has_bfloat16(points.dtype, points.device) else {}),
        "FAISS": by_faiss,
        "scikit-learn": with_scikit_learn(used),
        **dict(zip(LOOPS, (by_clusters, by_batches), strict=True)),
    }
    centroids = dict[str, Tensor]()

    def run(name: str) -> None:
        centroids[name] = ways[name](*given[name])

    given = {name: (few, initial, 1) if name in LOOPS else (points, initial, options.iterations) for name in ways}
    taken = take_turns({name: partial(run, name) for name in ways}, options.repeats)
    seconds, inertia = dict[str, list[float]](), dict[str, float]()
    for name, (own, _, n_iter) in given.items():
        seconds[name] = [whole / n_iter * len(points) / len(own) for whole in taken[name]]
        inertia[name] = float(assign(own, centroids[name])[1].double().mean())
    updated, _ = update_centroids(few, assign(few, initial)[0], initial)  # leaves the centroids of empty clusters alone
    once = float(assign(few, updated)[1].double().mean())
    return seconds, {name: found / (once if name in LOOPS else inertia["torch"]) - 1 for name, found in inertia.items()}


def records_of(seconds: dict[str, list[float]], inertia: dict[str, float], options: argparse.Namespace) -> list[Record]:
    """Seconds of each way beside ours, and how far its inertia is from that of plain float32."""
    work = f"an update of {options.k:,} centroids by {options.n:,} points of {options.d} dimensions"
    records = side_by_side("kmeans", work, seconds, "s", ours=OURS)
    for way, value in inertia.items():
        print(f"inertia of {way}: {value:+.5%} beside plain float32")
        records.append(Record(name="inertia_beside_torch", value=value, unit="1", n=1, keys={"way": way}))
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200_000, help="points")
    parser.add_argument("--d", type=int, default=256, help="dimensions")
    parser.add_argument("--k", type=int, default=1_000, help="clusters")
    parser.add_argument("--iterations", type=int, default=10, help="updates")
    parser.add_argument("--loop-points", type=int, default=10_000, help="points of the plain loops")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=record_path("kmeans"))
    options = parser.parse_args()
    start, used = time.monotonic(), dict[str, Any]()
    seconds, inertia = measure(options, used)
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    card = benchmark_card(
        {**settings, "middles": MIDDLES, "spread": SPREAD},
        ("cluster", "precision"),
        start,
        device=device_name(torch.device("cpu")),
        seed=options.seed,
        auto_took=used[OURS],
        scikit_learn_updates=used["scikit-learn"],
    )
    write_records(options.output, card, records_of(seconds, inertia, options))
    worst = max(inertia, key=lambda way: abs(inertia[way]))
    if abs(inertia[worst]) > INERTIA_TOLERANCE:
        raise SystemExit(
            f"inertia must agree within {INERTIA_TOLERANCE:.1%}; that of {worst} is {inertia[worst]:+.3%} off"
        )


if __name__ == "__main__":
    main()
