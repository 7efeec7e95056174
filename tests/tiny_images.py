"""Small pictures that can be learned in seconds, and settings to learn them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dclib.config import ClusterConfig, DataConfig, MethodConfig, ModelConfig, TrainConfig
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels, load_pixels
from dclib.data.transforms import to_tensor

CLASSES = ("cross", "disc", "fence", "wedge")
SIDE = 36  # of the pictures, pixels
TINY_MODEL = ModelConfig(image_size=32, width=1 / 16, hidden_dim=16, feature_dim=16, dropout=0.0)


def draw_shape(kind: str, rng: np.random.Generator) -> Image.Image:
    """A bright shape on a dark gradient; places, sizes and colours vary. Each has an upright and a turned look."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    cy, cx, size = *rng.uniform(0.42, 0.58, 2), rng.uniform(0.26, 0.34)
    dy, dx = y - cy, x - cx
    shapes = {
        "cross": (np.minimum(abs(dy), abs(dx)) < 0.07) & (np.maximum(abs(dy), abs(dx)) < size),
        "disc": dy**2 + dx**2 < size**2,
        "fence": (abs(dx) < size) & (abs(dy) < size) & ((x * 8).astype(int) % 2 == 0),
        "wedge": (abs(dx) < (dy + size) / 2) & (dy < size),
    }
    brightness = 0.15 + 0.25 * y + 0.55 * shapes[kind]  # always darker above: what a turn is told by
    colours = brightness[..., None] * rng.uniform(0.8, 1.0, 3) + rng.normal(0, 0.02, (SIDE, SIDE, 3))
    return Image.fromarray((255 * colours.clip(0, 1)).astype(np.uint8))


def write_pictures(root: Path, n: int, *, classes: Sequence[str] = CLASSES, seed: int = 0, flat: bool = False) -> Path:
    """Write ``n`` pictures, alternately PNG and JPEG, into class folders below ``root``; ``flat`` into ``root``."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        kind = classes[i % len(classes)]
        folder = root if flat else root / kind
        folder.mkdir(parents=True, exist_ok=True)
        draw_shape(kind, rng).save(folder / f"{i:03d}.{('png', 'jpg')[i // len(classes) % 2]}")
    return root


def decoded_pixels(images: ImageSet, *, size: int = 32, resize: int = SIDE) -> Pixels:
    """The set decoded into memory."""
    return load_pixels(images, DataConfig(resize=resize), size)


def streamed_pixels(images: ImageSet, *, size: int = 32, resize: int = SIDE) -> Pixels:
    """The set decoded image by image as it is used."""
    return load_pixels(images, DataConfig(resize=resize, memory_gb=0.0), size)


def method_config(
    method: str,
    *,
    model: ModelConfig = TINY_MODEL,
    cluster: dict[str, object] | None = None,
    train: dict[str, object] | None = None,
) -> MethodConfig:
    """A tiny run of one method: two epochs of three batches, six clusters in each super-cluster."""
    clusters = ClusterConfig(**{"n_sub": 6, "pca_dim": 8, "n_iter": 3, **(cluster or {})})  # type: ignore[arg-type]
    steps = {"epochs": 2, "epoch_images": 48, "batch_size": 16, "lr": 0.05, "crop_area": 0.5, **(train or {})}
    return MethodConfig(method=method, model=model, cluster=clusters, train=TrainConfig(**steps))  # type: ignore[arg-type]


def with_labels(pixels: Pixels, labels: np.ndarray | None) -> Pixels:
    """The same pictures under other labels, or without any."""
    classes = () if labels is None else pixels.images.classes
    return replace(pixels, images=replace(pixels.images, labels=labels, classes=classes))


def labelled(pictures: torch.Tensor, labels: Sequence[int], size: int) -> Pixels:
    """Pixels from a (n, 3, side, side) uint8 tensor that never was a file."""
    names = tuple("abcdefgh"[: max(labels) + 1])
    ids = [str(i) for i in range(len(pictures))]
    images = ImageSet("made", ids, NoReader(), np.array(labels, dtype=np.int64), names)
    return Pixels(images, (), size, pictures.shape[-1], pictures)


class NoReader:
    """For sets whose pixels are there already."""

    def read(self, image_id: str) -> bytes:
        raise AssertionError("nothing is to be decoded")

    def sizes(self, image_ids: Sequence[str]) -> np.ndarray:
        return np.zeros(len(image_ids), dtype=np.int64)


def picture_tensor(kinds: Sequence[str], seed: int = 0) -> torch.Tensor:
    """Shapes as (n, 3, SIDE, SIDE) uint8."""
    rng = np.random.default_rng(seed)
    return torch.stack([to_tensor(draw_shape(kind, rng)) for kind in kinds])


def silent(line: str) -> None:
    """A report that nobody reads."""


class Interruption(Exception):
    """Stands for whatever ends a process: raised inside a run to stop it there."""


def interrupt_at(count: int, call: Callable[..., object]) -> Callable[..., object]:
    """``call``, which works ``count`` times and then raises Interruption before it does anything."""
    calls = [0]

    def wrapped(*arguments: object, **options: object) -> object:
        calls[0] += 1
        if calls[0] > count:
            raise Interruption
        return call(*arguments, **options)

    return wrapped
