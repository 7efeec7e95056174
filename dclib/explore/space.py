"""The space in which a run's clusters lie: features whitened and of unit length, and a centroid for each cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dclib.cluster.stored_rows import StoredRows
from dclib.cluster.whitening import PcaWhitening, fit_pca_whitening, l2_normalise
from dclib.config import DataConfig
from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels, load_pixels
from dclib.explore.answers import NONE
from dclib.explore.found import Run
from dclib.models.vgg import Trunk
from dclib.presets import load_preset
from dclib.records import replacing
from dclib.train.features import PAPER_RESIZE, store_features
from dclib.train.runs import method_pixels, prepare_data

CENTROIDS = "centroids.npz"
BLOCK = 4096  # points whose distances to all centroids are held at once
PCA_DIM = 256  # axes where a run does not say how many it kept


@dataclass(frozen=True)
class Space:
    """Whitening and centroids.

    Attributes:
        mean: (d,) of the features.
        projection: (d, p): a point is (features - mean) @ projection, made of unit length.
        centroids: (k, p) float32; of a cluster without images not a number.
    """

    mean: Tensor
    projection: Tensor
    centroids: Tensor

    def points(self, features: Tensor) -> Tensor:
        """(n, d) to (n, p), of unit length."""
        return l2_normalise((features - self.mean) @ self.projection)

    def save(self, path: Path, weights: str = "") -> None:
        """Keep it in a ``.npz``, with the hash of the network's weights where it is given."""
        mean, projection, centroids = (one.numpy() for one in (self.mean, self.projection, self.centroids))
        with replacing(path) as file:
            np.savez(file, mean=mean, projection=projection, centroids=centroids, weights=np.array(weights))

    def place(self, features: Tensor) -> dict[str, Tensor]:
        """Cluster, second choice, distance and sharpness (n,) of features (n, d); see ``Grouping``."""
        there = (~self.centroids.isnan().any(dim=1)).nonzero().squeeze(1)
        centroids = self.centroids[there]
        found: dict[str, list[Tensor]] = {"cluster": [], "distance": [], "second": [], "sharpness": []}
        for block in features.split(BLOCK):
            points = self.points(block)
            nearest = torch.cdist(points, centroids).topk(min(2, len(there)), largest=False).indices
            distance = (points[:, None] - centroids[nearest]).norm(dim=2)
            nearest = there[nearest]
            if len(there) == 1:
                nearest = torch.cat([nearest, torch.full_like(nearest, NONE)], dim=1)
                distance = torch.cat([distance, torch.full_like(distance, float("inf"))], dim=1)
            found["cluster"].append(nearest[:, 0])
            found["second"].append(nearest[:, 1])
            found["distance"].append(distance[:, 0])
            found["sharpness"].append((1 - distance[:, 0] / distance[:, 1].clamp(min=1e-12)).clamp(0, 1))
        return {name: torch.cat(values) for name, values in found.items()}


def kept_space(path: Path, weights: str) -> Space | None:
    """What was kept in a file with this hash of the network's weights; None where there is no such."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            same, width = str(kept["weights"]) == weights, len(kept["mean"])
        return read_space(path, width) if same else None
    except Exception:  # none, an older one, or broken bytes: it is made anew
        return None


def read_space(path: Path, width: int) -> Space | None:
    """What is kept in a file; None where there is none. Raises ValueError where it is of another network."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            names = ("mean", "projection", "centroids")
            mean, projection, centroids = (torch.from_numpy(kept[name].astype(np.float32)) for name in names)
        if projection.shape != (width, centroids.shape[1]) or mean.shape != (width,):
            raise ValueError(f"it is of {len(mean)} features, and the network makes {width}")
    except Exception as error:  # NumPy raises nearly anything on broken bytes
        raise ValueError(f"{path} is damaged or of another network: {error}; delete it, and it is made anew") from None
    return Space(mean, projection, centroids)


def make_space(
    run: Run, trunk: Trunk, pool: str = "", report: Callable[[str], None] = print
) -> tuple[Space | None, str]:
    """The space of a run's last clustering, from its pool's features by the network of now; or why there is none.

    The checkpoint keeps which cluster each image was in, and no centroids: they are the means of the clusters' points.
    They are kept beside it.
    """
    task = run.saved.get("task")
    if not (
        isinstance(task, Mapping) and {"super_cluster", "sub_class"} <= task.keys() and run.saved.get("clusterings")
    ):
        return None, "it was not trained by clusters that its checkpoint keeps"
    numbers = _numbers(task)
    try:
        pixels, why = _pool(run, trunk, pool)
    except (ValueError, OSError) as error:
        pixels, why = None, str(error)
    if pixels is None:
        return None, f"the images it learned from are not here: {why}; name their folder with --pool"
    if len(pixels) != len(numbers):
        return None, f"it learned from {len(numbers):,} images, and here are {len(pixels):,}; name theirs with --pool"
    report(f"making the centroids of its {int(numbers.max()) + 1:,} clusters from its own {len(pixels):,} images")
    dim = int(run.saved.get("notes", {}).get("pca_dim", PCA_DIM))
    with tempfile.TemporaryDirectory(dir=run.folder if _writable(run.folder) else None) as work:
        stored = StoredRows.at(Path(work) / "features", len(pixels), trunk.config.feature_dim, "float32")
        store_features(trunk, pixels, stored)
        space = space_of(stored, numbers, dim)
    try:
        space.save(run.folder / CENTROIDS)
    except OSError as error:
        report(f"the centroids are not kept: {error}")
    return space, ""


def space_of(features: StoredRows | Tensor, numbers: Tensor, dim: int) -> Space:
    """Whitening of features (n, d) to ``dim`` axes, and the mean point of each cluster by its number (n,)."""
    whitening: PcaWhitening = fit_pca_whitening(features, dim)
    k = int(numbers.max()) + 1
    sums, start = torch.zeros(k, dim, dtype=torch.float64), 0
    for block in features.split(BLOCK):
        points = l2_normalise(whitening.transform(block)).cpu().double()
        sums.index_add_(0, numbers[start : start + len(block)], points)
        start += len(block)
    counts = torch.bincount(numbers, minlength=k)
    means = torch.where(counts[:, None] > 0, sums / counts[:, None], float("nan"))
    return Space(whitening.mean.cpu(), whitening.projection.cpu(), means.float())


def _numbers(task: Mapping[str, Any]) -> Tensor:
    """One cluster number for each image, (n,), counted as the run does."""
    head = task.get("head")
    weight = head.get("sub_weight") if isinstance(head, Mapping) else None
    n_sub = weight.shape[1] if weight is not None and weight.ndim == 3 else int(task["sub_class"].max()) + 1
    numbers: Tensor = task["super_cluster"] * n_sub + task["sub_class"]
    return numbers.long()


def _pool(run: Run, trunk: Trunk, pool: str) -> tuple[Pixels | None, str]:
    """What the run learned from, in its order."""
    if pool:
        size = trunk.config.image_size
        return load_pixels(open_images(pool), DataConfig(resize=round(size * PAPER_RESIZE)), size, scan=True), ""
    if not run.preset:
        return None, "no preset says where they are"
    preset = load_preset(run.preset)
    return method_pixels(preset, run.method, prepare_data(preset)).of_size(trunk.config.image_size), ""


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
