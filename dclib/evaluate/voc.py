"""Table 4: classification on Pascal VOC 2007 with new fully connected layers, the convolutions frozen or not.

Source: supplement, section 4.2 and Table 4; protocol from the released code's eval_voc_classif.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from dclib.config import DataConfig, VocConfig
from dclib.data.pixels import Pixels, load_pixels
from dclib.data.transforms import crop_image, draw_crop
from dclib.data.voc import DIFFICULT, PRESENT, VocSet, check_classes
from dclib.evaluate.classifier import Classifier
from dclib.models.vgg import Trunk
from dclib.randomness import derive_seed, generator

Setting = Literal["fc68", "all"]
SETTINGS: tuple[Setting, ...] = ("fc68", "all")
HALVE_EVERY = {"fc68": 20_000, "all": 10_000}  # steps, of PAPER_STEPS
PAPER_STEPS = 150_000
TIE_PENALTY = 1e-5  # taken off the scores of positives, so that equal scores rank against them
TEST_BATCH = 256


@dataclass(frozen=True)
class VocResult:
    """How well the classes are found.

    Attributes:
        average_precision: Class -> area under its precision-recall curve, without interpolation, %.
        n_positives: Class -> test images that show it.
        left_out: Classes that no test image shows: they have no precision, and no part in the mean.
        n_test: Test images.
    """

    average_precision: dict[str, float]
    n_positives: dict[str, int]
    left_out: tuple[str, ...]
    n_test: int

    @property
    def mean(self) -> float:
        """Mean average precision, %."""
        return float(np.mean(list(self.average_precision.values())))


def classify_voc(
    trunk: Trunk,
    train: VocSet,
    test: VocSet,
    config: VocConfig,
    *,
    setting: Setting,
    seed: int = 0,
    iterations: int | None = None,
    data: DataConfig | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> VocResult:
    """Train fc6 to fc8 (``"fc68"``), or everything (``"all"``), and score the test images.

    In both, batch norm uses the running statistics of pre-training while dropout is active; with ``"fc68"`` all of
    the convolutions' parameters are frozen, batch norm's included, with ``"all"`` they are trained. Crops are cut
    from whole photographs, in an order that is shuffled anew each time round.

    Args:
        trunk: Is not changed; its convolutions are copied.
        train, test: Splits with the same classes.
        iterations: Steps, by default ``config.iterations``; the rate is halved at the same shares of them as in the
            paper's 150,000.
        data: ``max_unreadable``, ``memory_gb`` and ``workers`` are used.

    Raises:
        ValueError: the classes differ, or a split has no image that shows any class.
        FloatingPointError: the loss is no longer finite.
    """
    check_classes(train, test)
    data = data or DataConfig()
    sets = [_open(voc, trunk, data) for voc in (train, test)]
    (pixels, labels), (test_pixels, test_labels) = sets
    model = Classifier(trunk, len(train.classes), config.dropout, generator(seed, "voc layers", setting))
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "voc dropout", setting))  # dropout draws from the global generator
        steps = iterations or config.iterations
        _train(model, pixels, labels, config, setting, seed, steps, data.memory_gb, report)
    scores = _score(model, test_pixels, config, seed, data.memory_gb)
    return average_precisions(scores, test_labels, test.classes)


def average_precisions(scores: NDArray[np.floating], labels: NDArray[np.int8], classes: tuple[str, ...]) -> VocResult:
    """Average precision of each class from scores and VOC's labels (1, 0 difficult, -1), both (n, classes).

    Difficult images are left out of their class. Equal scores count against the positives.
    """
    found: dict[str, float] = {}
    positives: dict[str, int] = {}
    for c, name in enumerate(classes):
        judged = labels[:, c] != DIFFICULT
        shows = labels[judged, c] == PRESENT
        positives[name] = int(shows.sum())
        if positives[name]:
            found[name] = 100 * float(average_precision_score(shows, scores[judged, c] - TIE_PENALTY * shows))
    left_out = tuple(name for name in classes if name not in found)
    return VocResult(found, positives, left_out, len(labels))


def voc_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy summed over classes, averaged over the batch; difficult labels (0) count for nothing.

    Args:
        logits: (b, c). labels: (b, c) in {1, 0, -1}.
    """
    judged = (labels != DIFFICULT).float()
    losses = F.binary_cross_entropy_with_logits(logits, (labels == PRESENT).float(), reduction="none")
    return (losses * judged).sum() / len(logits)


def voc_learning_rate(lr: float, setting: Setting, step: int, iterations: int) -> float:
    """The rate at a step: halved every 20,000 (fc68) or 10,000 (all) of 150,000 steps, scaled to ``iterations``."""
    halvings = step * PAPER_STEPS // (iterations * HALVE_EVERY[setting])
    return float(lr * 0.5**halvings)


