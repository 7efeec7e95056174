"""Figures 2 and 3: how uniform in colour the images of a cluster are.

Source: supplement, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dclib.data.pixels import Pixels

BATCH = 1024


@dataclass(frozen=True)
class ColourSpread:
    """The colours of one cluster's images: each image is its mean colour.

    Attributes:
        cluster: Its number.
        size: Its images.
        mean: Mean colour, red, green, blue, in levels from 0 to 255.
        spread: Standard deviation of the images' colours to it, in levels.
    """

    cluster: int
    size: int
    mean: tuple[float, float, float]
    spread: float


def mean_colours(pixels: Pixels) -> NDArray[np.float64]:
    """Mean red, green and blue of every image's centre crop, the part that is clustered: (n, 3), levels 0 to 255."""
    parts = [batch.double().mean(dim=(2, 3)).numpy() for batch in pixels.centre_batches(BATCH)]
    return np.concatenate(parts)


def spread_of(colours: NDArray[np.float64]) -> float:
    """Standard deviation of colours (m, 3) to their mean: the root of the mean squared Euclidean distance, levels."""
    return float(np.sqrt(((colours - colours.mean(axis=0)) ** 2).sum(axis=1).mean()))


def colour_spreads(
    colours: NDArray[np.float64], clusters: NDArray[np.int64], *, drawn: int, rng: np.random.Generator
) -> list[ColourSpread]:
    """The spread of at most ``drawn`` clusters of two images or more, chosen at random, most uniform first."""
    sizes = np.bincount(clusters)
    chosen = rng.permutation(np.flatnonzero(sizes >= 2))[:drawn]
    order = np.argsort(clusters, kind="stable")
    ends = np.cumsum(sizes)
    found = []
    for c in chosen.tolist():
        members = colours[order[ends[c] - sizes[c] : ends[c]]]
        mean = members.mean(axis=0)
        found.append(ColourSpread(c, int(sizes[c]), (mean[0], mean[1], mean[2]), spread_of(members)))
    return sorted(found, key=lambda one: (one.spread, one.cluster))
