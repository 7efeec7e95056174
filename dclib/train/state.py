"""All that changes while a run goes on, in one value that a checkpoint saves whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from dclib.cluster.pseudo_labels import PseudoLabels
from dclib.config import MethodConfig, TrainConfig
from dclib.data.pixels import Pixels
from dclib.distributed import all_reduce_sum, share_gradients, world_size
from dclib.models.device import replayed
from dclib.models.heads import Heads
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.train.health import Stopwatch
from dclib.train.placement import Placement

COUNTERS = ("epoch", "step", "totals", "clusterings", "clustered_at", "history", "notes", "epoch_began", "waited")


@dataclass
class State:
    """Weights, optimisers, pseudo-labels and counters of a run."""

    trunk: Trunk
    heads: Heads
    labels: PseudoLabels
    placement: Placement
    shared_trunk: torch.nn.Module  # the trunk, or what averages its gradients over processes, or replays its passes
    optimisers: dict[str, torch.optim.SGD] = field(default_factory=dict)  # trunk, super, sub
    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in this epoch
    totals: list[float] = field(default_factory=lambda: [0.0] * 4)  # this epoch's loss; super, sub and turn hits
    clusterings: int = 0  # done so far
    history: list[dict[str, float]] = field(default_factory=list)  # a row per epoch and per clustering
    notes: dict[str, str] = field(default_factory=dict)  # facts for the run card
    clustered_at: int = -1  # epoch of the last clustering
    epoch_began: float = 0.0  # reading of the clock when this epoch began
    waited: float = 0.0  # seconds that this epoch's steps waited for images, in the main process
    clock: Stopwatch = field(default_factory=Stopwatch)  # seconds of the run, over all sittings

    @classmethod
    def begin(
        cls, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device, initial: Trunk | None
    ) -> State:
        """The state before the first step: new weights (or those of ``initial``), new heads, first labels."""
        trunk = Trunk(config.model, generator(seed, "trunk")).to(device).to(memory_format=torch.channels_last)
        if initial is not None:
            trunk.load_state_dict(initial.state_dict())
        labels = first_labels(config, pixels)
        n_super_classes = labels.n_super * config.n_turns
        placement = Placement.of(config.train, n_super_classes)
        width, draws = config.model.feature_dim, generator(seed, "heads")
        heads = Heads(width, n_super_classes, labels.n_sub, draws, placement.held).to(device)
        shared = share_gradients(trunk)
        if shared is trunk and not config.model.dropout and config.train.accumulate == 1:
            side = config.model.image_size
            shared = replayed(trunk, (config.train.batch_size, 3, side, side), config.train.precision, device)
        state = cls(trunk, heads, labels, placement, shared)
        for part in ("trunk", "super", "sub"):
            state.new_optimiser(part, config.train)
        return state

    def new_optimiser(self, part: str, config: TrainConfig) -> None:
        """Start the optimiser of ``"trunk"``, ``"super"`` or ``"sub"`` afresh, with empty momentum."""
        if part == "trunk":
            parameters = list(self.trunk.parameters())
        else:
            parameters = self.heads.super_parameters() if part == "super" else self.heads.sub_parameters()
        self.optimisers[part] = torch.optim.SGD(
            # one pass over the weights, in place, instead of four; the CPU's numbers are the same
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def average_head_gradients(self) -> None:
        """Over the processes that hold the same head: what ``shared_trunk`` does for the trunk."""
        for parameters, team in (
            (self.heads.super_parameters(), None),
            (self.heads.sub_parameters(), self.placement.team),
        ):
            for parameter in parameters:
                if parameter.grad is not None and world_size() > 1:
                    parameter.grad = all_reduce_sum(parameter.grad, team) / world_size()

    def count_wait(self, seconds: float) -> None:
        """Add to the seconds that were waited for images."""
        self.waited += seconds

    def next_epoch(self) -> None:
        """Close the books of this epoch."""
        self.epoch, self.step, self.totals, self.epoch_began, self.waited = (
            self.epoch + 1,
            0,
            [0.0] * 4,
            self.clock.seconds,
            0.0,
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything a resume needs, as plain values and tensors; sharded heads come one by one, by
        :meth:`head_snapshot`."""
        optimisers = {part: optimiser.state_dict() for part, optimiser in self.optimisers.items()}
        heads = self.heads.state_dict()
        if self.placement.is_sharded:
            del optimisers["sub"], heads["sub_weight"], heads["sub_bias"]
        return {
            "trunk": self.trunk.state_dict(),
            "model": asdict(self.trunk.config),  # so that the file can be used elsewhere
            "heads": dict(heads),
            "optimisers": optimisers,
            "labels": {"super_cluster": self.labels.super_cluster, "sub_class": self.labels.sub_class},
            "seconds": self.clock.seconds,
            **{name: getattr(self, name) for name in COUNTERS},
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a snapshot."""
        self.trunk.load_state_dict(saved["trunk"])
        self.heads.load_state_dict(saved["heads"], strict=not self.placement.is_sharded)
        for part, state in saved["optimisers"].items():
            self.optimisers[part].load_state_dict(state)
        self.labels = PseudoLabels(**saved["labels"], n_super=self.labels.n_super, n_sub=self.labels.n_sub)
        for name in COUNTERS:
            setattr(self, name, saved[name])
        self.clock = Stopwatch(saved["seconds"])

    def head_snapshot(self, super_class: int) -> dict[str, torch.Tensor]:
        """The sub-class head of a super-class that is held here, with its momentum if there is any yet."""
        place = super_class - self.placement.held.start
        parameters = dict(zip(("weight", "bias"), self.heads.sub_parameters(), strict=True))
        kept = {name: parameter.detach()[place] for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            if "momentum_buffer" in self.optimisers["sub"].state[parameter]:
                kept[f"{name}_momentum"] = self.optimisers["sub"].state[parameter]["momentum_buffer"][place]
        return {name: tensor.clone() for name, tensor in kept.items()}

    def restore_head(self, super_class: int, saved: dict[str, torch.Tensor]) -> None:
        """Go back to a :meth:`head_snapshot`."""
        place = super_class - self.placement.held.start
        for name, parameter in zip(("weight", "bias"), self.heads.sub_parameters(), strict=True):
            parameter.data[place].copy_(saved[name])
            if f"{name}_momentum" in saved:
                state = self.optimisers["sub"].state[parameter]
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
