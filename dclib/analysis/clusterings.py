"""The clusters that an analysis looks at: the features of a finished network over the pool, grouped once more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from dclib.config import ClusterConfig, Preset, config_hash
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels
from dclib.evaluate.networks import trained_network
from dclib.randomness import generator
from dclib.records import code_hash, replacing
from dclib.train.clustering import cluster_images
from dclib.train.runs import kept_pixels, prepare_data, preset_folder
from dclib.train.start import ROOMS, weights_hash

CLUSTERING_ROOMS = (*ROOMS, "analysis/clusterings")


def analysed_clustering(preset: Preset) -> ClusterConfig:
    """One clustering for all networks: the preset's own, on its levels; ``analysis.clusters`` if given, on one level.

    Where no method of the preset clusters, its section ``cluster`` holds all the same; every method carries it.
    """
    own = (preset.common_clustering or next(iter(preset.methods.values()))).cluster
    return replace(own, n_super=1, n_sub=preset.analysis.clusters) if preset.analysis.clusters else own


def pool_pixels(preset: Preset, method: str) -> Pixels:
    """The pool at a method's input size."""
    return kept_pixels(preset, method, prepare_data(preset).pool)


def final_clusters(preset: Preset, method: str, seed: int, *, device: str = "") -> tuple[ImageSet, NDArray[np.int64]]:
    """The pool's readable images, and the cluster of each, (n,) in [0, k).

    Features of the trained network are whitened, normalised and clustered as in training. The result is kept on
    disk, so that several pages share it.
    """
    trunk = trained_network(preset, method, seed, device=device)
    pixels, cluster = pool_pixels(preset, method), analysed_clustering(preset)
    key = config_hash(weights_hash(trunk), pixels.identity, cluster, seed, code_hash(*CLUSTERING_ROOMS))
    path = preset_folder(preset) / "runs" / f"clusters-{method}-s{seed}-{key}.npy"
    if not path.is_file():
        with TemporaryDirectory(prefix=f"{path.stem}-", dir=path.parent) as folder:  # pages may be at this side by side
            labels = cluster_images(trunk, pixels, cluster, generator(seed, "analysed clustering"), Path(folder)).labels
        with replacing(path) as file:
            np.save(file, labels.clusters.numpy())
    clusters: NDArray[np.int64] = np.load(path)
    return pixels.images, clusters
