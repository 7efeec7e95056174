"""What the loop asks of a way of pre-training; everything else is shared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dclib.config import MethodConfig, TrainConfig
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan, plan_epoch
from dclib.data.transforms import Area
from dclib.distributed import all_reduce_sum, gather, shard, world_size
from dclib.methods import OUTLINES
from dclib.models.device import send
from dclib.models.vgg import Trunk
from dclib.randomness import derive_seed
from dclib.train.placement import Placement

Views = Sequence[Tensor]  # what is seen of a batch's images: (b, 3, h, w) for each view, all of the same rows


class Run(Protocol):
    """What a task sees of the run's state."""

    trunk: Trunk
    epoch: int  # epochs finished
    step: int  # steps finished in this one
    clusterings: int  # how often the task has renewed what it learns from
    clustered_at: int  # epoch of the last time; -1 before the first
    notes: dict[str, str]  # facts for the run card

    def new_optimiser(self, part: str, config: TrainConfig) -> None:
        """Start the optimiser of a part afresh."""

    def has_renewed(self, values: Mapping[str, float]) -> None:
        """To be called at the end of :meth:`Task.renew`, with what there is to say of it."""


class Task(ABC):
    """One way of pre-training on some images: its head, what a step sees of them, and its loss.

    A task of its own says what its ``head`` is and fills in :meth:`add_gradients`, ``chance_loss`` and
    :meth:`asked`; the other methods have a default for one random crop of each image, shown equally often.

    Raises:
        ValueError: a batch has too few images for every process to get one.

    Attributes:
        head: What is trained beside the trunk; the same on every process but for what is ``sharded``.
        n_hits: Counts that a step gives beside its loss.
        round: Rows of a batch that belong together when it is taken in parts.
        views: Sides of what a step sees of an image, pixels.
        sharded: Of ``optimised``, what processes hold different ``pieces`` of; these are saved one by one.
        writes_pieces: Whether this process is the one that saves those it holds.
    """

    head: nn.Module
    n_hits = 1
    round = 1
    sharded: tuple[str, ...] = ()
    pieces = range(0)
    writes_pieces = False

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        self.config, self.pixels, self.seed, self.device = config, pixels, seed, device
        self.settings, self.views = config.task, OUTLINES[config.method].views(config)
        Placement.of(replace(config.train, head_placement="replicated"), self.round)  # a row for each process

    # what is learned from

    def is_due(self, run: Run) -> bool:
        """Whether :meth:`renew` is to be called now, before the coming epoch."""
        return False

    def renew(self, run: Run, stored: Path, report: Callable[[str], None]) -> None:
        """Make anew what the coming epochs learn from; ``stored`` is a folder for what is large, removed later."""
        raise NotImplementedError

    def plan_epoch(self, epoch: int) -> EpochPlan:
        """Which images an epoch shows, each equally often to within one."""
        one = torch.zeros(len(self.pixels), dtype=torch.int64)
        return plan_epoch(
            one,
            one,
            n_super=1,
            n_turns=1,
            epoch_images=self.config.shown(len(self.pixels)),
            batch_size=self.config.train.batch_size,
            seed=self.seed,
            epoch=epoch,
        )

    def places(self, plan: EpochPlan, step: int) -> Tensor:
        """Positions in a batch, ascending, of the rows that are this process's."""
        rows = shard(len(plan.index[plan.batch(step)]))
        return torch.arange(rows.start, rows.stop)

    def batches(self, plan: EpochPlan, places: Sequence[Tensor], epoch: int, steps: range) -> Iterator[Views]:
        """The views of this process's rows at each step; a batch depends on (seed, epoch, step) alone.

        By default a random crop for each of the sides that the outline names.
        """
        indices = [plan.index[plan.batch(step)] for step in steps]
        views = []
        for view, side in enumerate(self.views):
            name = ("crops",) if view == 0 else ("crops", view)
            seeds = [derive_seed(self.seed, *name, epoch, step) for step in steps]
            views.append(self.pixels.of_size(side).crop_batches(indices, self.crop_area(view), seeds, places))
        yield from zip(*views, strict=True)

    def crop_area(self, view: int) -> Area:
        """Smallest share of an image that a view may show, or smallest and largest."""
        return self.config.train.crop_area

    # a step

    @abstractmethod
    def add_gradients(self, trunk: nn.Module, views: Views, plan: EpochPlan, rows: Tensor) -> Tensor:
        """Add what these rows contribute to the gradients of the batch.

        Args:
            trunk: The network in training, as ``State.shared_trunk``.
            views: Of :meth:`batches`, of these rows.
            rows: (b,) of the plan.

        Returns:
            Their part of the batch's mean loss, and ``n_hits`` counts: (1 + n_hits,), without waiting for the device.
        """

    def features(self, trunk: nn.Module, views: Views) -> Tensor:
        """The trunk's output for views of one size, view by view: (v * b, d). One pass, so that batch norm sees all."""
        features: Tensor = trunk(send(torch.cat(list(views)), self.device, torch.channels_last))
        return features

    def of_all(self, values: Tensor, plan: EpochPlan, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What all processes have of these rows' batch: values (m, ...), and their places (m,) in it, on the CPU."""
        places = rows % plan.batch_size
        there = gather(torch.ones(len(rows), dtype=torch.bool).float(), places, plan.batch_size).nonzero().squeeze(1)
        return gather(values, send(places, values.device), plan.batch_size)[there], there

    def length(self, plan: EpochPlan) -> int:
        """Parts of batches in the whole run, of epochs like this one."""
        return self.config.train.epochs * len(plan) * self.config.train.accumulate

    def average_gradients(self) -> None:
        """Of the head, over the processes that hold the same: what ``shared_trunk`` does for the trunk."""
        average_gradients(self.head.parameters())

    # what is said of it

    @property
    @abstractmethod
    def chance_loss(self) -> float:
        """The loss of a network that knows nothing."""

    @abstractmethod
    def asked(self, hits: Sequence[float]) -> dict[str, tuple[float, float]]:
        """What the network is asked, by the outline's names: how often it was right, and a guess is right once in."""

    # what is kept of it

    def optimised(self) -> Mapping[str, list[nn.Parameter]]:
        """Parameters beside the trunk's, by the name of their optimiser."""
        return {"head": list(self.head.parameters())}

    def snapshot(self) -> dict[str, Any]:
        """Everything a resume needs besides trunk, optimisers and counters, as plain values and tensors."""
        return {"head": dict(self.head.state_dict())}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go back to a snapshot."""
        self.head.load_state_dict(saved["head"])

    def double(self) -> None:
        """Compute in float64 from now on, as a replay does."""
        self.head.double()

    def piece(self, number: int, optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
        """One of the ``pieces``, with its momentum if there is any yet."""
        raise NotImplementedError

    def restore_piece(
        self, number: int, optimisers: Mapping[str, torch.optim.Optimizer], saved: Mapping[str, Tensor]
    ) -> None:
        """Go back to a :meth:`piece`."""
        raise NotImplementedError


def due_by_rule(config: MethodConfig, run: Run) -> bool:
    """Whether ``cluster.reassign_every`` and ``reassign_until`` ask for a clustering before the coming epoch."""
    if run.step > 0 or run.clustered_at == run.epoch:
        return False
    early = run.epoch / config.train.epochs < config.cluster.reassign_until
    return early and run.epoch % config.cluster.reassign_every == 0


def average_gradients(parameters: Iterator[nn.Parameter] | Sequence[nn.Parameter], team: Any = None) -> None:
    """Replace each gradient by its mean over the processes (of a team: its sum there over the number of all)."""
    for parameter in parameters:
        if parameter.grad is not None and world_size() > 1:
            parameter.grad = all_reduce_sum(parameter.grad, team) / world_size()
