"""Lloyd's k-means with squared Euclidean distance: exact, blocked, and never leaving a cluster empty.

The points of the method are unit vectors, the centroids are plain means and are not normalised again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dclib.cluster.fastest import fastest_backend
from dclib.cluster.nearest import SEARCHES, has_bfloat16, import_faiss
from dclib.cluster.stored_rows import Rows
from dclib.distributed import Team, all_reduce_max, all_reduce_sum, everyone

Backend = Literal["auto", "torch", "torch-axes", "torch-bf16", "numpy", "faiss"]
# rows times d, taken at once: 32 MiB in float32, and 128 on a GPU, which has to start anew for every block
BLOCK_ELEMENTS, CUDA_BLOCK_ELEMENTS = 2**23, 2**25
SUMMED_ELEMENTS = 2**20  # rows times d, summed at once by a CPU: 8 MiB in float64, which its caches hold
SPLIT_STEP = 1 / 16  # how far each half of a split moves, as a share of the way to the donor's farthest point
COPIES = 1e-6  # square of the reach, in units of the points' scale, below which a cluster holds copies of one point
SETTLING_ROUNDS = 10  # at most this many repairs of empty clusters after the last update


@dataclass(frozen=True)
class KMeansResult:
    """Centroids (k, d), the nearest one of each point (n,), and how well they fit."""

    centroids: Tensor
    assignments: Tensor  # (n,) int64
    counts: Tensor  # (k,) int64, points in each cluster
    inertia: float  # mean squared distance of a point to its centroid
    history: tuple[float, ...]  # the same at every pass, first to last
    n_splits: int  # empty clusters that were refilled on the way
    backend: str  # never "auto": what really ran


def kmeans(
    points: Rows,
    k: int,
    *,
    generator: torch.Generator,
    n_iter: int = 10,
    backend: Backend = "auto",
    initial: Tensor | None = None,
    team: Team | None = None,
) -> KMeansResult:
    """Cluster ``points`` into ``k`` clusters by ``n_iter`` Lloyd updates and one last assignment.

    A cluster that loses all its points is refilled by splitting one of the largest, a different one for each.
    Clusters may stay empty only if there are fewer than k distinct points.

    Args:
        points: (n, d) float32 or float64, on any device, in memory or stored. Never modified. With several
            processes, this rank's rows, in the order of ranks; n is then the sum over them, and a rank may have none.
        k: Clusters, 1 <= k <= n.
        generator: Draws the initial centroids, k distinct rows. A CPU generator, in the same state on every rank.
        n_iter: Updates of the centroids.
        backend: Who finds the nearest centroids: ``"torch"`` or ``"torch-bf16"`` on the device of the points,
            ``"torch-axes"``, ``"numpy"`` and ``"faiss"`` on the CPU. All find the same ones, but for ties within
            rounding, so that what is found does not depend on the machine. ``"auto"`` takes the fastest for these
            points, after a short trial where the clustering is long
            (:func:`dclib.cluster.fastest.fastest_backend`); the result says which.
        initial: (k, d) centroids to start from instead.
        team: The ranks that share the points; all of them by default.

    Returns:
        Centroids, inertia and counts over all ranks, the same on each; the assignments of this rank's points.

    Raises:
        ValueError: k is outside [1, n], the points are not (n, d) and finite, or the back-end cannot run here.

    Source: released code, src/distributed_kmeans.py. Differs: blocks instead of batches of 48, distinct donors for
    empty clusters (there a constant seed picks the same donor each time), a split step well above rounding, a last
    assignment that is consistent with the returned centroids, and initial centroids from all ranks' points.
    """
    shards = Shards.of(points, team or everyone())
    check_points(points, k, shards.total)
    if n_iter < 1:
        raise ValueError(f"n_iter must be at least 1; got {n_iter}")
    if initial is None:
        initial = rows_of(points, draw_rows(shards.total, k, generator), shards)
    elif initial.shape != (k, points.shape[1]):
        raise ValueError(f"initial must be ({k}, {points.shape[1]}); got {tuple(initial.shape)}")
    return _lloyd(points, initial, n_iter, _resolve(backend, points, initial, n_iter), shards)


@dataclass(frozen=True)
class Shards:
    """Which of all rows this rank holds."""

    total: int  # rows over all ranks
    first: int  # number of this rank's first one
    team: Team

    @classmethod
    def of(cls, points: Rows, team: Team) -> Shards:
        """Where ``points`` stand among those of all ranks of ``team``."""
        sizes = torch.zeros(team.size, dtype=torch.int64)
        sizes[team.place] = len(points)
        sizes = all_reduce_sum(sizes, team)
        return cls(int(sizes.sum()), int(sizes[: team.place].sum()), team)


def draw_rows(n: int, k: int, generator: torch.Generator) -> Tensor:
    """Numbers of k distinct rows of n, (k,)."""
    return torch.randperm(n, generator=generator)[:k].clone()  # a slice would keep all n alive


def rows_of(points: Rows, numbers: Tensor, shards: Shards) -> Tensor:
    """The rows with these numbers, whoever holds them, (len(numbers), d), on every rank."""
    here = numbers.to(points.device) - shards.first
    mine = ((here >= 0) & (here < len(points))).nonzero().squeeze(1)
    rows = torch.zeros(len(numbers), points.shape[1], dtype=points.dtype, device=points.device)
    rows[mine] = points[here[mine]]
    return all_reduce_sum(rows, shards.team)


def check_points(points: Rows, k: int, total: int) -> None:
    """ValueError unless ``points`` is (n, d), finite, and 1 <= k <= ``total``, the rows of all ranks."""
    if points.ndim != 2:
        raise ValueError(f"points must be (n, d); got shape {tuple(points.shape)}")
    if not 1 <= k <= total:
        raise ValueError(f"k must be in [1, {total}], the number of points; got {k}")
    start = 0
    for block in points.split(_rows_per_block(points)):
        if not bool(torch.isfinite(block).all()):
            bad = (~torch.isfinite(block).all(dim=1)).nonzero().squeeze(1)[:5] + start
            raise ValueError(f"points must be finite; rows {bad.tolist()} are not")
        start += len(block)


def assign(points: Rows, centroids: Tensor, backend: str = "torch") -> tuple[Tensor, Tensor]:
    """E step: nearest centroid (n,) int64 and squared distance to it (n,), ties to the lower number.

    Only a block of rows by d and one of rows by k are ever held, whatever n.
    """
    search = SEARCHES[backend](centroids)
    nearest = torch.empty(len(points), dtype=torch.int64, device=centroids.device)
    distances = torch.empty(len(points), dtype=centroids.dtype, device=centroids.device)
    start = 0
    for block in points.split(_rows_per_block(points)):
        rows = slice(start, start + len(block))
        nearest[rows], distances[rows] = search(block)
        start += len(block)
    return nearest, distances


def update_centroids(
    points: Rows, assignments: Tensor, centroids: Tensor, team: Team | None = None
) -> tuple[Tensor, Tensor]:
    """M step: mean of each cluster's points (k, d), summed in float64, and the counts (k,), over all ranks.

    An empty cluster keeps its centroid.
    """
    k, d = centroids.shape
    sums = torch.zeros(k, d, dtype=torch.float64, device=centroids.device)
    rows = _rows_per_block(points)
    at_once = rows if sums.is_cuda else max(1, SUMMED_ELEMENTS // d)
    room = sums.new_empty(min(len(points), at_once), d)  # at every block anew it would take longer than the sum
    for block, labels in zip(points.split(rows), assignments.split(rows), strict=True):
        for part, own in zip(block.split(at_once), labels.split(at_once), strict=True):
            sums.index_add_(0, own, room[: len(part)].copy_(part))
    counts = torch.bincount(assignments, minlength=k)
    sums, counts = all_reduce_sum(sums, team), all_reduce_sum(counts, team)
    means = (sums / counts.clamp(min=1).unsqueeze(1)).to(centroids.dtype)
    return torch.where((counts > 0).unsqueeze(1), means, centroids), counts


def split_empty(
    points: Rows, assignments: Tensor, centroids: Tensor, counts: Tensor, shards: Shards
) -> tuple[Tensor, int]:
    """Split one of the largest clusters for each empty one, a distinct donor for each; the same on every rank.

    The two halves move apart on the line from the donor's centroid to its farthest point, so that neither can come
    out empty. A cluster that holds copies of one point is no donor, however large: it has no halves.

    Args:
        points: (n, d). assignments: (n,). centroids: (k, d), the means of their points. counts: (k,), of all ranks.

    Returns:
        New centroids (k, d) and how many were refilled: never more than there are clusters that can be split.
    """
    empty = (counts == 0).nonzero().squeeze(1)
    if len(empty) == 0:
        return centroids, 0
    farthest, reach, mean_square = farthest_members(points, assignments, centroids, shards)
    donors = counts.argsort(descending=True, stable=True)
    donors = donors[reach[donors] > COPIES * mean_square][: len(empty)]
    empty = empty[: len(donors)]
    step = SPLIT_STEP * (rows_of(points, farthest[donors], shards) - centroids[donors])
    moved = centroids.clone()
    moved[empty] = centroids[donors] + step
    moved[donors] = centroids[donors] - step
    return moved, len(empty)


def farthest_members(
    points: Rows, assignments: Tensor, centroids: Tensor, shards: Shards
) -> tuple[Tensor, Tensor, Tensor]:
    """For each cluster the number of its farthest point over all ranks (k,), -1 if it is empty, and that squared
    distance (k,); and the points' mean squared length ()."""
    rows = _rows_per_block(points)
    squared = torch.empty(len(assignments), dtype=centroids.dtype, device=centroids.device)
    length = torch.zeros((), dtype=torch.float64, device=centroids.device)
    start = 0
    for block, labels in zip(points.split(rows), assignments.split(rows), strict=True):
        squared[start : start + len(block)] = (block - centroids[labels]).square().sum(dim=1)
        length += block.double().square().sum()
        start += len(block)
    reach = squared.new_zeros(len(centroids)).scatter_reduce_(0, assignments, squared, "amax")
    reach = all_reduce_max(reach, shards.team)
    at_reach = (squared == reach[assignments]).nonzero().squeeze(1)
    farthest = torch.full((len(centroids),), -1, dtype=torch.int64, device=centroids.device)
    farthest.scatter_reduce_(0, assignments[at_reach], at_reach + shards.first, "amax")
    return all_reduce_max(farthest, shards.team), reach, all_reduce_sum(length, shards.team) / shards.total


