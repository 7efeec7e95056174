"""How time grows: features and probes with the number of images; k-means with points, clusters and dimensions.

    python benchmarks/growth.py

Each series doubles one size and keeps the others. Sizes take turns, ``--repeats`` times, in one process; medians and
extremes go to ``results/benchmarks/growth.json``, and the book draws them on logarithmic axes with the slopes. What a
clustering of features on disk needs, memory too, is measured by ``clustering_growth.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measuring import benchmark_card, record_path, summary, take_turns
from probes import pool_all, probe_seconds
from torch.nn.functional import normalize
from training_step import random_pixels

from dclib.cluster.kmeans import kmeans
from dclib.config import ModelConfig
from dclib.evaluate.linear_probe import OBJECTS_LR
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.records import Record, write_records
from dclib.train.features import FEATURE_BATCH, feature_batches
from dclib.train.runs import device_name

IMAGES = (512, 1_024, 2_048, 4_096, 8_192)
POINTS = 50_000, 100_000, 200_000, 400_000, 800_000  # more than caches hold: fewer are faster, each
CLUSTERS, DIMENSIONS = (64, 128, 256, 512, 1_024), (32, 64, 128, 256)
POINTS_KEPT, CLUSTERS_KEPT, DIMENSIONS_KEPT = 20_000, 256, 64
UPDATES, CLASSES, PROBE_BATCH = 3, 10, 64
MODEL = ModelConfig(image_size=32, width=0.25, hidden_dim=128, feature_dim=256, dropout=0.0)
ROOMS = ("cluster", "evaluate/linear_probe", "models", "train/features")

Series = dict[int, Callable[[], object]]  # size -> what is timed


def features_series(sizes: tuple[int, ...]) -> Series:
    """The pass over all images before a clustering."""
    trunk, pixels = small_trunk(), random_pixels(max(sizes), MODEL.image_size)

    def extract(n: int) -> None:
        for _ in feature_batches(trunk, pixels, range(n), FEATURE_BATCH, "float32"):
            pass

    return {n: partial(extract, n) for n in sizes}


def probes_series(sizes: tuple[int, ...]) -> Series:
    """One pass of the 13 classifiers."""
    trunk = small_trunk()
    images = torch.rand(PROBE_BATCH, 3, MODEL.image_size, MODEL.image_size, generator=generator(0, "images"))
    return {
        n: partial(probe_seconds, pool_all(trunk), OBJECTS_LR, [images] * (n // PROBE_BATCH), CLASSES) for n in sizes
    }


def kmeans_case(n: int, k: int, d: int) -> Callable[[], object]:
    points = normalize(torch.randn(n, d, generator=generator(0, "points")), dim=1)
    return partial(kmeans, points, k, generator=generator(0, "start"), n_iter=UPDATES, initial=points[:k].clone())


def small_trunk() -> Trunk:
    return Trunk(MODEL, generator(0, "trunk")).eval().to(memory_format=torch.channels_last)


def all_series(share: float) -> dict[tuple[str, str], Series]:
    """What is timed, by what it is and what it is timed against; sizes are multiplied by ``share``."""

    def scaled(sizes: tuple[int, ...], least: int) -> tuple[int, ...]:
        return tuple(dict.fromkeys(max(least, round(share * size)) for size in sizes))

    n, k, d = POINTS_KEPT, CLUSTERS_KEPT, DIMENSIONS_KEPT
    return {
        ("features", "images"): features_series(scaled(IMAGES, PROBE_BATCH)),
        ("probes", "images"): probes_series(scaled(IMAGES, PROBE_BATCH)),
        ("k-means", "points"): {size: kmeans_case(size, k, d) for size in scaled(POINTS, k)},
        ("k-means", "clusters"): {size: kmeans_case(n, size, d) for size in scaled(CLUSTERS, 2)},
        ("k-means", "dimensions"): {size: kmeans_case(n, k, size) for size in scaled(DIMENSIONS, 2)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the sizes; less is quicker")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=record_path("growth"))
    options = parser.parse_args()
    began, records = time.monotonic(), list[Record]()
    for (work, against), series in all_series(options.share).items():
        series[max(series)]()  # the first is slower
        for size, seconds in take_turns({str(size): run for size, run in series.items()}, options.repeats).items():
            records += summary("growth_seconds", seconds, "s", int(size), work=work, against=against)
    settings = {"share": options.share, "repeats": options.repeats, "n": POINTS_KEPT, "k": CLUSTERS_KEPT}
    settings |= {"d": DIMENSIONS_KEPT, "updates": UPDATES, "width": MODEL.width, "image_size": MODEL.image_size}
    card = benchmark_card(settings, ROOMS, began, device=device_name(torch.device("cpu")))
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
