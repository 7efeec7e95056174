"""SwAV: the assignment of one crop to prototypes, predicted from the image's other crops.

Source: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclib.config import MethodConfig
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.distributed import all_reduce_max, all_reduce_sum, shard, world_size
from dclib.methods.swav import SwavSettings
from dclib.randomness import generator
from dclib.train.tasks.crops import Crops
from dclib.train.tasks.task import Views


class Swav(Crops):
    """Prototypes that learn with the network, and a queue of earlier vectors."""

    settings: SwavSettings

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        super().__init__(config, pixels, seed, device)
        s, draws = self.settings, generator(seed, "prototypes")
        drawn = torch.randn(s.prototypes, s.dim, generator=draws)
        prototypes = nn.Linear(s.dim, s.prototypes, bias=False)
        prototypes.weight.data = F.normalize(drawn, dim=1)
        self.prototypes = prototypes.to(device)
        self.head = nn.ModuleDict({"projection": self.projection, "prototypes": self.prototypes})
        self.queues = torch.zeros(s.crops, s.queue, s.dim, device=device)  # the newest vectors first
        self.queued = 0  # vectors that each holds
        self.steps = 0  # parts of batches so far

    def add_gradients(self, trunk: nn.Module, views: Views, plan: EpochPlan, rows: Tensor) -> Tensor:
        """Loss, and how often the predicted prototype was the assigned one, in the mean over pairs of crops."""
        s = self.settings
        with torch.no_grad():
            weight = self.prototypes.weight
            weight.copy_(F.normalize(weight, dim=1))
        vectors = self.vectors(trunk, views)
        scores = [F.linear(vector, weight.to(vector.dtype)) for vector in vectors]
        codes = [self.assign(view, scores[view], vectors[view]) for view in range(s.crops)]
        pairs = [(view, other) for view in range(s.crops) for other in range(len(views)) if other != view]
        losses = [-(codes[view] * F.log_softmax(scores[other] / s.temperature, dim=1)).sum() for view, other in pairs]
        loss = torch.stack(losses).sum() / (len(pairs) * plan.batch_size)
        (loss * world_size()).backward()  # parts of a sum, and gradients are averaged
        if self.steps < s.freeze * self.length(plan) and weight.grad is not None:
            weight.grad.zero_()
        self.remember([vector.detach() for vector in vectors[: s.crops]], plan, rows)
        self.steps += 1
        right = [(scores[other].argmax(dim=1) == codes[view].argmax(dim=1)).sum() for view, other in pairs]
        return torch.stack([loss.detach(), torch.stack(right).sum().to(loss.dtype) / len(pairs)])

    @torch.no_grad()
    def assign(self, view: int, scores: Tensor, vectors: Tensor) -> Tensor:
        """Shares (b, prototypes) of these rows, assigned together with the batch's other rows and the queue."""
        if self.queued < self.settings.queue or not self.queued:
            return sinkhorn(scores, self.settings.epsilon, self.settings.iterations)
        share = shard(self.queued)  # each process has them all
        earlier = self.queues[view, share.start : share.stop].to(vectors.dtype)
        together = torch.cat([scores, F.linear(earlier, self.prototypes.weight.to(vectors.dtype))])
        return sinkhorn(together, self.settings.epsilon, self.settings.iterations)[: len(scores)]

    def remember(self, vectors: Sequence[Tensor], plan: EpochPlan, rows: Tensor) -> None:
        """Put this step's vectors of all processes in front of the queues, once it is time for them."""
        s = self.settings
        if not s.queue or self.steps < s.queue_from * self.length(plan):
            return
        whole = self.of_all(torch.stack(list(vectors), dim=1), plan, rows)[0].transpose(0, 1)
        self.queues = torch.cat([whole.to(self.queues.dtype), self.queues], dim=1)[:, : s.queue]
        self.queued = min(s.queue, self.queued + whole.shape[1])

    @property
    def chance_loss(self) -> float:
        return math.log(self.settings.prototypes)

    def asked(self, hits: Sequence[float]) -> dict[str, tuple[float, float]]:
        return {"prototype": (hits[0], self.settings.prototypes)}

    def double(self) -> None:
        super().double()
        self.queues = self.queues.double()

    def snapshot(self) -> dict[str, Any]:
        return {**super().snapshot(), "queues": self.queues, "queued": self.queued, "steps": self.steps}

    def restore(self, saved: Mapping[str, Any]) -> None:
        super().restore(saved)
        self.queues, self.queued, self.steps = saved["queues"].to(self.device), saved["queued"], saved["steps"]


def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Shares of rows (b, k) that sum to 1 in each row, all columns taken equally: entropic optimal transport.

    exp(scores / epsilon), with columns and rows brought to equal sums in turn, ``iterations`` times, rows last; the
    rows of all processes count together. Computed in float64: exponents of unit vectors' scores reach 1 / epsilon.

    Source: Cuturi, "Sinkhorn Distances", NeurIPS 2013, as SwAV uses it.
    """
    exponents = scores.double() / epsilon
    shares = (exponents - all_reduce_max(exponents.max())).exp()
    for _ in range(iterations):
        shares = shares / all_reduce_sum(shares.sum(dim=0)).clamp(min=1e-300) / shares.shape[1]
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares.to(scores.dtype)


TASK = Swav
