"""Features to pseudo-labels: whitening, unit length, then k-means on two levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dclib.cluster.kmeans import kmeans
from dclib.cluster.whitening import fit_pca_whitening, l2_normalise, usable_pca_dim
from dclib.config import ClusterConfig

POINTS_PER_CLUSTER = 39  # below this many points a cluster, FAISS and experience call a clustering under-sampled


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


def check_cluster_counts(n_images: int, config: ClusterConfig) -> None:
    """ValueError if there are fewer images than clusters; called before any feature is computed."""
    if config.n_clusters > n_images:
        raise ValueError(
            f"need at least one image per cluster: {config.n_super} x {config.n_sub} = {config.n_clusters} clusters "
            f"for {n_images} images; set cluster.n_sub to at most {max(2, n_images // config.n_super)}, better "
            f"{max(2, n_images // POINTS_PER_CLUSTER // config.n_super)} ({POINTS_PER_CLUSTER} images a cluster)"
        )


def cluster_features(features: Tensor, config: ClusterConfig, generator: torch.Generator) -> Clustering:
    """Whiten, normalise and cluster features on two levels.

    Args:
        features: (n, d) floating point, one row per image.
        config: Clusters and dimensions; a PCA dimension that n or d cannot support is clipped, with a notice.
        generator: Draws the initial centroids of every k-means.

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
    whitening = fit_pca_whitening(features, dim)
    points = l2_normalise(whitening.transform(features))
    top = kmeans(points, config.n_super, generator=generator, n_iter=config.n_iter, backend=config.backend)
    sub_class = torch.zeros_like(top.assignments)
    squared_distance, backends = 0.0, set()
    for c in range(config.n_super):
        members = (top.assignments == c).nonzero().squeeze(1)
        k = min(config.n_sub, len(members))
        if k < config.n_sub:
            notices.append(
                f"super-cluster {c} has {len(members)} images, so {k} sub-clusters instead of {config.n_sub}"
            )
        if k == 0:
            continue
        sub = kmeans(points[members], k, generator=generator, n_iter=config.n_iter, backend=config.backend)
        sub_class[members] = sub.assignments
        squared_distance += sub.inertia * len(members)
        backends.add(sub.backend)
    labels = PseudoLabels(top.assignments.cpu(), sub_class.cpu(), config.n_super, config.n_sub)
    return Clustering(
        labels, squared_distance / n, whitening.explained, dim, "+".join(sorted(backends)), tuple(notices)
    )
