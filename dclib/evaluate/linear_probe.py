"""Table 1: a linear classifier on each of the 13 convolutional layers of a frozen network, all in one pass.

Source: supplement, section 1 and Table 1; protocol and learning rates from the released code's eval_linear.py and
linear_classif_layers.sh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclib.config import ProbeConfig
from dclib.data.pixels import Pixels
from dclib.models.layers import Linear
from dclib.models.vgg import N_CONV, Trunk
from dclib.randomness import derive_seed, generator

# average pooling before the classifier: layers, the map's side at 224 pixels, kernel and stride. With 64 to 512
# channels this leaves 8,192 or 9,216 numbers, below the 10,000 the paper allows.
PAPER_POOLING = {**dict.fromkeys((1, 2), (226, 18)), **dict.fromkeys((3, 4), (113, 14))}
PAPER_POOLING |= {**dict.fromkeys((5, 6, 7), (56, 9)), **dict.fromkeys((8, 9, 10), (28, 6))}
PAPER_POOLING |= dict.fromkeys((11, 12, 13), (14, 3))
# learning rate of each layer's classifier
OBJECTS_LR = (0.005, 0.01, 0.03, 0.03, 0.03, 0.03, 0.02, 0.03, 0.03, 0.03, 0.02, 0.02, 0.02)  # ImageNet
SCENES_LR = (0.003, 0.005, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.03, 0.01, 0.01, 0.02)  # Places205
CROP_AREA = 0.08  # random crops keep at least this share, torchvision's default
FEATURE_BATCH = 256
KEPT_BYTES = 8 * 2**30  # pooled features that may be kept in memory instead of computed anew each epoch


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies of the 13 classifiers after the last epoch, percent, shallow to deep."""

    top1: tuple[float, ...]  # on the test set, one centre crop
    train_top1: tuple[float, ...]  # during the last epoch, as the images were seen
    n_test: int
    n_train: int


