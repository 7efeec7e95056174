"""What every way of pre-training has to do, whatever it learns; a method's own tests call these with a case of theirs.

Run as a script on a folder that holds a case, it is trained there by one process and by two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_images import Interruption, NoReader, interrupt_at, silent
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dclib.config import MethodConfig
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan, images_shown
from dclib.methods import MODULES, OUTLINES
from dclib.presets import parse_preset
from dclib.train import pretrain as loop
from dclib.train.pretrain import pretrain
from dclib.train.state import State
from dclib.train.tasks import Task

HERE = Path(__file__).resolve().parent
CPU = torch.device("cpu")
CLOCK = ("seconds", "epoch_began", "waited", "images_per_second", "data_wait")
# six steps of 15 layers in float64, sums in another order
ROUNDED = {"rtol": 1e-8, "atol": 1e-9}
NEVER = 1e9  # seconds between checkpoints inside an epoch


def task_class(method: str) -> type[Task]:
    """The task of a method."""
    kind: type[Task] = import_module(f"dclib.train.tasks.{MODULES[method]}").TASK
    return kind


def begun(config: MethodConfig, pixels: Pixels, folder: Path) -> State:
    """A run just before its first step, whose task has renewed what it learns from."""
    state = State.begin(config, pixels, 0, CPU, None)
    if state.task.is_due(state):
        state.task.renew(state, folder, silent)
    return state


def first_batch(task: Task, *, step: int = 0) -> tuple[EpochPlan, Sequence[Tensor], Tensor]:
    """The plan of the first epoch, the views of one of its batches, and its rows."""
    plan = task.plan_epoch(0)
    places = [task.places(plan, step)]
    (views,) = task.batches(plan, places, 0, range(step, step + 1))
    return plan, views, plan.batch(step).start + places[0]


# --- killed is left alone


def outcome(state: State) -> dict[str, object]:
    """All that a run ends with, readings of the clock aside."""
    snapshot = state.snapshot()
    snapshot["history"] = [{k: v for k, v in row.items() if k not in CLOCK} for row in state.history]
    return {k: v for k, v in snapshot.items() if k not in CLOCK}


def assert_identical(actual: object, expected: object, where: str = "") -> None:
    """Equal to the last bit, whatever is nested in what."""
    _compare(actual, expected, where, lambda a, e: torch.equal(a, e), lambda a, e: a == e)


def assert_rounded(actual: object, expected: object, where: str = "") -> None:
    """Equal to rounding, whatever is nested in what; whole numbers exactly."""

    def close(a: Tensor, e: Tensor) -> bool:
        exact = not e.is_floating_point()
        return torch.equal(a, e) if exact else torch.allclose(a, e, **ROUNDED)

    def near(a: object, e: object) -> bool:
        return a == pytest.approx(e, rel=1e-6, abs=1e-9) if isinstance(e, float) else a == e

    _compare(actual, expected, where, close, near)


def _compare(
    actual: Any, expected: Any, where: str, same: Callable[[Tensor, Tensor], bool], equal: Callable[[Any, Any], bool]
) -> None:
    if isinstance(expected, Tensor):
        assert actual.dtype == expected.dtype, where
        assert same(actual, expected), f"{where} differs by {float((actual - expected).abs().max())}"
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys(), where
        for key in expected:
            _compare(actual[key], expected[key], f"{where}/{key}", same, equal)
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), where
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            _compare(a, e, f"{where}/{i}", same, equal)
    else:
        assert equal(actual, expected), f"{where}: {actual} instead of {expected}"


def check_killed_is_left_alone(config: MethodConfig, pixels: Pixels, folder: Path) -> None:
    """Ended at any place and started again, a run ends with the same bits in everything that a checkpoint keeps."""
    whole = outcome(pretrain(pixels, config, folder=folder / "whole", report=silent))
    steps = whole["history"] and len(task_class(config.method)(config, pixels, 0, CPU).plan_epoch(0))
    for number, (where, name, count, save_every) in enumerate(stops(config, int(steps))):
        with mock.patch.object(where, name, interrupt_at(count, getattr(where, name))), pytest.raises(Interruption):
            pretrain(pixels, config, folder=folder / str(number), save_every=save_every, report=silent)
        resumed = pretrain(pixels, config, folder=folder / str(number), report=silent)
        assert_identical(outcome(resumed), whole, f"{name} after {count}")


def stops(config: MethodConfig, steps: int) -> Iterator[tuple[object, str, int, float]]:
    """Where a run is ended: what is replaced by name, calls before that, seconds between checkpoints."""
    kind = task_class(config.method)
    yield loop, "train_step", 1, 0.0  # in the first epoch, with a checkpoint after each step
    yield loop, "train_step", 1, NEVER  # the same, without: the epoch starts over
    yield loop, "train_step", steps + 1, 0.0  # in the second
    yield loop, "finish_epoch", 0, 0.0  # behind the last step, before the epoch is closed
    yield loop, "train_epoch", 1, NEVER  # between epochs
    if kind.renew is not Task.renew:
        yield kind, "renew", 0, NEVER
        yield State, "has_renewed", 0, NEVER  # all is made, and not yet saved
        if config.clusters or "cluster" in str(OUTLINES[config.method].rooms):
            yield State, "has_renewed", 1, NEVER


# --- one process is two processes


def check_processes(config: MethodConfig, pixels: Pixels, folder: Path) -> None:
    """Two processes end with the numbers of one, also where a batch is taken in two parts, to rounding in float64."""
    torch.save((config, pixels), folder / "case.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "task_checks.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in PARTS:
        one, first, second = (
            torch.load(folder / f"{where}.pt", weights_only=False)
            for where in (f"1/{name}-0", f"2/{name}-0", f"2/{name}-1")
        )
        assert_identical(second["task"], first["task"], f"{name}: the second process's task")
        assert_identical(second["trunk"], first["trunk"], f"{name}: the second process's trunk")
        assert_rounded(first, one, name)


PARTS = {"whole": 1, "parts": 2}  # name -> train.accumulate


def train_in_double(config: MethodConfig, pixels: Pixels, parts: int, folder: Path) -> dict[str, object]:
    """What a run ends with if all its numbers are float64: in float32 a ReLU's gradient may jump by rounding."""
    from many_processes import DoubleTrunk

    config = replace(config, train=replace(config.train, accumulate=parts))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(Tensor, "float", Tensor.double), mock.patch("dclib.train.state.Trunk", DoubleTrunk):
            return outcome(pretrain(pixels, config, folder=folder / f"run-{parts}", report=silent))
    finally:
        torch.set_default_dtype(before)


