"""Pre-training on one screen: the task makes anew what it learns from, the network learns it, and again.

What is learned is the method's *task*: see ``train/tasks``. For the supplement's methods that is to cluster the
features, and to tell the clusters and the turns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dclib.config import DataConfig, MethodConfig, TrainConfig
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels, load_pixels
from dclib.data.samplers import EpochPlan
from dclib.distributed import (
    all_reduce_sum,
    any_of,
    from_main,
    is_main,
    leave_if_requested,
    rank,
    wait_for_all,
    world_size,
)
from dclib.models.vgg import Trunk
from dclib.preemption import PreemptedError, is_requested, said, while_saving
from dclib.randomness import derive_seed
from dclib.train import health
from dclib.train.checkpoints import Saver
from dclib.train.clustering import remove_stored
from dclib.train.features import PAPER_RESIZE
from dclib.train.start import Validator, check_start, run_identity
from dclib.train.state import State
from dclib.train.tasks.task import Views

CHECK_EVERY = 50  # steps between two looks at the losses: a look waits for the device
AGREE_EVERY = 10  # steps after which several processes ask each other whether to save or to leave


def pretrain(
    images: ImageSet | Pixels,
    config: MethodConfig,
    *,
    folder: str | Path,
    seed: int = 0,
    device: str | torch.device = "cpu",
    initial: Trunk | None = None,
    validator: Validator | None = None,
    save_every: float = 60.0,
    report: Callable[[str], None] = print,
) -> State:
    """Train a network by ``config.method``, or go on from where ``folder`` was left; the result is ``.trunk``.

    With several processes (see ``distributed``) all call this, each with its device; they share the images, and end
    with the numbers of one process to rounding, dropout's masks aside.

    Args:
        images: A set, or pixels that are ready. Labels are trained on by ``supervised`` alone; elsewhere they are
            compared with the clusters for display.
        folder: Keeps ``checkpoint.pt``; on a disk that all processes share. A killed run called again ends with the
            same numbers on the same device, threads and processes, and goes on with other ones too.
        seed: Decides weights, sampling, crops, clustering and dropout.
        initial: A trunk whose weights are the start instead of random ones.
        validator: Scores the network after every ``train.validate_every``-th epoch, where ``train.patience`` is
            set: training ends after that many scores without a new best. The scores are in the history.
        save_every: Seconds between checkpoints inside an epoch; there is one after each epoch in any case.
        report: Gets one line per epoch and per clustering, in the main process.

    Raises:
        ValueError: bad input, found before anything is trained, a checkpoint of another configuration among it.
        FloatingPointError: the loss is no longer finite; the last checkpoint is from before that.
        OSError: the folder cannot be written.
    """
    check_start(images, config, initial)
    if config.train.patience and validator is None:
        raise ValueError("train.patience needs a validator to score the network by; give one, or set patience to 0")
    pixels = images if isinstance(images, Pixels) else _load(images, config, Path(folder))
    check_start(pixels, config, initial)  # again, now that unreadable images are left out
    with torch.random.fork_rng():  # dropout can only draw from the global generator
        report = _begin_report(pixels, report) if is_main() else _nothing
        # another method is another task: state.task is chosen here by config.method, from train/tasks
        state = State.begin(config, pixels, seed, torch.device(device), initial)
        saver = Saver(Path(folder), run_identity(config, pixels, seed, initial, validator), save_every)
        saver.restore(state)
        remove_stored(stored_folder(saver, state.clusterings - 1))  # left if a kill came after its checkpoint
        while state.epoch < config.train.epochs and not is_saturated(state, config.train):
            if state.task.is_due(state):
                stored = stored_folder(saver, state.clusterings)
                state.task.renew(state, stored, report)
                saver.save(state)
                remove_stored(stored)
            leave_if_requested()
            plan = state.task.plan_epoch(state.epoch)
            train_epoch(state, plan, config.train, seed, saver)
            finish_epoch(state, plan, config, report)
            if validator is not None:
                validate(state, config.train, validator, report)
            saver.save(state)
    return _finished(state, pixels, report)


def stored_folder(saver: Saver, clustering: int) -> Path:
    """Where features and points are kept from the start of a clustering to the checkpoint after it."""
    return saver.path.with_name(f"clustering-{saver.identity}-{clustering}")


def train_epoch(state: State, plan: EpochPlan, config: TrainConfig, seed: int, saver: Saver) -> None:
    """Take the steps of the epoch that are still to do."""
    losses: list[Tensor] = []
    left = range(state.step, len(plan))
    places = [state.task.places(plan, step) for step in left]
    batches = health.timed(state.task.batches(plan, places, state.epoch, left), state.count_wait)
    steps = health.steps_with_progress(left, plan.batch_size, f"epoch {state.epoch + 1}")
    for step, part, batch in zip(steps, places, batches, strict=True):
        set_learning_rate(state, config, (state.epoch * len(plan) + step) / (config.epochs * len(plan)))
        seed_dropout(state, seed)
        losses.append(train_step(state, batch, plan, plan.batch(step).start + part, config))
        state.step = step + 1
        due, leaving = _agree(saver.is_due, is_requested(), step)
        if due or leaving or len(losses) == CHECK_EVERY or state.step == len(plan):
            add_totals(state, losses)
        if due or leaving:
            saver.save(state)
        if leaving:
            with while_saving():
                wait_for_all()  # until the checkpoint is written
            raise PreemptedError(said())


def train_step(state: State, batch: Views, plan: EpochPlan, rows: Tensor, config: TrainConfig) -> Tensor:
    """One update of trunk and head by this process's ``rows`` of the plan, of which ``batch`` is what is seen.

    The task's rounds (super-classes that take turns in a batch) go to the ``config.accumulate`` parts in turn: each
    part is balanced too, and the same whatever the number of processes.
    Returns its part of the loss, and the task's hits, without waiting for the device.
    """
    state.trunk.train()
    for optimiser in state.optimisers.values():
        optimiser.zero_grad(set_to_none=True)
    part_of = rows % plan.batch_size // state.task.round % config.accumulate
    parts = [part_of == part for part in range(config.accumulate)] if config.accumulate > 1 else [slice(None)]
    trunk = state.shared_trunk
    totals = [state.task.add_gradients(trunk, [view[part] for view in batch], plan, rows[part]) for part in parts]
    state.task.average_gradients()
    for optimiser in state.optimisers.values():
        optimiser.step()
    return torch.stack(totals).sum(dim=0)


def _agree(due: bool, leaving: bool, step: int) -> list[bool]:
    """Whether all processes save, and whether they leave, after this step."""
    if world_size() > 1 and (step + 1) % AGREE_EVERY:
        return [False, False]
    return any_of(due and is_main(), leaving)


def validate(state: State, config: TrainConfig, validator: Validator, report: Callable[[str], None]) -> None:
    """Score the network where a validation is due, and add it to the history."""
    if not config.patience or state.epoch % config.validate_every:
        return
    score = from_main(validator.score(state.trunk))  # rounding may differ between machines; stopping may not
    state.history.append({"epoch": state.epoch, "validation_map": score})
    report(f"validation after epoch {state.epoch}: mean average precision {score:.1f} %")
    if is_saturated(state, config):
        state.notes["stopped"] = f"after epoch {state.epoch}: no new best in {config.patience} validations"
        report(f"training ends: no new best in {config.patience} validations")


def is_saturated(state: State, config: TrainConfig) -> bool:
    """Whether the best score is ``patience`` validations old; a tie is no new best."""
    scores = [row["validation_map"] for row in state.history if "validation_map" in row]
    return bool(config.patience and scores) and len(scores) - 1 - scores.index(max(scores)) >= config.patience


def seed_dropout(state: State, seed: int) -> None:
    """Each step has its own masks, whatever ran before it, and each process others."""
    if state.trunk.config.dropout:
        torch.manual_seed(derive_seed(seed, "dropout", state.epoch, state.step, rank()))


def set_learning_rate(state: State, config: TrainConfig, progress: float) -> None:
    """Constant up to ``decay_from`` of the run, then straight down to ``final_lr`` of it; ``progress`` in [0, 1)."""
    tail = max(0.0, progress - config.decay_from) / max(1e-12, 1.0 - config.decay_from)
    lr = config.lr * (1.0 - (1.0 - config.final_lr) * tail)
    for optimiser in state.optimisers.values():
        optimiser.param_groups[0]["lr"] = lr


def add_totals(state: State, losses: list[Tensor]) -> None:
    """Move the collected step results into the epoch's totals.

    Raises:
        FloatingPointError: a loss is not finite; the message gives the step.
    """
    if not losses:
        return
    values = all_reduce_sum(torch.stack(losses).double().cpu())  # of the processes' parts
    bad = (~torch.isfinite(values[:, 0])).nonzero().squeeze(1)
    if len(bad):
        step = state.step - len(losses) + int(bad[0]) + 1
        raise FloatingPointError(
            f"the loss is {float(values[bad[0], 0])} at step {step} of epoch {state.epoch + 1}; "
            "lower train.lr and start again: the last checkpoint is from before that"
        )
    state.totals = [total + float(value) for total, value in zip(state.totals, values.sum(dim=0), strict=True)]
    losses.clear()


def finish_epoch(state: State, plan: EpochPlan, config: MethodConfig, report: Callable[[str], None]) -> None:
    """Turn the totals into the epoch's row of the history."""
    loss, *hits = state.totals
    n_images, seconds = len(plan) * plan.batch_size, max(state.clock.seconds - state.epoch_began, 1e-9)
    passes = n_images * config.passes  # a task that sees an image twice works twice
    values = {
        "loss": loss / len(plan),
        "lr": state.optimisers["trunk"].param_groups[0]["lr"],
        "images_per_second": passes / seconds,
        "data_wait": state.waited,
    }
    for task, (right, classes) in state.task.asked(hits).items():
        values |= {f"{task}_accuracy": 100 * right / n_images, f"{task}_chance": 100 / classes}
    chance = state.task.chance_loss
    wait = state.waited / seconds
    state.next_epoch()
    state.history.append({"epoch": state.epoch, "chance_loss": chance, **values})
    report(health.epoch_line(state.epoch, config.train.epochs, values, chance, n_images, wait))


def _begin_report(pixels: Pixels, report: Callable[[str], None]) -> Callable[[str], None]:
    """Say what the loaders passed over and left out, and give the report back."""
    for line in filter(None, (*pixels.images.notes, pixels.note)):
        report(line)
    return report


def _finished(state: State, pixels: Pixels, report: Callable[[str], None]) -> State:
    """The state with its network in evaluation mode; says which images were replaced on the way."""
    if pixels.replaced is not None and pixels.note:
        report(pixels.note)
    state.trunk.eval()
    return state


def _nothing(line: str) -> None:
    """The report of a process that is not the main one."""


def _load(images: ImageSet, config: MethodConfig, folder: Path) -> Pixels:
    size = config.model.image_size
    return load_pixels(images, DataConfig(resize=round(size * PAPER_RESIZE)), size, folder / "pixels")
