"""From a network and images to pseudo-labels, by way of features kept on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from dclib.cluster.pseudo_labels import Clustering, cluster_features
from dclib.cluster.stored_rows import StoredRows
from dclib.config import ClusterConfig
from dclib.data.pixels import Pixels
from dclib.distributed import is_main, wait_for_all
from dclib.models.vgg import Trunk
from dclib.train.features import store_features


def cluster_images(
    trunk: Trunk,
    pixels: Pixels,
    config: ClusterConfig,
    draws: torch.Generator,
    folder: Path,
    precision: str = "float32",
) -> Clustering:
    """Cluster the network's features of all images; memory does not grow with their number.

    Args:
        draws: Draws the initial centroids; in the same state in every process.
        folder: Keeps features and whitened points, on a disk that all processes share. An interrupted call goes on
            there: give each clustering one of its own, and call :func:`remove_stored` when its labels are safe.
        precision: Of the network's matrix products.

    Raises:
        FloatingPointError: features that are not finite.
        OSError: the disk cannot hold them.
        PreemptedError: a process was asked to leave.
    """
    features = StoredRows.at(folder / "features", len(pixels), trunk.config.feature_dim, config.precision)
    store_features(trunk, pixels, features, precision)
    device = next(trunk.parameters()).device
    return cluster_features(features.to(device), config, draws, work=folder / "points")


def remove_stored(folder: Path) -> None:
    """Delete a clustering's features and points."""
    wait_for_all()  # nobody reads them any more
    if is_main():
        shutil.rmtree(folder, ignore_errors=True)