# --- pixels that are decoded on the way


def check_streamed(config: MethodConfig, decoded: Pixels, streamed: Pixels, folder: Path) -> None:
    """The same run on images that are decoded as they are used learns as well, and goes on where it was killed."""
    assert streamed.decoded is None
    assert decoded.decoded is not None
    kept, whole = (
        pretrain(pixels, config, folder=folder / name, report=silent)
        for name, pixels in (("decoded", decoded), ("streamed", streamed))
    )
    losses = [[row["loss"] for row in state.history if "loss" in row] for state in (kept, whole)]
    assert len(losses[1]) == config.train.epochs
    assert losses[1] == pytest.approx(losses[0], rel=0.25)  # other filters and, for crops, other draws
    with mock.patch.object(loop, "train_step", interrupt_at(2, loop.train_step)), pytest.raises(Interruption):
        pretrain(streamed, config, folder=folder / "killed", save_every=0.0, report=silent)
    resumed = pretrain(streamed, config, folder=folder / "killed", report=silent)
    assert_identical(outcome(resumed), outcome(whole))


# --- the task is learned


def last_row(state: State) -> dict[str, float]:
    """The history's row of the last epoch."""
    return [row for row in state.history if "loss" in row][-1]


def check_learns(config: MethodConfig, pixels: Pixels, folder: Path, *, least: float, loss: float = 0.8) -> State:
    """On easy pictures the loss falls to ``loss`` of chance, and what is asked is right in ``least`` % at least."""
    state = pretrain(pixels, config, folder=folder, report=silent)
    row = last_row(state)
    assert row["loss"] < loss * row["chance_loss"]
    for asked in OUTLINES[config.method].asks:
        assert row[f"{asked}_accuracy"] > least > 1.25 * row[f"{asked}_chance"]
    return state


