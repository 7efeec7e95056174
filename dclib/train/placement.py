"""Who holds which sub-class heads, and therefore which images of a batch each process takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dclib.config import TrainConfig
from dclib.distributed import Team, everyone, make_team, rank, shard, world_size


@dataclass(frozen=True)
class Placement:
    """This process's part of the heads and of every batch.

    Replicated heads are all on every process, which takes an equal, contiguous share of a batch: super-classes
    alternate in it, so that each share is balanced over them to within one image. Sharded heads are on the
    processes of their super-class only, and so are its images, as in the paper: that is what makes 16 heads of
    80,000 x 4096 weights fit.
    """

    held: range  # super-classes whose heads are here
    team: Team  # the processes that hold the same ones
    is_sharded: bool

    @classmethod
    def of(cls, config: TrainConfig, n_super_classes: int) -> Placement:
        """The placement that ``config.head_placement`` asks for. All processes must call it.

        Raises:
            ValueError: a batch has too few images for every process to get one.
        """
        sharded = config.head_placement == "sharded"
        if sharded:
            needed = config.accumulate * max(world_size(), n_super_classes)
        else:  # a share of some rounds of the super-classes, one round for each part
            needed = world_size() * ((config.accumulate - 1) * n_super_classes + 1)
        if config.batch_size < needed:
            raise ValueError(
                f"need train.batch_size >= {needed}, an image for each of {world_size()} processes"
                f"{f' and {n_super_classes} super-classes' if sharded else ''}"
                f"{f' in each of {config.accumulate} parts' if config.accumulate > 1 else ''}; got {config.batch_size}"
            )
        if not sharded:
            return cls(range(n_super_classes), everyone(), False)
        held = [held_by(place, n_super_classes) for place in range(world_size())]
        teams = [tuple(r for r, other in enumerate(held) if other == own) for own in dict.fromkeys(held)]
        return cls(held[rank()], make_team(teams), True)

    def places(self, super_class: Tensor) -> Tensor:
        """Positions in a batch, ascending, of the images that are this process's; ``super_class`` is (b,)."""
        if not self.is_sharded:
            return torch.arange(len(super_class))[_slice(shard(len(super_class)))]
        here = ((super_class >= self.held.start) & (super_class < self.held.stop)).nonzero().squeeze(1)
        return here[_slice(shard(len(here), self.team))]


def held_by(process: int, n_super_classes: int) -> range:
    """The super-classes whose heads a process holds: a share of them, or one that it shares with others."""
    s, processes = n_super_classes, world_size()
    if processes <= s:
        return range(s * process // processes, s * (process + 1) // processes)
    return range(s * process // processes, s * process // processes + 1)


def _slice(rows: Sequence[int]) -> slice:
    return slice(rows[0], rows[-1] + 1) if len(rows) else slice(0)
