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

WHOLE = 0.9  # smallest share of an image that stands for the mean of its crops


class DeepClusterV2(Crops):
    """A memory of each image's vector, its clusters, and their centroids."""

    settings: DeepClusterV2Settings

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        super().__init__(config, pixels, seed, device)
        self.head = self.projection
        n, k, parts = len(pixels), config.cluster.n_sub, self.settings.partitions
        if k > n:
            raise ValueError(f"need an image for each cluster; got {n} images and {k} clusters: lower cluster.n_sub")
        self.memory = torch.zeros(n, self.settings.dim)
        self.seen = torch.zeros(n, dtype=torch.bool)  # since the last clustering
        self.clusters = torch.zeros(parts, n, dtype=torch.int64)
        self.centroids = torch.zeros(parts, k, self.settings.dim, device=device)

    def is_due(self, run: Run) -> bool:
        """At the start of every r-th epoch, until the stated share of the epochs is over."""
        return due_by_rule(self.config, run)

    def renew(self, run: Run, stored: Path, report: Callable[[str], None]) -> None:
        """Cluster what is remembered of the last epoch; images that it has not shown are looked at now."""
        self.look_at(run, (~self.seen).nonzero().squeeze(1))
        self.seen.zero_()
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
    def look_at(self, run: Run, images: Tensor) -> None:
        """Remember each of these (m,) nearly whole, by the network as it trains: in batches, whose own statistics batch
        norm takes, for running ones say nothing before the first step."""
        order = torch.randperm(len(images), generator=generator(self.seed, "look", run.clusterings))
        pieces = [p for p in images[order].tensor_split(max(1, len(order) // self.config.train.batch_size)) if len(p)]
        shares = [shard(len(piece)) for piece in pieces]
        places = [torch.arange(share.start, share.stop) for share in shares]
        seeds = [derive_seed(self.seed, "look", run.clusterings, number) for number in range(len(pieces))]
        crops = self.pixels.of_size(self.views[0]).crop_batches(pieces, WHOLE, seeds, places)
        run.trunk.train()
        for piece, own, seen in zip(pieces, places, crops, strict=True):
            (vectors,) = self.vectors(run.trunk, [seen])
            self.memory[piece] = gather(vectors.cpu(), own, len(piece)).to(self.memory.dtype)

    def add_gradients(self, trunk: nn.Module, views: Views, plan: EpochPlan, rows: Tensor) -> Tensor:
        """Loss, and how often a crop was nearest to the right centroid, in the mean over crops and clusterings."""
        vectors = self.vectors(trunk, views)
        self.remember(torch.stack(vectors[: self.settings.crops]).mean(dim=0).detach(), plan, rows)
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
        """Keep the directions of this batch's vectors (b, dim), those of other processes too."""
        values, places = self.of_all(vectors, plan, rows)
        start = int(rows[0]) // plan.batch_size * plan.batch_size
        shown = plan.index[start + places]
        self.memory[shown], self.seen[shown] = F.normalize(values.to(self.memory), dim=1), True

    @property
    def chance_loss(self) -> float:
        return health.chance_loss(1, self.config.cluster.n_sub)

    def asked(self, hits: Sequence[float]) -> dict[str, tuple[float, float]]:
        return {"centroid": (hits[0], self.config.cluster.n_sub)}

    def double(self) -> None:
        super().double()
        self.memory, self.centroids = self.memory.double(), self.centroids.double()

    def snapshot(self) -> dict[str, Any]:
        kept = {"memory": self.memory, "seen": self.seen, "clusters": self.clusters, "centroids": self.centroids}
        return {**super().snapshot(), **kept}

    def restore(self, saved: Mapping[str, Any]) -> None:
        super().restore(saved)
        self.memory, self.seen, self.clusters = saved["memory"], saved["seen"], saved["clusters"]
        self.centroids = saved["centroids"].to(self.device)


TASK = DeepClusterV2
