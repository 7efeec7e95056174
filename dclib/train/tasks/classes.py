"""The supplement's methods: one task that differs in its labels.

method          super-classes S = C x R    sub-classes k            labels come from
rotnet          4 turns                    1                        nothing: the turn is the label
deepcluster     1                          n_sub                    k-means
deepercluster   n_super x 4 turns          n_sub in each            two levels of k-means
supervised      1                          classes of the set       the set
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dclib.cluster.pseudo_labels import PseudoLabels
from dclib.config import MethodConfig
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan, plan_epoch
from dclib.data.transforms import quarter_turn
from dclib.distributed import world_size
from dclib.models.device import products_in, send
from dclib.models.heads import Heads, joint_loss
from dclib.randomness import generator
from dclib.train import health
from dclib.train.clustering import cluster_images
from dclib.train.placement import Placement
from dclib.train.tasks.task import Run, Task, Views, average_gradients, due_by_rule


class Classes(Task):
    """Super-classes, each with sub-classes of its own."""

    head: Heads
    n_hits = 3  # of super-classes, sub-classes and turns

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        super().__init__(config, pixels, seed, device)
        self.labels = first_labels(config, pixels)
        self.round = self.labels.n_super * config.n_turns  # super-classes take turns in a batch
        self.placement = Placement.of(config.train, self.round)
        if self.placement.is_sharded:
            self.sharded, self.pieces = ("sub",), self.placement.held
            self.writes_pieces = self.placement.team.place == 0
        width, draws = config.model.feature_dim, generator(seed, "heads")
        self.head = Heads(width, self.round, self.labels.n_sub, draws, self.placement.held).to(device)

    def is_due(self, run: Run) -> bool:
        """At the start of every r-th epoch, until the stated share of the epochs is over."""
        return self.config.clusters and due_by_rule(self.config, run)

    def renew(self, run: Run, stored: Path, report: Callable[[str], None]) -> None:
        """New pseudo-labels from the current features, which are kept in ``stored``, and new heads for them.

        The sub-class heads start afresh, since cluster numbers mean nothing from one clustering to the next. So does
        the super-class head if there is more than one super-cluster; with one, its classes are the turns and stay.
        """
        config, seed = self.config, self.seed
        draws = generator(seed, "clustering", run.clusterings)
        clustering = cluster_images(run.trunk, self.pixels, config.cluster, draws, stored, config.train.precision)
        previous = self.labels if run.clusterings else None
        labels = self.pixels.images.labels
        values = health.clustering_values(clustering, previous, None if labels is None else torch.from_numpy(labels))
        self.labels = clustering.labels
        fresh_super_head = config.cluster.n_super > 1
        self.head.reset(generator(seed, "heads", run.clusterings), super_head=fresh_super_head)
        for part in ("super", "sub") if fresh_super_head else ("sub",):
            run.new_optimiser(part, config.train)
        run.has_renewed(values)
        run.notes |= {"kmeans_backend": clustering.backend, "pca_dim": str(clustering.pca_dim)}
        for line in (*clustering.notices, health.clustering_line(values, len(self.pixels), clustering.backend)):
            report(line)

    def plan_epoch(self, epoch: int) -> EpochPlan:
        """Which images an epoch shows, by the labels of now."""
        return plan_epoch(
            self.labels.super_cluster,
            self.labels.sub_class,
            n_super=self.labels.n_super,
            n_turns=self.config.n_turns,
            epoch_images=self.config.shown(len(self.pixels)),
            batch_size=self.config.train.batch_size,
            seed=self.seed,
            epoch=epoch,
        )

    def places(self, plan: EpochPlan, step: int) -> Tensor:
        return self.placement.places(plan.super_class[plan.batch(step)])

    def add_gradients(self, trunk: nn.Module, views: Views, plan: EpochPlan, rows: Tensor) -> Tensor:
        """Loss, and super, sub and turn hits."""
        config, device = self.config.train, self.head.super_bias.device
        turned = send(quarter_turn(views[0], plan.turn[rows]), device, torch.channels_last)
        with products_in(config.precision, device):
            result = joint_loss(
                self.head,
                trunk(turned),
                plan.super_class[rows],
                plan.sub_class[rows],
                sub_head_gradient=config.sub_head_gradient,
                batch_size=plan.batch_size,
                n_turns=self.head.n_super_classes // self.labels.n_super,
            )
        (result.loss * world_size()).backward()  # parts of a sum, and gradients are averaged
        hits = (result.super_hits, result.sub_hits, result.turn_hits)
        return torch.stack([result.loss.detach(), *(count.float() for count in hits)])

    def average_gradients(self) -> None:
        average_gradients(self.head.super_parameters())
        average_gradients(self.head.sub_parameters(), self.placement.team)

    @property
    def chance_loss(self) -> float:
        return health.chance_loss(self.head.n_super_classes, self.head.n_sub_classes)

    def asked(self, hits: Sequence[float]) -> dict[str, tuple[float, float]]:
        """A super-class is the turn itself where there is one super-cluster, else a task of its own."""
        super_hits, sub_hits, turn_hits = hits
        asked = {
            "turn": (turn_hits, self.config.n_turns),
            "super": (super_hits, self.head.n_super_classes if self.labels.n_super > 1 else 1),
            "train" if self.config.method == "supervised" else "sub": (sub_hits, self.head.n_sub_classes),
        }
        return {task: (right, classes) for task, (right, classes) in asked.items() if classes > 1}

    def optimised(self) -> Mapping[str, list[nn.Parameter]]:
        return {"super": self.head.super_parameters(), "sub": self.head.sub_parameters()}

    def snapshot(self) -> dict[str, Any]:
        """Sharded heads come one by one, by :meth:`piece`."""
        head = dict(self.head.state_dict())
        if self.sharded:
            del head["sub_weight"], head["sub_bias"]
        return {"head": head, "super_cluster": self.labels.super_cluster, "sub_class": self.labels.sub_class}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.head.load_state_dict(saved["head"], strict=not self.sharded)
        self.labels = PseudoLabels(
            saved["super_cluster"], saved["sub_class"], n_super=self.labels.n_super, n_sub=self.labels.n_sub
        )

    def piece(self, number: int, optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
        """The sub-class head of a super-class that is held here."""
        place, optimiser = number - self.pieces.start, optimisers["sub"]
        parameters = dict(zip(("weight", "bias"), self.head.sub_parameters(), strict=True))
        kept = {name: parameter.detach()[place] for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            if "momentum_buffer" in optimiser.state[parameter]:
                kept[f"{name}_momentum"] = optimiser.state[parameter]["momentum_buffer"][place]
        return {name: tensor.clone() for name, tensor in kept.items()}

    def restore_piece(
        self, number: int, optimisers: Mapping[str, torch.optim.Optimizer], saved: Mapping[str, Tensor]
    ) -> None:
        place, optimiser = number - self.pieces.start, optimisers["sub"]
        for name, parameter in zip(("weight", "bias"), self.head.sub_parameters(), strict=True):
            parameter.data[place].copy_(saved[name])
            if f"{name}_momentum" in saved:
                state = optimiser.state[parameter]
                momentum = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
                momentum[place].copy_(saved[f"{name}_momentum"])


def first_labels(config: MethodConfig, pixels: Pixels) -> PseudoLabels:
    """Labels before any clustering: one class for all images, or the set's own for the supervised reference."""
    zeros = torch.zeros(len(pixels), dtype=torch.int64)
    if config.method == "supervised":
        labels = torch.from_numpy(pixels.images.labels)
        return PseudoLabels(zeros, labels, 1, int(labels.max()) + 1)
    if config.clusters:
        return PseudoLabels(zeros, zeros, config.cluster.n_super, config.cluster.n_sub)
    return PseudoLabels(zeros, zeros, 1, 1)


TASK = Classes
