"""Transitive invariance: pairs of patches by motion, by likeness, and by what follows from both.

Source: Wang, He and Gupta, "Transitive Invariance for Self-supervised Visual Representation Learning", ICCV 2017. A
patch A followed through a clip becomes A': the same thing seen otherwise. Its neighbours B among the patches of other
clips, by the features of the network that this one starts from (context prediction), are other things like it. Then A
and B', A' and B, A' and B' are pairs too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclib.config import MethodConfig
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.distributed import gather, shard, world_size
from dclib.methods.transitive import TransitiveSettings
from dclib.models.device import products_in, send, unrounded
from dclib.models.vgg import initialise
from dclib.randomness import derive_seed, generator
from dclib.train.features import FEATURE_BATCH, feature_batches
from dclib.train.tasks.task import Run, Task, Views

BLOCK = 4096  # patches whose neighbours are looked for at once


class Transitive(Task):
    """Patches with their tracks and clips, the neighbours of each track, and a vector for each patch."""

    settings: TransitiveSettings

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        super().__init__(config, pixels, seed, device)
        head = nn.Sequential(nn.Linear(config.model.feature_dim, self.settings.dim))
        initialise(head, generator(seed, "heads"))
        self.head = head.to(device)
        self.clip = torch.from_numpy(pixels.images.labels)  # of each patch
        self.n_tracks = len(pixels) // self.settings.frames  # a track's patches follow each other
        self.neighbours = torch.full((self.n_tracks, self.settings.neighbours), -1)  # tracks; -1: no more
        self.steps = 0  # parts of batches so far

    def is_due(self, run: Run) -> bool:
        """Once, before the first step: likeness is what the network that this one starts from makes of it."""
        return run.clusterings == 0

    def renew(self, run: Run, stored: Path, report: Callable[[str], None]) -> None:
        """Look for the neighbours of every track, by the features of its middle patch."""
        n, t = len(self.pixels), self.settings.frames
        rows, precision = shard(n), self.config.train.precision
        made = list(feature_batches(run.trunk, self.pixels, rows, FEATURE_BATCH, precision))
        own = torch.cat(made) if made else torch.zeros(0, self.config.model.feature_dim)
        features = gather(own, torch.arange(rows.start, rows.stop), n)[t // 2 :: t]
        self.neighbours = mutual_neighbours(features, self.clip[::t], self.settings.neighbours)
        alone = float((self.neighbours[:, 0] < 0).double().mean())
        run.has_renewed({"tracks": float(self.n_tracks), "without_neighbour": 100 * alone})
        report(f"{self.n_tracks:,} patches followed through {t} frames; {alone:.0%} of them have no other like them")

    def batches(self, plan: EpochPlan, places: Sequence[Tensor], epoch: int, steps: range) -> Iterator[Views]:
        """A crop of each patch, and one of its partner."""
        indices = [plan.index[plan.batch(step)] for step in steps]
        partners = [
            self.partners(index, generator(self.seed, "partners", epoch, step))
            for index, step in zip(indices, steps, strict=True)
        ]
        views = [
            self.pixels.crop_batches(
                rows, self.config.train.crop_area, [derive_seed(self.seed, name, epoch, s) for s in steps], places
            )
            for name, rows in (("crops", indices), ("crops of partners", partners))
        ]
        yield from zip(*views, strict=True)

    def partners(self, index: Tensor, draws: torch.Generator) -> Tensor:
        """For each patch (b,), one of the same track at another moment, or of a neighbour's at any; (b,)."""
        b, t = len(index), self.settings.frames
        track, moment = index // t, index % t
        other = self.neighbours[track, torch.randint(self.settings.neighbours, (b,), generator=draws)]
        other = torch.where(other < 0, self.neighbours[track, 0], other)
        across = (torch.rand(b, generator=draws) < self.settings.across) & (other >= 0)
        later = (moment + 1 + torch.randint(t - 1, (b,), generator=draws)) % t  # any but its own
        at_any = torch.randint(t, (b,), generator=draws)
        return torch.where(across, other * t + at_any, track * t + later)

    def add_gradients(self, trunk: nn.Module, views: Views, plan: EpochPlan, rows: Tensor) -> Tensor:
        """Loss over any negatives, whichever are learned from, and the share of them farther than the partner."""
        with products_in(self.config.train.precision, self.device):
            made = self.head(F.relu(self.features(trunk, views)))
        patch, partner = F.normalize(unrounded(made), dim=1).chunk(2)
        others, places = self.of_all(partner, plan, rows)  # of the whole batch: negatives of each other
        start = int(rows[0]) // plan.batch_size * plan.batch_size
        index = plan.index[start + places]
        own = torch.searchsorted(places, rows % plan.batch_size)
        allowed = send(self.are_apart(plan.index[rows], index), self.device)
        distance = 1 - patch @ others.T
        near = distance[send(torch.arange(len(rows)), self.device), send(own, self.device)]
        turned = (own[:, None] + torch.arange(1, self.settings.negatives + 1)) % len(places)  # any: batches are mixed
        any_ = send(turned, self.device)
        far, counts = distance.gather(1, any_), allowed.gather(1, any_)
        right = ((near[:, None] < far) & counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        loss = told = ranking_loss(near, far, counts, self.settings.margin) / plan.batch_size
        if self.steps >= self.settings.hard_from * self.length(plan):
            most = min(self.settings.negatives, distance.shape[1])
            hardest = distance.masked_fill(~allowed, float("inf")).topk(most, dim=1, largest=False)
            far, counts = hardest.values, hardest.values.isfinite()
            loss = ranking_loss(near, far, counts, self.settings.margin) / plan.batch_size
        (loss * world_size()).backward()  # parts of a sum, and gradients are averaged
        self.steps += 1
        return torch.stack([told.detach(), right.sum().detach()])

    def are_apart(self, patches: Tensor, others: Tensor) -> Tensor:
        """Whether patches (b,) and others (m,) are of different clips and not called like each other: (b, m)."""
        t = self.settings.frames
        like = (self.neighbours[patches // t][:, None, :] == (others // t)[None, :, None]).any(dim=2)
        return (self.clip[patches][:, None] != self.clip[others][None, :]) & ~like

    @property
    def chance_loss(self) -> float:
        return self.settings.margin

    def asked(self, hits: Sequence[float]) -> dict[str, tuple[float, float]]:
        return {"nearer": (hits[0], 2)}

    def snapshot(self) -> dict[str, Any]:
        return {**super().snapshot(), "neighbours": self.neighbours, "steps": self.steps}

    def restore(self, saved: Mapping[str, Any]) -> None:
        super().restore(saved)
        self.neighbours, self.steps = saved["neighbours"], saved["steps"]


def ranking_loss(near: Tensor, far: Tensor, counts: Tensor, margin: float) -> Tensor:
    """Sum over pairs of the mean of max(0, near - far + margin) over the negatives that count.

    Args:
        near: (b,) distances of pairs. far: (b, k) those of their negatives, some perhaps infinite.
        counts: (b, k) bool; a pair without a negative that counts adds nothing.
    """
    short = (near[:, None] - far + margin).clamp(min=0) * counts
    return (short.sum(dim=1) / counts.sum(dim=1).clamp(min=1)).sum()


def mutual_neighbours(features: Tensor, clip: Tensor, most: int) -> Tensor:
    """The nearest tracks of other clips that count each other so: (m, most) int64, nearest first, then -1.

    Args:
        features: (m, d); compared by the cosine of what is left when their mean is taken off.
        clip: (m,) whose tracks are no neighbours of each other.
        most: Neighbours of a track, at most; two are neighbours if each is among the other's ``most`` nearest.
    """
    points, m = F.normalize(features - features.mean(dim=0), dim=1), len(features)
    k = min(most, m)
    nearest, likeness = torch.empty(m, k, dtype=torch.int64), torch.empty(m, k)
    for start in range(0, m, BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = (points[rows] @ points.T).masked_fill(clip[rows, None] == clip[None, :], -torch.inf)
        found = cosines.topk(k, dim=1)
        nearest[rows], likeness[rows] = found.indices, found.values
    nearest = torch.where(likeness.isfinite(), nearest, -1)
    back = nearest[nearest.clamp(min=0)]  # (m, k, k): those of each neighbour
    mutual = (back == torch.arange(m)[:, None, None]).any(dim=2) & (nearest >= 0)
    order = (~mutual).to(torch.int8).argsort(dim=1, stable=True)
    kept = torch.where(mutual, nearest, -1).gather(1, order)
    return F.pad(kept, (0, most - k), value=-1)


TASK = Transitive