def linear_probe(
    trunk: Trunk,
    train: Pixels,
    test: Pixels,
    config: ProbeConfig,
    *,
    learning_rates: Sequence[float] = OBJECTS_LR,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> ProbeResult:
    """Train a linear classifier on each layer's ReLU output and score it on other images.

    The trunk is frozen in evaluation mode; a batch passes through it once, for all 13 classifiers. Each is average
    pooled, flattened, and trained by SGD with momentum on the cross-entropy; weights decay, the trunk does not
    change. With ``config.augment`` every epoch sees new random crops and flips; without it features are
    computed once and kept, 4 bytes times the pooled sizes of all layers per image, up to 8 GiB.

    Args:
        train, test: Labelled pixels with the same class numbers, at the trunk's input size.
        learning_rates: One per layer, each multiplied by ``config.lr_scale``.

    Raises:
        ValueError: labels are missing, of one class only, or differ between the two sets; or the features to keep
            are too large.
    """
    n_classes = check_labels(train, test)
    was_training = trunk.training
    trunk.eval()
    source = _Features(trunk, train, config, seed)
    probes = LinearProbes(
        source.dims, n_classes, config, learning_rates, generator(seed, "probe weights"), source.device
    )
    for epoch in range(config.epochs):
        hits = torch.zeros(N_CONV, device=source.device)
        for pooled, labels in source.batches(epoch):
            hits += probes.step(pooled, labels)
        train_top1 = 100 * hits / len(train)
        if (epoch + 1) % max(1, config.epochs // 4) == 0:
            report(f"probe epoch {epoch + 1}/{config.epochs}: conv13 {float(train_top1[-1]):.1f} % on training images")
    top1 = 100 * score(trunk, test, probes) / len(test)
    trunk.train(was_training)
    return ProbeResult(tuple(top1.tolist()), tuple(train_top1.tolist()), len(test), len(train))


def check_labels(train: Pixels, test: Pixels) -> int:
    """The number of classes; ValueError unless both sets are labelled with the same two or more."""
    for pixels in (train, test):
        labels = pixels.images.labels
        found = 0 if labels is None else len(set(labels.tolist()))
        if found < 2:
            raise ValueError(
                f"a linear probe needs images of at least two classes; {pixels.images.name} has "
                f"{found or 'no'} class{'' if found == 1 else 'es'}: give a folder with one sub-folder per class"
            )
    if train.images.classes != test.images.classes:
        odd = sorted(set(train.images.classes) ^ set(test.images.classes))
        raise ValueError(f"training and test classes must be the same; these are in one set only: {', '.join(odd)}")
    return len(train.images.classes)


def pool_kernel(layer: int, side: int) -> int:
    """Kernel and stride of the average pooling of layer 1..13 for a map of ``side`` pixels.

    The paper's kernel at the paper's sizes; elsewhere scaled with the map and rounded up, at least 1.
    """
    paper_side, kernel = PAPER_POOLING[layer]
    return max(1, math.ceil(kernel * side / paper_side))


def pool_activations(activations: Iterable[Tensor]) -> list[Tensor]:
    """Average-pool and flatten the 13 maps (b, c, h, w): each (b, c * floor(h / kernel)^2), no padding.

    A map is let go of before the next one is asked for.
    """
    pooled: list[Tensor] = []
    for maps in activations:  # enumerate would hold on to the last one
        pooled.append(F.avg_pool2d(maps, pool_kernel(len(pooled) + 1, maps.shape[-1])).flatten(1))
        del maps
    return pooled


def decayed_lr(lr: float, weight_decay: float, step: int) -> float:
    """The learning rate after ``step`` updates: lr / sqrt(1 + lr * weight_decay * step).

    Nearly constant: with 0.02 and 1e-5 it has lost 4.7 % after 500,500 steps.
    """
    return lr / math.sqrt(1.0 + lr * weight_decay * step)


class LinearProbes(nn.Module):
    """13 linear classifiers, each with its own learning rate and optimiser state."""

    def __init__(
        self,
        dims: Sequence[int],
        n_classes: int,
        config: ProbeConfig,
        learning_rates: Sequence[float],
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.classifiers = nn.ModuleList(Linear(dim, n_classes) for dim in dims)
        for classifier, dim in zip(self.classifiers, dims, strict=True):
            for parameter in classifier.parameters():
                nn.init.uniform_(parameter, -1 / math.sqrt(dim), 1 / math.sqrt(dim), generator=generator)
        self.to(device)
        self.base_lr = [lr * config.lr_scale for lr in learning_rates]
        self.weight_decay, self.steps = config.weight_decay, 0
        groups = [
            {"params": list(classifier.parameters()), "lr": lr}
            for classifier, lr in zip(self.classifiers, self.base_lr, strict=True)
        ]
        self.optimiser = torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)

    def forward(self, pooled: Sequence[Tensor]) -> list[Tensor]:
        """Logits (b, classes) of each layer."""
        return [classifier(x) for classifier, x in zip(self.classifiers, pooled, strict=True)]

    def step(self, pooled: Sequence[Tensor], labels: Tensor) -> Tensor:
        """One update of all classifiers; returns how often each was right before it, (13,)."""
        for group, lr in zip(self.optimiser.param_groups, self.base_lr, strict=True):
            group["lr"] = decayed_lr(lr, self.weight_decay, self.steps)
        logits = self(pooled)
        # a sum over layers: no classifier sees another's gradient
        loss = torch.stack([F.cross_entropy(layer, labels) for layer in logits]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.steps += 1
        return torch.stack([(layer.argmax(dim=1) == labels).sum() for layer in logits])


@torch.no_grad()
def score(trunk: Trunk, test: Pixels, probes: LinearProbes) -> Tensor:
    """How many test images each classifier gets right, (13,), one centre crop each."""
    device = next(trunk.parameters()).device
    labels = torch.from_numpy(test.images.labels)
    hits, start = torch.zeros(N_CONV, device=device), 0
    for batch in test.centre_batches(FEATURE_BATCH):
        truth = labels[start : start + len(batch)].to(device)
        logits = probes(_pooled(trunk, batch, device))
        hits += torch.stack([(layer.argmax(dim=1) == truth).sum() for layer in logits])
        start += len(batch)
    return hits


class _Features:
    """Pooled activations and labels of the training images, epoch after epoch, kept or computed anew."""

    def __init__(self, trunk: Trunk, train: Pixels, config: ProbeConfig, seed: int) -> None:
        self.trunk, self.train, self.config, self.seed = trunk, train, config, seed
        self.device = next(trunk.parameters()).device
        self.labels = torch.from_numpy(train.images.labels)
        self.kept: list[Tensor] | None = None
        self.dims = [x.shape[1] for x in _pooled(trunk, next(train.centre_batches(2)), self.device)]
        if not config.augment:
            _check_memory(len(train), self.dims)
            parts = [_pooled(trunk, batch, self.device) for batch in train.centre_batches(FEATURE_BATCH)]
            self.kept = [torch.cat(layer) for layer in zip(*parts, strict=True)]

    def batches(self, epoch: int) -> Iterator[tuple[list[Tensor], Tensor]]:
        order = torch.randperm(len(self.train), generator=generator(self.seed, "probe order", epoch))
        rows = order.split(self.config.batch_size)
        if self.kept is not None:
            for batch in rows:
                chosen = batch.to(self.device)
                yield [layer.index_select(0, chosen) for layer in self.kept], self.labels[batch].to(self.device)
            return
        seeds = [derive_seed(self.seed, "probe crops", epoch, i) for i in range(len(rows))]
        for batch, images in zip(rows, self.train.crop_batches(rows, CROP_AREA, seeds), strict=True):
            yield _pooled(self.trunk, images, self.device), self.labels[batch].to(self.device)


def _check_memory(n_images: int, dims: Sequence[int]) -> None:
    needed = 4 * n_images * sum(dims)
    if needed > KEPT_BYTES:
        raise ValueError(
            f"pooled features of {n_images} images would take {needed / 2**30:.1f} GiB, over {KEPT_BYTES / 2**30:.0f}: "
            f"set probe.train_images to at most {KEPT_BYTES // (4 * sum(dims))}, or probe.augment to true"
        )


@torch.no_grad()
def _pooled(trunk: Trunk, batch: Tensor, device: torch.device) -> list[Tensor]:
    return pool_activations(trunk.conv_activations(batch.to(device, memory_format=torch.channels_last)))
