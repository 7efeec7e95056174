"""Is a run well? One line per epoch and per clustering, with a warning where it is not."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch
from tqdm import tqdm

from dclib.cluster.pseudo_labels import Clustering, PseudoLabels
from dclib.train.chance import TASKS, tasks_at_chance
from dclib.train.quality import FEWEST_AXES, effective_rank

T = TypeVar("T")

STUCK = 0.98  # a loss above this share of chance after an epoch is called stuck
LONG_WAIT = 0.1  # a share of an epoch that is worth telling when its steps waited for images
LARGEST_SHARE = 0.5  # one cluster holding more than this share of the images is called a collapse


def steps_with_progress(steps: range, images_per_step: int, title: str) -> Iterator[int]:
    """``steps``, with a bar giving rate and time left where standard error is a terminal; silent elsewhere."""
    yield from tqdm(
        steps,
        desc=title,
        unit="img",
        unit_scale=images_per_step,
        leave=False,
        disable=not sys.stderr.isatty(),
    )


def timed(batches: Iterator[T], waited: Callable[[float], None]) -> Iterator[T]:
    """``batches``; ``waited`` is told the seconds that each of them took to come.

    Without decoding processes that is the whole reading, decoding and cutting; with them, what they were late. A GPU
    may have had work from before during some of it.
    """
    while True:
        start = time.monotonic()
        batch = next(batches, None)
        waited(time.monotonic() - start)
        if batch is None:
            return
        yield batch


def chance_loss(n_super_classes: int, n_sub_classes: int) -> float:
    """The joint loss of heads that know nothing: ln S + ln k, in nats."""
    return math.log(n_super_classes) + math.log(n_sub_classes)


def epoch_line(
    epoch: int, epochs: int, values: Mapping[str, float], chance: float, n_images: int, wait: float = 0.0
) -> str:
    """One line on an epoch: loss against chance, accuracies, rate, and a warning for each task at chance.

    ``values`` may hold ``<task>_accuracy`` with ``<task>_chance``, %, over ``n_images``. ``wait`` is the share of its
    time that it waited for images, in [0, 1]; told if there is much of it.
    """
    parts = [f"epoch {epoch}/{epochs}: loss {values['loss']:.3f} (chance {chance:.3f})"]
    parts += [f"{name.replace('_accuracy', '')} {values[name]:.1f} %" for name in values if name.endswith("_accuracy")]
    parts.append(f"{values['images_per_second']:.0f} images/s")
    if wait > LONG_WAIT:
        parts.append(f"{wait:.0%} of the time waiting for images")
    for task, accuracy, guess in tasks_at_chance(values, n_images):
        parts.append(f"WARNING: {TASKS[task]} at chance ({accuracy:.1f} %, a guess {guess:.1f} %): not learned so far")
    if values["loss"] > STUCK * chance:
        parts.append("WARNING: the loss is at chance; lower the learning rate, or use fewer clusters")
    return ", ".join(parts)


def clustering_values(
    clustering: Clustering, previous: PseudoLabels | None, true_labels: torch.Tensor | None
) -> dict[str, float]:
    """What a clustering is reported by: sizes, fit, agreement with the one before and with labels if there are any.

    ``nmi_*`` are normalised mutual information (arithmetic mean), ``ami_labels`` is adjusted for chance; all in
    [0, 1] up to sampling. Labels are for display alone: nothing that trains reads this.
    """
    labels = clustering.labels
    counts = labels.counts
    filled = counts[counts > 0].float()
    values = {
        "empty_clusters": float((counts == 0).sum()),
        "smallest_cluster": float(filled.min()),
        "median_cluster": float(filled.median()),
        "largest_cluster": float(filled.max()),
        "inertia": clustering.inertia,
        "explained_variance": clustering.explained_variance,
    }
    if clustering.variances is not None:
        values["effective_rank"] = effective_rank(clustering.variances)
    if previous is None and true_labels is None:
        return values

    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score  # twice as long as torch

    if previous is not None:
        values["nmi_previous"] = float(normalized_mutual_info_score(previous.clusters, labels.clusters))
    if true_labels is not None:
        values["nmi_labels"] = float(normalized_mutual_info_score(true_labels, labels.clusters))
        values["ami_labels"] = float(adjusted_mutual_info_score(true_labels, labels.clusters))
    return values


def clustering_line(values: Mapping[str, float], n_images: int, backend: str) -> str:
    """One line on a clustering, with a warning where one cluster holds most images."""
    line = (
        f"clustering ({backend}): {values['empty_clusters']:.0f} empty, sizes {values['smallest_cluster']:.0f} / "
        f"{values['median_cluster']:.0f} / {values['largest_cluster']:.0f} (smallest / median / largest)"
    )
    if "nmi_previous" in values:
        line += f", NMI with the previous one {values['nmi_previous']:.3f}"
    if "nmi_labels" in values:
        line += f", with labels (display only) {values['nmi_labels']:.3f}"
    if "effective_rank" in values:
        line += f", features use {values['effective_rank']:.1f} axes"
    if values["largest_cluster"] > LARGEST_SHARE * n_images:
        line += "; WARNING: most images are in one cluster, the features have collapsed"
    elif values.get("effective_rank", FEWEST_AXES) < FEWEST_AXES:
        line += "; WARNING: the features lie along one line, they have collapsed; lower train.lr"
    return line


class Stopwatch:
    """Seconds since it was made, on top of those of earlier sittings."""

    def __init__(self, earlier: float = 0.0) -> None:
        self._start = time.monotonic() - earlier

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
