"""Which images an epoch shows, in which turn, and how they are spread over batches.

Every batch holds the same number of images of each super-class, whatever the super-clusters' sizes, and within a
super-class every sub-class is shown equally often, whatever its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dclib.randomness import generator


@dataclass(frozen=True)
class EpochPlan:
    """The images of one epoch in the order they are shown; row i is batch i // batch_size."""

    index: Tensor  # (m,) int64, image number
    turn: Tensor  # (m,) int64, quarter turns counter-clockwise
    super_class: Tensor  # (m,) int64 = n_turns * super_cluster + turn
    sub_class: Tensor  # (m,) int64
    batch_size: int

    def __len__(self) -> int:
        """Batches in the epoch."""
        return math.ceil(len(self.index) / self.batch_size)

    def batch(self, step: int) -> slice:
        """The rows of batch ``step``."""
        return slice(step * self.batch_size, (step + 1) * self.batch_size)


def uniform_sample(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` positions in ``labels`` (n,), each label equally often to within one, in random order.

    A label with fewer members than its share shows each of them equally often to within one; others are drawn
    without replacement. (count,) int64.

    Source: released code, src/trainer.py. Differs: exact shares (there the excess is cut off at random) and whole
    rounds through a small label's members instead of draws with replacement.
    """
    present, inverse = torch.unique(labels, return_inverse=True)
    share, rest = divmod(count, len(present))
    gets_one_more = torch.randperm(len(present), generator=generator)[:rest]
    shares = torch.full((len(present),), share)
    shares[gets_one_more] += 1
    order = torch.randperm(len(labels), generator=generator)
    by_label = order[inverse[order].argsort(stable=True)]  # members of each label together, in random order
    sizes = torch.bincount(inverse, minlength=len(present))
    chosen = []
    for members, wanted in zip(by_label.split(sizes.tolist()), shares.tolist(), strict=True):
        rounds = [members[torch.randperm(len(members), generator=generator)] for _ in range(wanted // len(members))]
        chosen.append(torch.cat([*rounds, members[: wanted % len(members)]]))
    positions = torch.cat(chosen)
    return positions[torch.randperm(len(positions), generator=generator)]


def images_shown(epoch_images: int, batch_size: int) -> int:
    """Images that an epoch of about ``epoch_images`` shows, counted with repetition: whole batches, at least one."""
    return max(1, round(epoch_images / batch_size)) * batch_size


def plan_epoch(
    super_cluster: Tensor,
    sub_class: Tensor,
    *,
    n_super: int,
    n_turns: int,
    epoch_images: int,
    batch_size: int,
    seed: int,
    epoch: int,
) -> EpochPlan:
    """Plan one epoch: for each super-class a sample of its super-cluster, dealt out to batches in turn.

    The turns of a super-cluster are sampled independently, so an image is not shown in all four at once. The
    epoch has :func:`images_shown` of them, in full batches. In a batch, the shares of two
    super-classes differ by one at most.

    Args:
        super_cluster: (n,) int64 in [0, n_super). sub_class: (n,) int64, counted inside its super-cluster.
        n_turns: Quarter turns told apart: 4, or 1 for none.
        seed: With ``epoch``, decides everything.

    Raises:
        ValueError: a super-cluster has no image.

    Source: released code, src/trainer.py and src/utils.py; there a super-class is a group of processes.
    """
    n_super_classes = n_super * n_turns
    total = images_shown(epoch_images, batch_size)
    per_class = -(-total // n_super_classes)
    columns = []
    for super_class in range(n_super_classes):
        members = (super_cluster == super_class // n_turns).nonzero().squeeze(1)
        if len(members) == 0:
            raise ValueError(f"super-cluster {super_class // n_turns} has no image; use fewer super-clusters")
        draws = generator(seed, "sampler", epoch, super_class)
        columns.append(members[uniform_sample(sub_class[members], per_class, draws)])
    index = torch.stack(columns, dim=1).flatten()[:total]  # row by row: one image of each super-class
    super_class_of = torch.arange(n_super_classes).repeat(per_class)[:total]
    return EpochPlan(index, super_class_of % n_turns, super_class_of, sub_class[index], batch_size)