def check_mixed_views_teach_nothing(
    config: MethodConfig, pixels: Pixels, folder: Path, *, most: Callable[[State], float] | None = None
) -> None:
    """Where each view is of another image than its row says, it stays at chance: nothing else tells the answer.

    ``most``: The share of right answers that always giving the most frequent one would have, by default a guess's.
    """
    kind = task_class(config.method)

    def mixed(self: Task, *arguments: Any) -> Iterator[list[Tensor]]:
        for views in kept(self, *arguments):
            yield [view.roll(number + 1, 0) for number, view in enumerate(views)]

    kept = kind.batches
    with mock.patch.object(kind, "batches", mixed):
        state = pretrain(pixels, config, folder=folder, report=silent)
    row, shown = last_row(state), images_shown(config.shown(len(pixels)), config.train.batch_size)
    for asked in OUTLINES[config.method].asks:
        chance = most(state) if most else row[f"{asked}_chance"] / 100
        assert row[f"{asked}_accuracy"] / 100 < chance + 3 * (chance * (1 - chance) / shown) ** 0.5


# --- bad settings


def check_refused(method: str, bad: Sequence[tuple[Mapping[str, Any], str]]) -> None:
    """Each of these settings of the method's own ends in a sentence that says where it stands and what is needed."""
    for settings, said in bad:
        with pytest.raises(ValueError, match=said) as error:
            parse_preset("tiny", {"methods": {f"{method}_variant": {"method": method, "task": dict(settings)}}})
        text = str(error.value)
        assert text.startswith(f"methods.{method}_variant.task"), text
        assert "\n" not in text
        assert len(text) < 400
    with pytest.raises(ValueError, match="does_not_exist"):
        parse_preset("tiny", {"methods": {method: {"task": {"does_not_exist": 1}}}})


# --- what the outline counts


class StandIn(nn.Module):
    """In the trunk's place: features from nowhere, which cost nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        return torch.randn(len(images), self.width, generator=torch.Generator().manual_seed(0)).requires_grad_()


def check_counts(
    config: MethodConfig, pixels: Pixels, folder: Path, *, held: Callable[[Task], int] | None = None
) -> None:
    """Passes, weights and FLOPs of the outline are those of a step as it is taken.

    ``held``: Weights of the head that are no parameters of its module.
    """
    outline, state = OUTLINES[config.method], begun(config, pixels, folder)
    seen: list[int] = []
    hook = state.trunk.register_forward_pre_hook(lambda _, images: seen.append(images[0][:, 0].numel()))
    plan, views, rows = first_batch(state.task)
    assert tuple(view.shape[-1] for view in views) == outline.views(config)
    state.task.add_gradients(state.trunk.train(), views, plan, rows)
    hook.remove()
    side, batch = config.model.image_size, config.train.batch_size
    assert sum(seen) / (batch * side**2) == pytest.approx(outline.passes(config), rel=1e-12)
    assert len(plan.index) == images_shown(round(config.train.epoch_images / outline.passes(config)), batch)
    assert outline.head is not None
    weights, flops = outline.head(config)
    assert weights == sum(p.numel() for p in state.task.head.parameters()) + (held(state.task) if held else 0)
    with mock.patch.object(Tensor, "backward"), FlopCounterMode(display=False) as counter:
        state.task.add_gradients(StandIn(config.model.feature_dim), views, plan, rows)
    assert counter.get_total_flops() / batch == pytest.approx(flops, rel=1e-12)


def stripes(angles: NDArray[np.float64], phases: NDArray[np.float64]) -> Tensor:
    """Grey pictures (n, 3, s, s) uint8 of waves in the direction that is given for each pixel, (n, s, s) or (s, s)."""
    y, x = np.mgrid[: angles.shape[-2], : angles.shape[-1]]
    waves = np.cos((x * np.cos(angles) + y * np.sin(angles)) * 0.9 + phases)
    grey = torch.from_numpy((127.5 + 100 * waves).astype(np.uint8))[:, None]
    return grey.expand(-1, 3, -1, -1).contiguous()


def made_pixels(pictures: Tensor, labels: Tensor | None, size: int) -> Pixels:
    """Pixels from (n, 3, side, side) uint8 that never were files, with any number of labels."""
    numbers = None if labels is None else labels.numpy()
    names = () if labels is None else tuple(f"c{i}" for i in range(int(labels.max()) + 1))
    images = ImageSet("made", [str(i) for i in range(len(pictures))], NoReader(), numbers, names)
    return Pixels(images, (), size, pictures.shape[-1], pictures)


if __name__ == "__main__":
    from many_processes import start

    place = Path(sys.argv[1])
    case = torch.load(place / "case.pt", weights_only=False)
    for processes in (1, 2):
        start(processes, place, {name: partial(train_in_double, *case, parts) for name, parts in PARTS.items()})