def _lloyd(points: Rows, centroids: Tensor, n_iter: int, backend: str, shards: Shards) -> KMeansResult:
    """``n_iter`` updates, then as many repairs of empty clusters as it takes."""
    history: list[float] = []
    n_splits = 0
    assignments, distances = assign(points, centroids, backend)
    for iteration in range(n_iter + SETTLING_ROUNDS):
        history.append(_mean(distances, shards))
        updated, counts = update_centroids(points, assignments, centroids, shards.team)
        if iteration >= n_iter and int(counts.min()) > 0:
            break
        refilled_centroids, refilled = split_empty(points, assignments, updated, counts, shards)
        if iteration >= n_iter and refilled == 0:
            break  # copies of fewer than k points
        centroids, n_splits = refilled_centroids, n_splits + refilled
        assignments, distances = assign(points, centroids, backend)
    else:
        history.append(_mean(distances, shards))
        _, counts = update_centroids(points, assignments, centroids, shards.team)
    return KMeansResult(centroids, assignments, counts, history[-1], tuple(history), n_splits, backend)


def _mean(distances: Tensor, shards: Shards) -> float:
    return float(all_reduce_sum(distances.double().sum(), shards.team)) / shards.total


def _rows_per_block(points: Rows) -> int:
    return max(1, (CUDA_BLOCK_ELEMENTS if points.device.type == "cuda" else BLOCK_ELEMENTS) // points.shape[1])


def _resolve(backend: Backend, points: Rows, initial: Tensor, n_iter: int) -> str:
    """The back-end that runs: the one asked for, or the fastest."""
    if backend == "auto":
        return fastest_backend(points, initial, n_iter + 1)
    if backend not in SEARCHES:
        raise ValueError(f"backend must be one of 'auto', {', '.join(map(repr, SEARCHES))}; got {backend!r}")
    if backend in ("torch-axes", "numpy") and (points.dtype != torch.float32 or points.device.type != "cpu"):
        raise ValueError(
            f"backend={backend!r} needs float32 points on a CPU; got {points.dtype} on {points.device}: use "
            "backend='auto'"
        )
    if backend == "torch-bf16" and not has_bfloat16(points.dtype, points.device):
        raise ValueError(
            "backend='torch-bf16' needs float32 points, on a CPU with bfloat16 instructions or a GPU of compute "
            f"capability 8.0 with Triton; got {points.dtype} on {points.device}: use backend='auto'"
        )
    if backend == "faiss":
        import_faiss()
    return backend
