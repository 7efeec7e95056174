"""Table 2: training with all labels from a pre-trained start, by the two recipes of the supplement.

Source: supplement, section 3 and Table 2; what it leaves open from the released code's eval_pretrain.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from dclib.config import FinetuneConfig, ModelConfig
from dclib.data.pixels import Pixels
from dclib.evaluate.classifier import Classifier
from dclib.evaluate.linear_probe import check_labels
from dclib.models.folding import fold_sobel
from dclib.models.vgg import Trunk
from dclib.randomness import derive_seed, generator
from dclib.train.checkpoints import load_checkpoint, save_checkpoint

TEST_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """A step schedule: ``factor`` on the learning rate at each milestone, in epochs of the paper."""

    epochs: int
    milestones: tuple[int, ...]
    factor: float


RECIPES: Mapping[str, Recipe] = {
    "pytorch_doc": Recipe(90, (30, 60), 0.1),
    "ours": Recipe(100, (20, 40, 60, 80), 0.2),
}
PAPER_EPOCHS = 100  # of "ours": FinetuneConfig.epochs stands for these


@dataclass(frozen=True)
class Epoch:
    """One epoch of fine-tuning, and the test after it."""

    loss: float  # mean over the training images, and over the passes that make an epoch, nats
    top1: float  # on the test images, one centre crop, %


def finetune(
    start: Trunk,
    train: Pixels,
    test: Pixels,
    config: FinetuneConfig,
    recipe: str,
    *,
    folder: Path,
    identity: str,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> list[Epoch]:
    """Train all layers on labelled images from the convolutions of ``start``, and test after every epoch.

    The fully connected layers are new. Images are shuffled anew every epoch, cropped and mirrored at random. Batch
    norm learns.

    Args:
        start: A network of colour (``rgb``, or ``folded`` by :func:`colour_network`); it is not changed.
        train, test: Labelled pixels with the same classes, at the network's input size.
        recipe: A key of RECIPES; its schedule is scaled to ``config.epochs``, each of them ``config.passes`` passes.
        folder: Keeps a checkpoint after each epoch: a killed run goes on, and ends with the same numbers.
        identity: What the checkpoint belongs to.

    Raises:
        ValueError: labels are missing or differ, the recipe is unknown, the network is behind a Sobel stem, or the
            checkpoint belongs to something else.
        FloatingPointError: the loss is no longer finite.
    """
    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
    if start.config.stem == "sobel":
        raise ValueError("fine-tuning needs a network of colour: fold Sobel into it first (models.folding.fold_sobel)")
    n_classes = check_labels(train, test)
    draws = generator(seed, "fine-tuning layers")
    model = Classifier(start, n_classes, config.dropout, draws, plain_last=True).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    done: list[Epoch] = []
    passes = config.passes(len(train))
    path = folder / "checkpoint.pt"
    if saved := load_checkpoint(path, identity):
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        done = [Epoch(*row) for row in saved["epochs"]]
    for epoch in range(len(done), scaled_epochs(recipe, config.epochs)):
        optimiser.param_groups[0]["lr"] = config.lr * rate_factor(recipe, epoch, config.epochs)
        turns = range(epoch * passes, (epoch + 1) * passes)
        loss = fmean(_train_epoch(model, optimiser, train, config, seed, turn) for turn in turns)
        done.append(Epoch(loss, _accuracy(model, test)))
        report(f"{recipe}, epoch {epoch + 1}: loss {loss:.3f}, top-1 {done[-1].top1:.1f} %")
        rows = [[e.loss, e.top1] for e in done]
        save_checkpoint(
            path, identity, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epochs": rows}
        )
    return done


def scratch_network(model: ModelConfig, seed: int) -> Trunk:
    """A new network of colour, for training from scratch."""
    return Trunk(replace(model, stem="rgb"), generator(seed, "scratch"))


def colour_network(trunk: Trunk) -> Trunk:
    """A network of colour to fine-tune: Sobel is folded in, so that it keeps what it knows and may learn colour."""
    return fold_sobel(trunk) if trunk.config.stem == "sobel" else trunk


def scaled_epochs(recipe: str, epochs: int) -> int:
    """Epochs of a recipe where "ours" has ``epochs`` of them; at least one."""
    return max(1, round(RECIPES[recipe].epochs * epochs / PAPER_EPOCHS))


def rate_factor(recipe: str, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in an epoch, counted from 0; milestones keep their share of the run."""
    schedule = RECIPES[recipe]
    reached = epoch * schedule.epochs / scaled_epochs(recipe, epochs)
    return schedule.factor ** sum(reached >= milestone for milestone in schedule.milestones)


def _train_epoch(
    model: Classifier,
    optimiser: torch.optim.SGD,
    train: Pixels,
    config: FinetuneConfig,
    seed: int,
    epoch: int,
) -> float:
    """One pass over the images; returns the mean loss."""
    device = next(model.parameters()).device
    labels = torch.from_numpy(train.images.labels)
    rows = _batches(
        torch.randperm(len(train), generator=generator(seed, "fine-tuning order", epoch)), config.batch_size
    )
    seeds = [derive_seed(seed, "fine-tuning crops", epoch, i) for i in range(len(rows))]
    total = torch.zeros((), device=device)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "fine-tuning dropout", epoch))  # it draws from the global generator
        for batch, images in zip(rows, train.crop_batches(rows, config.crop_area, seeds), strict=True):
            logits = model(images.to(device, memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, labels[batch].to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(batch)
    mean = float(total) / len(train)
    if not torch.isfinite(total):
        raise FloatingPointError(f"the loss is {mean} in epoch {epoch + 1} of fine-tuning; lower finetune.lr")
    return mean


def _batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Whole batches, and what is left over as one more, unless it is a single image, which has no batch statistics."""
    rows = list(order.split(batch_size))
    return [*rows[:-2], torch.cat(rows[-2:])] if len(rows) > 1 and len(rows[-1]) == 1 else rows


@torch.no_grad()
def _accuracy(model: Classifier, test: Pixels) -> float:
    """Top-1 accuracy on centre crops, %."""
    device = next(model.parameters()).device
    model.eval()
    labels, hits, start = torch.from_numpy(test.images.labels), 0, 0
    for images in test.centre_batches(TEST_BATCH):
        found = model(images.to(device, memory_format=torch.channels_last)).argmax(dim=1).cpu()
        hits += int((found == labels[start : start + len(found)]).sum())
        start += len(found)
    return 100 * hits / len(test)
