"""What features say of themselves, without labels: each measure a function of arrays, none knows a network.

The score rests on two of them: whether coarse clusters hold when an image is cropped, and whether they go by colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import mean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dclib.cluster.kmeans import kmeans
from dclib.cluster.whitening import fit_pca_whitening, l2_normalise, usable_pca_dim
from dclib.randomness import generator

AXES = 32  # principal axes that are whitened
KINDS = (5, 10)  # clusters: coarse ones
STARTS = 4  # of k-means
FEWEST_AXES = 1.2  # effective rank below which features lie along one line
SAME = 1e-5  # spread of features, as a share of their size, below which they are one and the same


def is_alive(features: Tensor) -> bool:
    """Whether features (n, d) are finite and differ from image to image by more than rounding."""
    if len(features) < 2 or not bool(torch.isfinite(features).all()):
        return False
    spread = float(features.double().std(dim=0, correction=0).max())
    return spread > SAME * max(float(features.double().abs().max()), 1e-30)


def spectrum(features: Tensor) -> Tensor:
    """The share of the variance on each principal axis, (min(n, d),) float64, largest first; of finite features."""
    centred = features.double() - features.double().mean(dim=0)
    variances: Tensor = torch.linalg.svdvals(centred) ** 2
    return variances / variances.sum().clamp(min=1e-300)


def effective_rank(shares: Tensor) -> float:
    """How many axes the variance is spread over: exp of the entropy of their shares (d,), which need not sum to 1.

    From 1, all on one axis, to d, the same on each.

    Source: Roy and Vetterli 2007; Garrido et al. 2023, arXiv:2210.02885, for features. Differs: of variances, where
    both have singular values, and of centred features.
    """
    p = shares.double().clamp(min=0)
    p = p / p.sum().clamp(min=1e-300)
    return float(torch.exp(torch.special.entr(p).sum()))


def agreement(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Adjusted mutual information of two clusterings of the same images: 0 by chance, 1 for the same; 0 of one cluster.

    Where everything is in one cluster nothing is told apart, and agreeing on that is no agreement.
    """
    from sklearn.metrics import adjusted_mutual_info_score  # twice as long as torch

    if len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return 0.0
    return float(adjusted_mutual_info_score(one, other))


def cluster_views(features: Tensor, views: Sequence[Tensor], k: int, seed: int) -> list[NDArray[np.int64]]:
    """k-means on whitened features (n, d), and to which of its clusters each view of the images goes.

    Args:
        views: Features (n, d) of other pictures of the same images; whitened as the first are.

    Returns:
        (n,) cluster numbers, of the features and of each of the views.
    """
    whitening = fit_pca_whitening(features, usable_pca_dim(AXES, max(len(features) // 4, 2), features.shape[1]))
    points = [l2_normalise(whitening.transform(part)) for part in (features, *views)]
    found = kmeans(points[0], k, generator=generator(seed, "quality", k), backend="torch")
    return [found.assignments.numpy(), *(_nearest(found.centroids, part) for part in points[1:])]


def steadiness(features: Tensor, views: Sequence[Tensor]) -> tuple[float, float]:
    """Whether coarse clusters hold: when an image is cropped, and when k-means starts anew; each up to 1.

    Mean agreement over 5 and 10 clusters (fewer of less than 40 images) and four starts of k-means each: of the
    clusters of images with those of ``views``; and of every two starts.
    """
    cropped, started = [], []
    for k in {min(k, max(2, len(features) // 4)) for k in KINDS}:
        starts = [cluster_views(features, views, k, seed) for seed in range(STARTS)]
        cropped += [agreement(whole, part) for whole, *parts in starts for part in parts]
        started += [agreement(one[0], other[0]) for one, other in combinations(starts, 2)]
    return mean(cropped), mean(started)


def score_of(cropped: float, colour: float, rank: float) -> float:
    """One number, in [0, 1], the higher the better: how well clusters hold under crops, and not by colour.

    Clusters that explain half of the images' colours count for nothing, and so do features along one line.

    Args:
        cropped: Of :func:`steadiness`.
        colour: Share of the images' mean colours that clusters explain.
        rank: Of :func:`effective_rank`.
    """
    return (rank >= FEWEST_AXES) * max(cropped, 0.0) * min(max(1 - 2 * colour, 0.0), 1.0)


def found_again(features: Tensor, view: Tensor) -> float:
    """The share of images for which their own view is the nearest of all views by cosine, in [0, 1]; chance is 1 / n.

    Args:
        features, view: (n, d), row by row of the same images; both are centred by the mean of the first.
    """
    centre = features.mean(dim=0)
    cosines = l2_normalise(features - centre) @ l2_normalise(view - centre).T
    own = cosines.diagonal().unsqueeze(1)
    return float(((cosines >= own).sum(dim=1) == 1).double().mean())


def share_explained(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """The share of the variance of values (n, c) that lies between clusters (n,): 0 by chance, at most 1.

    Adjusted for the number of clusters, as R squared is for regressors.
    """
    names, labels, counts = np.unique(clusters, return_inverse=True, return_counts=True)
    n, k = len(values), len(names)
    total = ((values - values.mean(axis=0)) ** 2).sum()
    if n <= k or total <= 0:
        return 0.0
    means = np.stack([np.bincount(labels, column) / counts for column in values.T], axis=1)
    within = ((values - means[labels]) ** 2).sum()
    return float(1 - (within / (n - k)) / (total / (n - 1)))


def _nearest(centroids: Tensor, points: Tensor) -> NDArray[np.int64]:
    """The nearest centroid (k, d) of each point (n, d)."""
    found: NDArray[np.int64] = torch.cdist(points, centroids).argmin(dim=1).numpy()
    return found
