"""All that changes while a run goes on, in one value that a checkpoint saves whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from dclib.config import MethodConfig, TrainConfig
from dclib.data.pixels import Pixels
from dclib.distributed import share_gradients
from dclib.models.device import replayed
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.train.health import Stopwatch
from dclib.train.tasks import Task, begin_task

COUNTERS = ("epoch", "step", "totals", "clusterings", "clustered_at", "history", "notes", "epoch_began", "waited")


@dataclass
class State:
    """Weights, optimisers, what the task keeps, and counters of a run."""

    trunk: Trunk
    task: Task
    shared_trunk: torch.nn.Module  # the trunk, or what averages its gradients over processes, or replays its passes
    totals: list[float]  # this epoch's loss, and the task's hits
    optimisers: dict[str, torch.optim.SGD] = field(default_factory=dict)  # of the trunk, and those of the task
    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in this epoch
    clusterings: int = 0  # done so far: how often the task has renewed what it learns from
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
        """The state before the first step: new weights (or those of ``initial``), and the method's task."""
        trunk = Trunk(config.model, generator(seed, "trunk")).to(device).to(memory_format=torch.channels_last)
        if initial is not None:
            trunk.load_state_dict(initial.state_dict())
        task = begin_task(config, pixels, seed, device)
        shared = share_gradients(trunk)
        sides = set(task.views)
        if shared is trunk and not config.model.dropout and config.train.accumulate == 1 and len(sides) == 1:
            batch, side = config.train.batch_size * len(task.views), sides.pop()
            shared = replayed(trunk, (batch, 3, side, side), config.train.precision, device)
        state = cls(trunk, task, shared, [0.0] * (1 + task.n_hits))
        for part in state.parts():
            state.new_optimiser(part, config.train)
        return state

    def parts(self) -> Mapping[str, list[torch.nn.Parameter]]:
        """All that is trained, by the name of its optimiser."""
        return {"trunk": list(self.trunk.parameters()), **self.task.optimised()}

    def new_optimiser(self, part: str, config: TrainConfig) -> None:
        """Start the optimiser of one of the ``parts`` afresh, with empty momentum."""
        self.optimisers[part] = torch.optim.SGD(
            # one pass over the weights, in place, instead of four; the CPU's numbers are the same
            self.parts()[part],
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def count_wait(self, seconds: float) -> None:
        """Add to the seconds that were waited for images."""
        self.waited += seconds

    def has_renewed(self, values: Mapping[str, float]) -> None:
        """Enter a clustering, or what a task makes anew in its place, with what there is to say of it."""
        self.history.append({"assignment": self.clusterings, "epoch": self.epoch, **values})
        self.clusterings, self.clustered_at = self.clusterings + 1, self.epoch
        self.epoch_began = self.clock.seconds  # images per second are those of training

    def next_epoch(self) -> None:
        """Close the books of this epoch."""
        self.epoch, self.step, self.totals, self.epoch_began, self.waited = (
            self.epoch + 1,
            0,
            [0.0] * len(self.totals),
            self.clock.seconds,
            0.0,
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything a resume needs, as plain values and tensors; pieces of a sharded head come one by one."""
        optimisers = {part: optimiser.state_dict() for part, optimiser in self.optimisers.items()}
        for part in self.task.sharded:
            del optimisers[part]
        return {
            "trunk": self.trunk.state_dict(),
            "model": asdict(self.trunk.config),  # so that the file can be used elsewhere
            "task": self.task.snapshot(),
            "optimisers": optimisers,
            "seconds": self.clock.seconds,
            **{name: getattr(self, name) for name in COUNTERS},
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a snapshot."""
        self.trunk.load_state_dict(saved["trunk"])
        self.task.restore(saved["task"])
        for part, state in saved["optimisers"].items():
            self.optimisers[part].load_state_dict(state)
        for name in COUNTERS:
            setattr(self, name, saved[name])
        self.clock = Stopwatch(saved["seconds"])