def _open(voc: VocSet, trunk: Trunk, data: DataConfig) -> tuple[Pixels, NDArray[np.int8]]:
    """Pixels of a split, decoded as they are used so that crops see whole photographs, and the labels that remain."""
    size = trunk.config.image_size
    pixels = load_pixels(voc.images, replace(data, memory_gb=0.0, resize=size), size, scan=True)
    unreadable = set(pixels.unreadable)
    kept = [i for i, image_id in enumerate(voc.images.ids) if image_id not in unreadable]
    return pixels, voc.labels[kept]


def _train(
    model: Classifier,
    pixels: Pixels,
    labels: NDArray[np.int8],
    config: VocConfig,
    setting: Setting,
    seed: int,
    iterations: int,
    memory_gb: float,
    report: Callable[[str], None],
) -> None:
    model.train()
    model.features.eval()  # batch norm by its running statistics
    model.features.requires_grad_(setting == "all")
    parameters = [p for p in model.parameters() if p.requires_grad]
    decay = config.weight_decay_fc68 if setting == "fc68" else config.weight_decay_all
    optimiser = torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=decay)
    targets, device = torch.from_numpy(labels), parameters[0].device
    kept = keep_decoded(pixels, memory_gb)
    rows = list(_rounds(len(pixels), config.batch_size, iterations, seed))
    seeds = [derive_seed(seed, "voc crops", step) for step in range(iterations)]
    total = torch.zeros((), device=device)
    for step, images in enumerate(crop_whole(pixels, kept, rows, config.crop_area, seeds)):
        optimiser.param_groups[0]["lr"] = voc_learning_rate(config.lr, setting, step, iterations)
        images = images.to(device, memory_format=torch.channels_last)
        loss = voc_loss(model(images), targets[rows[step]].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimiser.step()
        total += loss.detach()
        if (step + 1) % max(1, iterations // 3) == 0:
            _check_finite(total, step)
            report(f"{setting}, step {step + 1}/{iterations}: loss {float(total) / max(1, iterations // 3):.3f}")
            total.zero_()
    _check_finite(total, iterations - 1)


def _check_finite(total: Tensor, step: int) -> None:
    if not bool(torch.isfinite(total)):
        raise FloatingPointError(f"the loss on VOC is not finite before step {step + 1}; lower voc.lr")


def _rounds(n: int, batch_size: int, iterations: int, seed: int) -> Iterator[Tensor]:
    """Row numbers of each step: the images in a new random order each time round, no image left out."""
    waiting, lap = torch.empty(0, dtype=torch.int64), 0
    for _ in range(iterations):
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(n, generator=generator(seed, "voc order", lap))])
            lap += 1
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def crop_whole(
    pixels: Pixels, kept: list[Image.Image], rows: Sequence[Tensor], crop_area: float, seeds: Sequence[int]
) -> Iterator[Tensor]:
    """As ``Pixels.crop_batches``: crops of whole photographs, those in ``kept`` decoded before; the same boxes."""
    if not kept:
        yield from pixels.crop_batches(rows, crop_area, seeds)
        return
    for batch, seed in zip(rows, seeds, strict=True):
        cut = []
        for place, row in enumerate(batch.tolist()):
            image = kept[row]
            crop = draw_crop(image.height, image.width, crop_area, generator(seed, place))
            cut.append(crop_image(image, crop, pixels.size))
        yield torch.stack(cut)


def keep_decoded(pixels: Pixels, memory_gb: float) -> list[Image.Image]:
    """All photographs decoded, if they fit; else none. A set this small is gone through many times."""
    kept, room = [], memory_gb * 2**30
    for i in range(len(pixels)):
        kept.append(pixels.images[i])
        room -= 3 * kept[-1].width * kept[-1].height
        if room < 0:
            return []
    return kept


@torch.no_grad()
def _score(model: Classifier, pixels: Pixels, config: VocConfig, seed: int, memory_gb: float) -> NDArray[np.float64]:
    """(n, c) logits summed over random crops."""
    model.eval()
    device = next(model.parameters()).device
    kept = keep_decoded(pixels, memory_gb)
    rows = list(torch.arange(len(pixels)).split(TEST_BATCH))
    total = np.zeros((len(pixels), model.n_classes))
    for crop in range(config.test_crops):
        seeds = [derive_seed(seed, "voc test crops", crop, i) for i in range(len(rows))]
        for batch, images in zip(rows, crop_whole(pixels, kept, rows, config.crop_area, seeds), strict=True):
            images = images.to(device, memory_format=torch.channels_last)
            total[batch.numpy()] += model(images).double().cpu().numpy()
    return total
