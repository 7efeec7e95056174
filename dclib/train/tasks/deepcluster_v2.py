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
from dclib.models.device import send
from dclib.randomness import derive_seed, generator
from dclib.train import health
from dclib.train.tasks.crops import Crops
from dclib.train.tasks.task import Run, Views, due_by_rule


class DeepClusterV2(Crops):
    """A memory of each image's vector, its clusters, and their centroids."""

    settings: DeepClusterV2Settings

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        super().__init__(config, pixels, seed, device)
        self.head = self.projection
        n, k, parts = len(pixels), config.cluster.n_sub, self.settings.partitions
        self.memory = torch.zeros(n, self.settings.dim)
        self.clusters = torch.zeros(parts, n, dtype=torch.int64)
        self.centroids = torch.zeros(parts, k, self.settings.dim, device=device)

    def is_due(self, run: Run) -> bool:
        """At the start of every r-th epoch, until the stated share of the epochs is over."""
        return due_by_rule(self.config, run)

    def renew(self, run: Run, stored: Path, report: Callable[[str], None]) -> None:
        """Cluster what is remembered; before the first epoch, what the network makes of all images as it was drawn."""
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
        """The vectors (n, dim) of a crop of each image, by the network as it trains: in batches, whose own statistics
        batch norm takes, for running ones say nothing before the first step."""
        pieces = torch.randperm(len(self.pixels), generator=generator(self.seed, "first look")).tensor_split(
            max(1, len(self.pixels) // self.config.train.batch_size)
        )
        shares = [shard(len(piece)) for piece in pieces]
        places = [torch.arange(share.start, share.stop) for share in shares]
        seeds = [derive_seed(self.seed, "first look", number) for number in range(len(pieces))]
        crops = self.pixels.of_size(self.views[0]).crop_batches(pieces, self.crop_area(0), seeds, places)
        memory = torch.empty_like(self.memory)
        run.trunk.train()
        for piece, own, images in zip(pieces, places, crops, strict=True):
            (vectors,) = self.vectors(run.trunk, [images])
            memory[piece] = gather(vectors.cpu(), own, len(piece)).to(memory.dtype)
        return memory

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
