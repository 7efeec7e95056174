"""Before a run starts: whether it can, and what its checkpoint belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from dclib.cluster.counts import check_cluster_counts
from dclib.config import MethodConfig, ModelConfig, config_hash
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels
from dclib.methods import MODULES, OUTLINES
from dclib.models.vgg import Trunk
from dclib.records import code_hash

# whose code can change a result; what the loaders read is told by the images' fingerprint
DATA_ROOMS = (
    *("data/decoding", "data/images", "data/photo_crops", "data/pixels", "data/samplers", "data/streaming"),
    "data/transforms",
)
TRAIN_ROOMS = (
    *("train/clustering", "train/features", "train/placement", "train/pretrain", "train/state"),
    *("train/tasks/__init__", "train/tasks/task"),
)
MODEL_ROOMS = ("models/batch_norm", "models/device", "models/heads", "models/layers", "models/sobel", "models/vgg")
ROOMS = ("randomness", "distributed", "precision", *DATA_ROOMS, *MODEL_ROOMS, "cluster", *TRAIN_ROOMS)


def own_rooms(config: MethodConfig) -> tuple[str, ...]:
    """Whose code the numbers of this method rest on, and those of others do not."""
    module = MODULES[config.method]
    return f"train/tasks/{module}", *OUTLINES[config.method].rooms


@dataclass(frozen=True)
class Validator:
    """What tells when a network has learned enough: Pascal VOC 2007 in the paper."""

    score: Callable[[Trunk], float]  # mean average precision, %; puts the network back as it was
    identity: str  # changes with anything that changes a score


def check_start(images: ImageSet | Pixels, config: MethodConfig, initial: Trunk | None = None) -> None:
    """ValueError if this method cannot be trained on these images from there, before any work is done."""
    if config.method == "random":
        raise ValueError("method 'random' is the untrained network: there is nothing to train; choose another method")
    if config.method == "released":
        raise ValueError("method 'released' is trained already: there is nothing to do; choose another method")
    if initial is not None and not same_network(initial.config, config.model):
        raise ValueError(f"the network to start from has model {initial.config}, this method needs {config.model}")
    labels = images.images.labels if isinstance(images, Pixels) else images.labels
    if len(images) < 2:
        raise ValueError(f"need at least 2 images to train on; got {len(images)}")
    if config.clusters:
        check_cluster_counts(len(images), config.cluster)
    if config.method == "supervised" and (labels is None or len(set(labels.tolist())) < 2):
        raise ValueError("supervised training needs images of at least two classes; give one folder per class")


def same_network(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether weights of one fit the other: everything but the dropout is the same."""
    return replace(one, dropout=other.dropout) == other


def run_identity(
    config: MethodConfig, pixels: Pixels, seed: int, initial: Trunk | None, validator: Validator | None = None
) -> str:
    """What a checkpoint belongs to: settings, data, seed, starting weights, what stops it, and the code."""
    start = "" if initial is None else weights_hash(initial)
    judge = "" if validator is None or not config.train.patience else validator.identity
    return config_hash(
        config,
        OUTLINES[config.method].decides(config),
        pixels.identity,
        seed,
        start,
        judge,
        code_hash(*ROOMS, *own_rooms(config)),
    )


def weights_hash(trunk: Trunk) -> str:
    """Hash of every weight and running statistic."""
    digest = hashlib.sha256()
    for tensor in trunk.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
