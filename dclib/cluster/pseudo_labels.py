"""Features to pseudo-labels: whitening, unit length, then k-means on two levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dclib.cluster.counts import check_cluster_counts
from dclib.cluster.kmeans import Shards, draw_rows, kmeans, rows_of
from dclib.cluster.nearest import SEARCHES
from dclib.cluster.stored_rows import Rows, StoredRows, some_rows
from dclib.cluster.whitening import BLOCK_ROWS, PcaWhitening, fit_pca_whitening, l2_normalise, usable_pca_dim
from dclib.config import ClusterConfig
from dclib.distributed import all_reduce_sum, end_team, gather, make_team, shard, wait_for_all, world_size

BACKENDS = tuple(sorted(SEARCHES))


@dataclass(frozen=True)
class PseudoLabels:
    """What each image is called until the next clustering."""

    super_cluster: Tensor  # (n,) int64 in [0, n_super)
    sub_class: Tensor  # (n,) int64 in [0, n_sub), counted inside its super-cluster
    n_super: int
    n_sub: int

    @property
    def clusters(self) -> Tensor:
        """One number per image over both levels, (n,) int64 in [0, n_super * n_sub)."""
        return self.super_cluster * self.n_sub + self.sub_class

    @property
    def counts(self) -> Tensor:
        """Images in each cluster, (n_super * n_sub,)."""
        return torch.bincount(self.clusters, minlength=self.n_super * self.n_sub)


@dataclass(frozen=True)
class Clustering:
    """Pseudo-labels, and what a reader wants to know about how they came about."""

    labels: PseudoLabels
    inertia: float  # mean squared distance to the sub-cluster's centroid
    explained_variance: float  # share kept by the PCA
    pca_dim: int  # dimensions it kept
    backend: str
    notices: tuple[str, ...]  # what was adapted to the data, in words
    variances: Tensor | None = None  # (pca_dim,) of the features on the kept axes; None where they were not whitened


def cluster_features(
    features: Rows, config: ClusterConfig, generator: torch.Generator, *, work: Path | None = None
) -> Clustering:
    """Whiten, normalise and cluster features on two levels.

    Args:
        features: (n, d) floating point, one row per image, in memory or stored. With several processes every rank
            is given the whole matrix and takes its share of the work.
        config: Clusters and dimensions; a PCA dimension that n or d cannot support is clipped, with a notice.
        generator: Draws the initial centroids of every k-means; in the same state on every rank.
        work: Folder, shared by all processes, that keeps the whitened points of stored features meanwhile.

    Returns:
        The labels of all images and the rest, the same on every rank.

    Raises:
        ValueError: more clusters than images, or features that are not finite.

    Source: supplement, section 5; released code, src/clustering.py. The whitening is fitted once, on all images,
    and not again inside a super-cluster.
    """
    n, d = features.shape
    check_cluster_counts(n, config)
    notices = []
    dim = usable_pca_dim(config.pca_dim, n, d)
    if dim < config.pca_dim:
        notices.append(f"PCA keeps {dim} dimensions instead of {config.pca_dim}: there are {n} images of {d} features")
    points, whitening = whiten(features, dim, work)
    super_cluster = _first_level(points, config, generator)
    sizes = torch.bincount(super_cluster, minlength=config.n_super).tolist()
    for c, size in enumerate(sizes):
        if size < config.n_sub:
            notices.append(f"super-cluster {c} has {size} images, so {size} sub-clusters instead of {config.n_sub}")
    sub_class, inertia, backend = _second_level(points, super_cluster, sizes, config, generator)
    labels = PseudoLabels(super_cluster, sub_class, config.n_super, config.n_sub)
    return Clustering(labels, inertia, whitening.explained, dim, backend, tuple(notices), whitening.variances)


def whiten(features: Rows, dim: int, work: Path | None = None) -> tuple[Rows, PcaWhitening]:
    """Whitened features of unit length, (n, dim), and how they were whitened; stored where the features are."""
    if isinstance(features, Tensor):
        whitening = fit_pca_whitening(some_rows(features, shard(len(features))), dim)
        return l2_normalise(whitening.transform(features)), whitening
    if work is None:
        raise ValueError("stored features need a folder for their whitened points: give work")
    points = StoredRows.at(work, len(features), dim, features.precision).to(features.device)
    files = shard(points.n_files)
    mine = features.rows(points.rows_in(files))
    whitening = fit_pca_whitening(mine, dim)
    points.check_space()
    for file, block in zip(files, mine.split(points.rows_per_file), strict=False):  # without files, an empty block
        whitened = block.new_empty(len(block), dim)
        for part, into in zip(block.split(BLOCK_ROWS), whitened.split(BLOCK_ROWS), strict=True):
            into.copy_(l2_normalise(whitening.transform(part)))
        points.write(file, whitened)
    wait_for_all()
    return points, whitening


def _first_level(points: Rows, config: ClusterConfig, generator: torch.Generator) -> Tensor:
    """Super-cluster of every image, (n,) int64 on the CPU."""
    n = len(points)
    if config.n_super == 1:
        return torch.zeros(n, dtype=torch.int64)
    mine = shard(n)
    top = kmeans(
        some_rows(points, mine), config.n_super, generator=generator, n_iter=config.n_iter, backend=config.backend
    )
    return gather(top.assignments.cpu(), torch.arange(mine.start, mine.stop), n)


def _second_level(
    points: Rows, super_cluster: Tensor, sizes: Sequence[int], config: ClusterConfig, generator: torch.Generator
) -> tuple[Tensor, float, str]:
    """Sub-class of every image (n,) on the CPU, mean squared distance to its centroid, and the back-ends that ran.

    Super-clusters are spread over the ranks by size; each is clustered by its team alone.
    """
    n = len(points)
    ks = [min(config.n_sub, size) for size in sizes]
    # drawn by all ranks for all super-clusters, in order: who clusters what changes no number
    starts = [draw_rows(size, k, generator) if k else None for size, k in zip(sizes, ks, strict=True)]
    teams = spread(sizes, world_size())
    sub_class = torch.zeros(n, dtype=torch.int64)
    squared = torch.zeros(config.n_super, dtype=torch.float64)
    used = torch.zeros(len(BACKENDS))
    team = make_team(sorted(set(teams)))
    for c, start in enumerate(starts):
        if start is None or teams[c] != team.ranks:
            continue
        members = (super_cluster == c).nonzero().squeeze(1)
        mine = members[shard(len(members), team)]
        own = some_rows(points, mine)
        initial = rows_of(own, start, Shards.of(own, team))
        sub = kmeans(
            own, ks[c], generator=generator, n_iter=config.n_iter, backend=config.backend, initial=initial, team=team
        )
        sub_class[mine] = sub.assignments.cpu()
        used[BACKENDS.index(sub.backend)] = 1
        if team.place == 0:
            squared[c] = sub.inertia * len(members)
    end_team(team)
    used = all_reduce_sum(used)
    backend = "+".join(name for name, ranks in zip(BACKENDS, used.tolist(), strict=True) if ranks)
    return all_reduce_sum(sub_class), float(all_reduce_sum(squared).sum()) / n, backend


def spread(sizes: Sequence[int], n_ranks: int) -> list[tuple[int, ...]]:
    """The ranks that cluster each super-cluster: shares of them by size, or, where there are fewer, whole bins.

    With at least as many ranks as super-clusters each gets ranks of its own, at least one; with fewer, the largest
    super-cluster goes to the rank with the least to do, and so on.
    """
    teams: list[tuple[int, ...]] = [()] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda c: (-sizes[c], c))
    if n_ranks < len(sizes):
        load = [0] * n_ranks
        for c in order:
            least = load.index(min(load))
            teams[c] = (least,)
            load[least] += sizes[c]
        return teams
    counts = [1] * len(sizes)
    for _ in range(n_ranks - len(sizes)):  # the next rank helps where most is left for each
        busiest = max(order, key=lambda c: sizes[c] / counts[c])
        counts[busiest] += 1
    first = 0
    for c, count in enumerate(counts):
        teams[c] = tuple(range(first, first + count))
        first += count
    return teams
