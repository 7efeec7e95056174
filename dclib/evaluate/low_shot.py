"""What a frozen network's features give with few labels, and without training by the votes of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dclib.config import LowShotConfig, ProbeConfig
from dclib.data.images import balanced_subset
from dclib.data.pixels import Pixels
from dclib.evaluate.linear_probe import FEATURE_BATCH, OBJECTS_LR, linear_probe, pool_activations
from dclib.evaluate.neighbours import vote_of_neighbours
from dclib.models.vgg import N_CONV, Trunk

PART = 0.1  # of the training images: so many to train the probes by which a layer is chosen, and as many to judge them


@dataclass(frozen=True)
class LowShotResult:
    """Accuracies on the test images, %."""

    best_layer: int  # 1 to 13, chosen on training images
    judged_on: int  # of which so many
    probes: dict[float, tuple[float, ...]]  # share of the labels -> 13 layers
    neighbours: dict[int, float]  # layer -> by the votes of neighbours


def low_shot(
    trunk: Trunk, train: Pixels, test: Pixels, probe: ProbeConfig, config: LowShotConfig, seed: int
) -> LowShotResult:
    """Probe 13 layers with each share of the labels below one, and let neighbours vote in the last and the best layer.

    A seed's images are the same for every network, and those of a smaller share are among those of a larger one.

    Args:
        train, test: Labelled pixels with the same classes, at the trunk's input size.
        probe: As for Table 1. With fewer labels there are as many more epochs, so that the steps are as many.
    """
    layer, judged_on = best_layer(trunk, train, probe, seed)
    shares = [share for share in config.shares if share < 1]
    probes = {share: _probe(trunk, draw_share(train, share, seed), test, probe, share, seed) for share in shares}
    layers = sorted({layer, N_CONV})
    labels, truth = (torch.from_numpy(pixels.images.labels) for pixels in (train, test))
    known, asked = (pooled_features(trunk, pixels, layers) for pixels in (train, test))
    neighbours = {}
    for number, features, queries in zip(layers, known, asked, strict=True):
        own = labels.to(features.device)
        voted = vote_of_neighbours(features, own, queries, config.neighbours, len(train.images.classes))
        neighbours[number] = 100 * float((voted.cpu() == truth).double().mean())
    return LowShotResult(layer, judged_on, probes, neighbours)


def best_layer(trunk: Trunk, train: Pixels, probe: ProbeConfig, seed: int) -> tuple[int, int]:
    """The layer, 1 to 13, whose probe does best on training images that it was not trained on; and how many those are.

    The probes learn from one tenth of the training images and are judged on another; the first of several that tie.
    """
    count = max(round(PART * len(train)), min(len(train) // 2, 2 * len(train.images.classes)))
    both = draw(train, 2 * count, seed)
    learned = draw(both, count, seed)
    there = set(learned.images.ids)
    judged = rows_of(both, [row for row, image in enumerate(both.images.ids) if image not in there])
    top1 = _probe(trunk, learned, judged, probe, count / len(train), seed)
    return top1.index(max(top1)) + 1, len(judged)


def share_size(n_images: int, n_classes: int, share: float, asked: str = "low_shot") -> int:
    """Labelled images that a share comes to. Raises ValueError where there is not one for each class.

    ``asked`` is the section of the preset that asks for it.
    """
    count = round(share * n_images)
    if count < n_classes:
        raise ValueError(
            f"{asked}.shares needs an image of each of {n_classes} classes; {share:g} of {n_images} labelled images "
            f"is {count}: take {n_classes / n_images:.2g} or more"
        )
    return count


def draw_share(train: Pixels, share: float, seed: int, asked: str = "low_shot") -> Pixels:
    """A share of the labelled images, even over the classes: the same for everyone who asks with this seed."""
    return draw(train, share_size(len(train), len(train.images.classes), share, asked), seed)


def share_name(share: float) -> str:
    """How a share of the labels is called in records and on the page: ``10 %``."""
    return f"{100 * share:g} %"


def draw(pixels: Pixels, count: int, seed: int) -> Pixels:
    """``count`` of the images, even over the classes; a smaller count of the same seed is part of a larger one."""
    chosen = balanced_subset(pixels.images, count, seed)
    numbers = {image: row for row, image in enumerate(pixels.images.ids)}
    return rows_of(pixels, [numbers[image] for image in chosen.ids])


def rows_of(pixels: Pixels, rows: Sequence[int]) -> Pixels:
    """The images with these numbers, without decoding any again."""
    decoded = None if pixels.decoded is None else pixels.decoded[torch.tensor(rows, dtype=torch.int64)]
    return replace(pixels, images=pixels.images.subset(np.array(rows, dtype=np.int64)), decoded=decoded, content="")


@torch.no_grad()
def pooled_features(trunk: Trunk, pixels: Pixels, layers: Sequence[int]) -> list[Tensor]:
    """Pooled activations (n, d) of some layers, 1 to 13, one centre crop of each image, as the probes see them."""
    device, was_training = next(trunk.parameters()).device, trunk.training
    trunk.eval()
    parts = []
    for batch in pixels.centre_batches(FEATURE_BATCH):
        pooled = pool_activations(trunk.conv_activations(batch.to(device, memory_format=torch.channels_last)))
        parts.append([pooled[layer - 1] for layer in layers])
    trunk.train(was_training)
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]


def _probe(trunk: Trunk, train: Pixels, test: Pixels, probe: ProbeConfig, share: float, seed: int) -> tuple[float, ...]:
    """Test accuracies of 13 probes, after as many steps as all labels would make."""
    longer = replace(probe, epochs=max(1, round(probe.epochs / share)))
    return linear_probe(trunk, train, test, longer, learning_rates=OBJECTS_LR, seed=seed).top1
