"""All that changes while a run goes on, in one value that a checkpoint saves whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from dclib.cluster.pseudo_labels import PseudoLabels
from dclib.config import MethodConfig, TrainConfig
from dclib.data.pixels import Pixels
from dclib.models.heads import Heads
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.train.health import Stopwatch

COUNTERS = ("epoch", "step", "totals", "clusterings", "clustered_at", "history", "notes", "epoch_began")


@dataclass
class State:
    """Weights, optimisers, pseudo-labels and counters of a run."""

    trunk: Trunk
    heads: Heads
    labels: PseudoLabels
    optimisers: dict[str, torch.optim.SGD] = field(default_factory=dict)  # trunk, super, sub
    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in this epoch
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # this epoch's loss, super and sub hits
    clusterings: int = 0  # done so far
    history: list[dict[str, float]] = field(default_factory=list)  # a row per epoch and per clustering
    notes: dict[str, str] = field(default_factory=dict)  # facts for the run card
    clustered_at: int = -1  # epoch of the last clustering
    epoch_began: float = 0.0  # reading of the clock when this epoch began
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
        heads = Heads(config.model.feature_dim, n_super_classes, labels.n_sub, generator(seed, "heads")).to(device)
        state = cls(trunk, heads, labels)
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
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )

    def next_epoch(self) -> None:
        """Close the books of this epoch."""
        self.epoch, self.step, self.totals, self.epoch_began = (
            self.epoch + 1,
            0,
            [0.0, 0.0, 0.0],
            self.clock.seconds,
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything a resume needs, random state included, as plain values and tensors."""
        return {
            "trunk": self.trunk.state_dict(),
            "heads": self.heads.state_dict(),
            "optimisers": {part: optimiser.state_dict() for part, optimiser in self.optimisers.items()},
            "labels": {"super_cluster": self.labels.super_cluster, "sub_class": self.labels.sub_class},
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "seconds": self.clock.seconds,
            **{name: getattr(self, name) for name in COUNTERS},
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a snapshot."""
        self.trunk.load_state_dict(saved["trunk"])
        self.heads.load_state_dict(saved["heads"])
        for part, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][part])
        self.labels = PseudoLabels(**saved["labels"], n_super=self.labels.n_super, n_sub=self.labels.n_sub)
        for name in COUNTERS:
            setattr(self, name, saved[name])
        self.clock = Stopwatch(saved["seconds"])
        torch.set_rng_state(saved["rng"])
        if saved["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(saved["cuda_rng"])


def first_labels(config: MethodConfig, pixels: Pixels) -> PseudoLabels:
    """Labels before any clustering: one class for all images, or the set's own for the supervised reference."""
    zeros = torch.zeros(len(pixels), dtype=torch.int64)
    if config.method == "supervised":
        labels = torch.from_numpy(pixels.images.labels)
        return PseudoLabels(zeros, labels, 1, int(labels.max()) + 1)
    if config.clusters:
        return PseudoLabels(zeros, zeros, config.cluster.n_super, config.cluster.n_sub)
    return PseudoLabels(zeros, zeros, 1, 1)
