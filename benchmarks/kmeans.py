"""k-means beside what else could be used: FAISS, its SuperKMeans, scikit-learn, and plain loops.

    python benchmarks/kmeans.py
    python benchmarks/kmeans.py --preset pocket --k 256,1000,4000,16384 --repeats 3
    python benchmarks/kmeans.py --n 2000 --d 16 --k 20 --iterations 2 --loop-points 500 --repeats 2  # in seconds

All cluster the same float32 points from the same centroids, for as many updates, and end with the nearest centroid of
every point. They take turns, ``--repeats`` times, in one process with the same threads. Seconds are per update with its
assignment; the last assignment is shared out among them. Of what each finds, the inertia is computed in one and the
same way, and must agree. SuperKMeans alone cannot be told where to start, and skips centroids by what is likely, so of
it the inertia is only noted. The record is ``results/benchmarks/kmeans.json``; it names what each side ran.

The points are unit vectors in loose groups and, with ``--preset``, features that a network of it has of random crops of
its images, whitened to ``--d`` dimensions; it is trained first where it is not yet.

Where scikit-learn-intelex is installed, it takes its turn. ``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2
MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell FAISS_OPT_LEVEL=avx2`` in the environment make a CPU with AVX-512
like one without.

The plain loops do one update of ``--loop-points`` of the points and have no last assignment; their seconds are scaled
to all points, for both steps are linear in them. They are left out of more than 1,000 clusters. One goes through the
clusters, points in memory at once: distances of all points to a centroid, then the mean of its members. The other takes
distances by matrix products of 48 points at a time, as the code published with the paper does, and means by a loop
through the clusters.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from measuring import benchmark_card, record_path, side_by_side, take_turns
from threadpoolctl import threadpool_info
from torch import Tensor
from torch.nn.functional import normalize

from dclib.cluster import fastest
from dclib.cluster.kmeans import Backend, assign, draw_rows, kmeans, update_centroids
from dclib.cluster.nearest import has_bfloat16
from dclib.cluster.pseudo_labels import whiten
from dclib.presets import load_preset
from dclib.randomness import generator
from dclib.records import Record, write_records
from dclib.train.runs import device_name, method_pixels, prepare_data, pretrain_method

MIDDLES = 2_000  # of groups
SPREAD = 1.0  # of a group, in units of that of the middles
CROPS = 256  # of a batch
BATCH = 48
OURS = "auto"
LOOPS = ("loop over clusters", "batches of 48")
LOOP_CLUSTERS = 1_000  # at most, for the plain loops
SUPER = "FAISS, SuperKMeans"
INERTIA_TOLERANCE = 1e-3
LIMITS = (
    *("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE", "FAISS_OPT_LEVEL"),
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
)

Way = Callable[[Tensor, Tensor, int], Tensor]  # of points (n, d), first centroids (k, d), updates: centroids (k, d)


def make_points(n: int, d: int, seed: int) -> Tensor:
    draws = generator(seed, "points")
    middles = torch.randn(MIDDLES, d, generator=draws)
    points = middles[torch.randint(MIDDLES, (n,), generator=draws)]
    return normalize(points + SPREAD * torch.randn(n, d, generator=draws), dim=1)


def network_points(options: argparse.Namespace) -> Tensor:
    """Whitened features (n, d) of random crops, the images in turn, by a network of the preset."""
    preset = load_preset(options.preset)
    trunk = pretrain_method(preset, options.method, options.seed, device="cpu").eval()
    pixels = method_pixels(preset, options.method, prepare_data(preset))
    batches = (torch.arange(options.n) % len(pixels)).split(CROPS)
    crops = pixels.crop_batches(batches, preset.method(options.method).train.crop_area, range(len(batches)))
    with torch.no_grad():
        features = torch.cat([trunk(batch.contiguous(memory_format=torch.channels_last)) for batch in crops])
    points, _ = whiten(features, options.d)
    assert isinstance(points, Tensor)  # as the features are
    return points


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


def by_super_kmeans(points: Tensor, initial: Tensor, n_iter: int) -> Tensor:
    """From points that it draws itself."""
    k, d = initial.shape
    found = faiss.SuperKmeans(d, k, niter=n_iter, max_points_per_centroid=len(points), min_points_per_centroid=1)
    found.train(points.numpy())
    found.assign(points.numpy())
    return torch.from_numpy(found.centroids)


def with_scikit_learn(used: dict[str, Any], package: str = "sklearn") -> Way:
    """Its number of updates goes to ``used``: it stops early where nothing changes any more."""
    means = importlib.import_module(f"{package}.cluster").KMeans

    def cluster(points: Tensor, initial: Tensor, n_iter: int) -> Tensor:
        found = means(len(initial), init=initial.numpy(), n_init=1, max_iter=n_iter, tol=0, algorithm="lloyd")
        centroids = found.fit(points.numpy()).cluster_centers_
        used[package] = found.n_iter_
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


def ways_of(k: int, d: int, used: dict[str, Any]) -> Iterator[tuple[str, Way]]:
    """Everything that is compared on k clusters in d dimensions, ours first."""
    has_products = has_bfloat16(torch.float32, torch.device("cpu"))
    yield from ((b, with_backend(b, used)) for b in (OURS, *fastest.candidates(has_products)))
    yield from {"FAISS": by_faiss, "scikit-learn": with_scikit_learn(used)}.items()
    if d >= 2 * faiss.SuperKMeansParameters().d_prime_min:  # it refuses fewer
        yield SUPER, by_super_kmeans
    if importlib.util.find_spec("sklearnex"):
        yield "scikit-learn-intelex", with_scikit_learn(used, "sklearnex")
    if k <= LOOP_CLUSTERS:
        yield from zip(LOOPS, (by_clusters, by_batches), strict=True)


def measure(
    points: Tensor, k: int, options: argparse.Namespace, used: dict[str, Any]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds per update of every way in every repeat, and how far its inertia is from that of plain float32."""
    initial = points[draw_rows(len(points), k, generator(options.seed, "centroids"))]
    few = points[: options.loop_points]
    ways = dict(ways_of(k, options.d, used))
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


