"""Lloyd's k-means with squared Euclidean distance: exact, blocked, and never leaving a cluster empty.

The points of the method are unit vectors, the centroids are plain means and are not normalised again.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from dclib.distributed import all_reduce_sum

Backend = Literal["auto", "torch", "faiss"]
BLOCK_ELEMENTS = 2**23  # rows times centroids, or times d, held at once by an E step: 32 MiB in float32
SPLIT_STEP = 1 / 16  # how far each half of a split moves, as a share of the way to the donor's farthest point
COPIES = 1e-6  # square of the reach, in units of the points' scale, below which a cluster holds copies of one point
FAISS_WORK = 2**31  # n * k * d from which FAISS's CPU kernels are worth their copies
SETTLING_ROUNDS = 10  # at most this many repairs of empty clusters after the last update


@dataclass(frozen=True)
class KMeansResult:
    """Centroids (k, d), the nearest one of each point (n,), and how well they fit."""

    centroids: Tensor
    assignments: Tensor  # (n,) int64
    inertia: float  # mean squared distance of a point to its centroid
    history: tuple[float, ...]  # the same at every pass, first to last
    n_splits: int  # empty clusters that were refilled on the way
    backend: str  # "torch" or "faiss": what really ran

    @property
    def counts(self) -> Tensor:
        """Points in each cluster, (k,)."""
        return torch.bincount(self.assignments, minlength=len(self.centroids))


def kmeans(
    points: Tensor,
    k: int,
    *,
    generator: torch.Generator,
    n_iter: int = 10,
    backend: Backend = "auto",
    initial: Tensor | None = None,
) -> KMeansResult:
    """Cluster ``points`` into ``k`` clusters by ``n_iter`` Lloyd updates and one last assignment.

    A cluster that loses all its points is refilled by splitting one of the largest, a different one for each.
    Clusters may stay empty only if there are fewer than k distinct points.

    Args:
        points: (n, d) float32 or float64, on any device. Never modified.
        k: Clusters, 1 <= k <= n.
        generator: Draws the initial centroids, k distinct rows. A CPU generator.
        n_iter: Updates of the centroids.
        backend: ``"torch"`` runs on the device of the points; ``"faiss"`` on the CPU. ``"auto"`` takes FAISS for
            large problems on the CPU where it is installed, torch elsewhere; the result says which ran.
        initial: (k, d) centroids to start from instead.

    Raises:
        ValueError: k is outside [1, n], or the points are not (n, d) and finite.

    Source: released code, src/distributed_kmeans.py. Differs: blocks instead of batches of 48, distinct donors for
    empty clusters (there a constant seed picks the same donor each time), a split step well above rounding, and
    a last assignment that is consistent with the returned centroids.
    """
    check_points(points, k)
    if n_iter < 1:
        raise ValueError(f"n_iter must be at least 1; got {n_iter}")
    if initial is None:
        chosen = torch.randperm(len(points), generator=generator)[:k]
        initial = points[chosen.to(points.device)]
    elif initial.shape != (k, points.shape[1]):
        raise ValueError(f"initial must be ({k}, {points.shape[1]}); got {tuple(initial.shape)}")
    seed = int(torch.randint(2**31, (1,), generator=generator))  # drawn for either, so that what follows is the same
    if _resolve(backend, points, k) == "faiss":
        return _kmeans_faiss(points, initial, n_iter, seed)
    return _kmeans_torch(points, initial, n_iter)


def check_points(points: Tensor, k: int) -> None:
    """ValueError unless ``points`` is (n, d), finite, and 1 <= k <= n."""
    if points.ndim != 2:
        raise ValueError(f"points must be (n, d); got shape {tuple(points.shape)}")
    n = len(points)
    if not 1 <= k <= n:
        raise ValueError(f"k must be in [1, {n}], the number of points; got {k}")
    if not bool(torch.isfinite(points).all()):
        bad = (~torch.isfinite(points).all(dim=1)).nonzero().squeeze(1)[:5]
        raise ValueError(f"points must be finite; rows {bad.tolist()} are not")


def assign(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """E step: nearest centroid (n,) int64 and squared distance to it (n,), ties to the lower number.

    Only a block of rows by k is ever held, whatever n.
    """
    centroid_norms = centroids.square().sum(dim=1)
    rows = max(1, BLOCK_ELEMENTS // max(centroids.shape))
    nearest, distances = [], []
    for block in points.split(rows):
        score, index = torch.addmm(centroid_norms, block, centroids.T, alpha=-2).min(dim=1)
        nearest.append(index)
        distances.append((score + block.square().sum(dim=1)).clamp(min=0))
    return torch.cat(nearest), torch.cat(distances)


def update_centroids(points: Tensor, assignments: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """M step: mean of each cluster's points (k, d), summed in float64, and the counts (k,).

    An empty cluster keeps its centroid.
    """
    k, d = centroids.shape
    sums = torch.zeros(k, d, dtype=torch.float64, device=points.device)
    for block, labels in zip(
        points.split(BLOCK_ELEMENTS // d + 1), assignments.split(BLOCK_ELEMENTS // d + 1), strict=True
    ):
        sums.index_add_(0, labels, block.double())
    counts = torch.bincount(assignments, minlength=k)
    sums, counts = all_reduce_sum(sums), all_reduce_sum(counts)
    means = (sums / counts.clamp(min=1).unsqueeze(1)).to(centroids.dtype)
    return torch.where((counts > 0).unsqueeze(1), means, centroids), counts


def split_empty(points: Tensor, assignments: Tensor, centroids: Tensor, counts: Tensor) -> tuple[Tensor, int]:
    """Split one of the largest clusters for each empty one, a distinct donor for each.

    The two halves move apart on the line from the donor's centroid to its farthest point, so that neither can come
    out empty. A cluster that holds copies of one point is no donor, however large: it has no halves.

    Args:
        points: (n, d). assignments: (n,). centroids: (k, d), the means of their points. counts: (k,).

    Returns:
        New centroids (k, d) and how many were refilled: never more than there are clusters that can be split.
    """
    empty = (counts == 0).nonzero().squeeze(1)
    if len(empty) == 0:
        return centroids, 0
    farthest, reach = farthest_members(points, assignments, centroids)
    scale = torch.linalg.vector_norm(points, dtype=torch.float64).square() / len(points)
    donors = counts.argsort(descending=True, stable=True)
    donors = donors[reach[donors] > COPIES * scale][: len(empty)]
    empty = empty[: len(donors)]
    step = SPLIT_STEP * (points[farthest[donors]] - centroids[donors])
    moved = centroids.clone()
    moved[empty] = centroids[donors] + step
    moved[donors] = centroids[donors] - step
    return moved, len(empty)


def farthest_members(points: Tensor, assignments: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """For each cluster the number of its farthest point (k,), 0 if it is empty, and that squared distance (k,)."""
    k, d = centroids.shape
    rows = BLOCK_ELEMENTS // d + 1
    squared = torch.cat(
        [
            (block - centroids[labels]).square().sum(dim=1)
            for block, labels in zip(points.split(rows), assignments.split(rows), strict=True)
        ]
    )
    reach = squared.new_zeros(k).scatter_reduce_(0, assignments, squared, "amax")
    at_reach = (squared == reach[assignments]).nonzero().squeeze(1)
    farthest = torch.zeros(k, dtype=torch.int64, device=points.device)
    return farthest.scatter_reduce_(0, assignments[at_reach], at_reach, "amax"), reach


def _kmeans_torch(points: Tensor, centroids: Tensor, n_iter: int) -> KMeansResult:
    history: list[float] = []
    n_splits = 0
    assignments, distances = assign(points, centroids)
    for iteration in range(n_iter + SETTLING_ROUNDS):
        history.append(float(distances.double().mean()))
        updated, counts = update_centroids(points, assignments, centroids)
        if iteration >= n_iter and int(counts.min()) > 0:
            break
        refilled_centroids, refilled = split_empty(points, assignments, updated, counts)
        if iteration >= n_iter and refilled == 0:
            break  # copies of fewer than k points
        centroids, n_splits = refilled_centroids, n_splits + refilled
        assignments, distances = assign(points, centroids)
    else:
        history.append(float(distances.double().mean()))
    return KMeansResult(centroids, assignments, history[-1], tuple(history), n_splits, "torch")


def _kmeans_faiss(points: Tensor, initial: Tensor, n_iter: int, seed: int) -> KMeansResult:
    faiss = _import_faiss()
    x = points.detach().cpu().float().contiguous().numpy()
    k, d = initial.shape
    trainer = faiss.Clustering(d, k)
    trainer.niter, trainer.seed, trainer.min_points_per_centroid = n_iter, seed, 1
    trainer.max_points_per_centroid = len(x)  # use every point
    faiss.copy_array_to_vector(initial.detach().cpu().float().contiguous().numpy().ravel(), trainer.centroids)
    trainer.train(x, faiss.IndexFlatL2(d))
    centroids = torch.from_numpy(faiss.vector_to_array(trainer.centroids).reshape(k, d).copy()).to(points)
    stats = [trainer.iteration_stats.at(i) for i in range(trainer.iteration_stats.size())]
    settled = _kmeans_torch(points, centroids, n_iter=0)  # FAISS neither assigns nor splits after its last update
    return replace(
        settled,
        history=(*(pass_.obj / len(x) for pass_ in stats), *settled.history),
        n_splits=sum(pass_.nsplit for pass_ in stats) + settled.n_splits,
        backend="faiss",
    )


def _resolve(backend: Backend, points: Tensor, k: int) -> str:
    if backend in ("torch", "faiss"):
        return backend
    if backend != "auto":
        raise ValueError(f"backend must be 'auto', 'torch' or 'faiss'; got {backend!r}")
    if points.device.type != "cpu" or points.numel() * k < FAISS_WORK:
        return "torch"
    try:
        _import_faiss()
    except ValueError:
        return "torch"
    return "faiss"


def _import_faiss() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation notices of its generated bindings
            import faiss
    except ImportError as error:
        raise ValueError(
            f"backend='faiss' needs FAISS, which cannot be imported ({error}); install faiss-cpu or use backend='torch'"
        ) from None
    return faiss
