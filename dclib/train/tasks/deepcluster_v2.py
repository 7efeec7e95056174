"""DeepCluster-v2: every crop is to be nearest to the centroid of its image's cluster.

Source: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020. What
is new beside DeepCluster: vectors of unit length instead of whitened features, remembered from the last epoch's steps
instead of made in a pass of their own; centroids in place of a classifier that starts afresh; several crops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclib.cluster.pseudo_labels import Clustering, PseudoLabels
from dclib.cluster.spherical import spherical_kmeans
from dclib.config import MethodConfig
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.distributed import gather, shard, world_size
from dclib.methods.deepcluster_v2 import DeepClusterV2Settings
from dclib.models.device import products_in, send
from dclib.randomness import generator
from dclib.train import health
from dclib.train.features import FEATURE_BATCH, feature_batches
from dclib.train.tasks.crops import Crops
from dclib.train.tasks.task import Run, Views, due_by_rule


class DeepClusterV2(Crops):
    """A memory of each image's vector, its clusters, and their centroids."""

    settings: DeepClusterV2Settings

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        super().__init__(config, pixels, seed, device)
        self.head = self.projection
        n, k, parts = len(pixels), config.cluster.n_sub, self.settings.partitions
        if k > n:
            raise ValueError(
                f"need at least one image per cluster; got {n} images and {k} clusters: lower cluster.n_sub"
            )
        self.memory = torch.zeros(n, self.settings.dim)
        self.clusters = torch.zeros(parts, n, dtype=torch.int64)
        self.centroids = torch.zeros(parts, k, self.settings.dim, device=device)

    def is_due(self, run: Run) -> bool:
        """At the start of every r-th epoch, until the stated share of the epochs is over."""
        return due_by_rule(self.config, run)

    def renew(self, run: Run, stored: Path, report: Callable[[str], None]) -> None:
        """Cluster what is remembered; before the first epoch, the vectors of the images' middles."""
        if run.clusterings == 0:
            self.memory = self.look_at_all(run)
        cluster = self.config.cluster
        previous, labels = self.labels if run.clusterings else None, self.pixels.images.labels
        for part in range(self.settings.partitions):
            draws = generator(self.seed, "clustering", run.clusterings, part)
            centroids, self.clusters[part] = spherical_kmeans(self.memory, cluster.n_sub, cluster.n_iter, draws)
            self.centroids[part] = centroids
        own = self.centroids[0].cpu()[self.clusters[0]]
        inertia = float((2 - 2 * (self.memory * own).sum(dim=1)).mean())
        clustering = Clustering(self.labels, inertia, 1.0, self.settings.dim, "torch", ())
        values = health.clustering_values(clustering, previous, None if labels is None else torch.from_numpy(labels))
        run.has_renewed(values)
        report(health.clustering_line(values, len(self.pixels), "directions"))

    @property
    def labels(self) -> PseudoLabels:
        """The first of the clusterings."""
        first = self.clusters[0].clone()
        return PseudoLabels(torch.zeros_like(first), first, 1, self.config.cluster.n_sub)

    @torch.no_grad()
    def look_at_all(self, run: Run) -> Tensor:
        """The vectors (n, dim) of all images' middles, by a network in evaluation."""
        rows, precision = shard(len(self.pixels)), self.config.train.precision
        self.projection.eval()
        with products_in(precision, self.device):
            made = [
                self.projection(features.to(self.device)).cpu()
                for features in feature_batches(run.trunk, self.pixels, rows, FEATURE_BATCH, precision)
            ]
        self.projection.train()
        own = torch.cat(made) if made else self.memory[:0]
        return gather(own, torch.arange(rows.start, rows.stop), len(self.pixels))

    def add_gradients(self, trunk: nn.Module, views: Views, plan: EpochPlan, rows: Tensor) -> Tensor:
        """Loss, and how often a crop was nearest to the right centroid, in the mean over crops and clusterings."""
        vectors = self.vectors(trunk, views)
        self.remember(vectors[0].detach(), plan, rows)
        target = send(self.clusters[:, plan.index[rows]], self.device)  # (parts, b)
        scores = [torch.einsum("bd,pkd->pbk", vector, self.centroids.to(vector.dtype)) for vector in vectors]
        asked = len(vectors) * len(target)
        losses = [
            F.cross_entropy((score / self.settings.temperature).flatten(0, 1), target.flatten(), reduction="sum")
            for score in scores
        ]
        loss = torch.stack(losses).sum() / (asked * plan.batch_size)
        (loss * world_size()).backward()  # parts of a sum, and gradients are averaged
        hits = torch.stack([(score.argmax(dim=2) == target).sum() for score in scores]).sum() / asked
        return torch.stack([loss.detach(), hits.to(loss.dtype)])

    def remember(self, vectors: Tensor, plan: EpochPlan, rows: Tensor) -> None:
        """Keep the vectors (b, dim) of this batch, those of the other processes too, until the next clustering."""
        values, places = self.of_all(vectors, plan, rows)
        start = int(rows[0]) // plan.batch_size * plan.batch_size
        self.memory[plan.index[start + places]] = values.to(self.memory)

    @property
    def chance_loss(self) -> float:
        return health.chance_loss(1, self.config.cluster.n_sub)

    def asked(self, hits: Sequence[float]) -> dict[str, tuple[float, float]]:
        return {"centroid": (hits[0], self.config.cluster.n_sub)}

    def snapshot(self) -> dict[str, Any]:
        kept = {"memory": self.memory, "clusters": self.clusters, "centroids": self.centroids}
        return {**super().snapshot(), **kept}

    def restore(self, saved: Mapping[str, Any]) -> None:
        super().restore(saved)
        self.memory, self.clusters = saved["memory"], saved["clusters"]
        self.centroids = saved["centroids"].to(self.device)


TASK = DeepClusterV2