def records_of(work: str, seconds: dict[str, list[float]], inertia: dict[str, float]) -> list[Record]:
    """Seconds of each way beside ours, and how far its inertia is from that of plain float32."""
    records = side_by_side("kmeans", work, seconds, "s", ours=OURS)
    for way, value in inertia.items():
        print(f"inertia of {way}: {value:+.5%} beside plain float32")
        keys = {"way": way, "work": work}
        records.append(Record(name="inertia_beside_torch", value=value, unit="1", n=1, keys=keys))
    return records


def what_ran() -> dict[str, Any]:
    """Libraries of matrix products and of threads in this process, what they were limited to, and FAISS's build."""
    libraries = [
        " ".join(
            str(library.get(word)) for word in ("internal_api", "version", "architecture", "num_threads", "prefix")
        )
        for library in threadpool_info()
    ]
    return {
        "libraries": libraries,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "faiss_options": faiss.get_compile_options().strip(),
        "limits": {name: os.environ[name] for name in LIMITS if name in os.environ},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200_000, help="points")
    parser.add_argument("--d", type=int, default=256, help="dimensions")
    parser.add_argument("--k", default="1000", help="clusters, a number or several with commas")
    parser.add_argument("--preset", default="", help="whose network has features of crops, besides the groups")
    parser.add_argument("--method", default="deepercluster", help="of the preset")
    parser.add_argument("--iterations", type=int, default=10, help="updates")
    parser.add_argument("--loop-points", type=int, default=10_000, help="points of the plain loops")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=record_path("kmeans"))
    options = parser.parse_args()
    start, used = time.monotonic(), dict[str, Any]()
    sets = {"": make_points(options.n, options.d, options.seed)}
    if options.preset:
        sets[f", features of {options.method} of {options.preset}"] = network_points(options)
    kept = f", kept to {os.environ['ATEN_CPU_CAPABILITY'].upper()}" if "ATEN_CPU_CAPABILITY" in os.environ else ""
    records, auto_took, worst = list[Record](), dict[str, str](), 0.0
    for (name, points), k in product(sets.items(), map(int, options.k.split(","))):
        work = f"an update of {k:,} centroids by {len(points):,} points of {options.d} dimensions{name}{kept}"
        fastest.kept.clear()  # these points may be unlike the last
        seconds, inertia = measure(points, k, options, used)
        auto_took[work] = used[OURS]
        records += records_of(work, seconds, inertia)
        worst = max(worst, *(abs(value) for way, value in inertia.items() if way != SUPER))
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    card = benchmark_card(
        {**settings, "middles": MIDDLES, "spread": SPREAD},
        ("cluster", "precision"),
        start,
        device=device_name(torch.device("cpu")),
        seed=options.seed,
        auto_took=auto_took,
        scikit_learn_updates=used["sklearn"],
        **what_ran(),
    )
    write_records(options.output, card, records)
    if worst > INERTIA_TOLERANCE:
        raise SystemExit(f"inertia must agree within {INERTIA_TOLERANCE:.1%}; one is {worst:.3%} off")


if __name__ == "__main__":
    main()
