"""R-MAC: an image described by the strongest responses in a grid of regions of its last feature map.

Source: supplement, section 4.1, after Tolias, Sicre and Jegou, arXiv:1511.05879; what that leaves open from
DeepCluster's eval_retrieval.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dclib.cluster.whitening import PcaWhitening, l2_normalise

WANTED_OVERLAP = 0.4  # of two neighbouring squares of the coarsest level, as a share of one
STEPS = (2, 3, 4, 5, 6, 7)  # squares along the longer side that are tried to come near it


@dataclass(frozen=True)
class Region:
    """A square of a feature map, in its pixels."""

    top: int
    left: int
    side: int


def rmac_regions(height: int, width: int, levels: int = 3) -> list[Region]:
    """Regions of a map, level by level: at level l squares of side 2 * short / (l + 1), l of them along the short side.

    Along the longer side stand as many more as bring the overlap of neighbours on the first level nearest to 0.4. A
    square map has 1 + 4 + 9 regions on three levels, one of 4:3 has 2 + 6 + 12. Levels whose squares would be less
    than a pixel are left out.

    Raises:
        ValueError: a side or the number of levels is below one.
    """
    if min(height, width, levels) < 1:
        raise ValueError(f"need a map of at least one pixel and one level; got {height} x {width}, {levels} levels")
    short, extra = min(height, width), extra_regions(height, width)
    regions = []
    for level in range(1, levels + 1):
        side = 2 * short // (level + 1)
        if side == 0:
            continue
        down = _starts(height, side, level + (extra if height > width else 0))
        across = _starts(width, side, level + (extra if width > height else 0))
        regions += [Region(top, left, side) for top in down for left in across]
    return regions


def extra_regions(height: int, width: int) -> int:
    """How many more squares stand along the longer side than along the shorter one; 0 for a square map."""
    short, long = min(height, width), max(height, width)
    if short == long:
        return 0
    overlaps = [1 - (long - short) / (steps - 1) / short for steps in STEPS]
    return 1 + min(range(len(STEPS)), key=lambda i: abs(overlaps[i] - WANTED_OVERLAP))


def region_vectors(feature_map: Tensor, levels: int = 3) -> Tensor:
    """The largest response of each channel in each region, L2-normalised: (c, h, w) to (regions, c)."""
    _, height, width = feature_map.shape
    maxima = [
        feature_map[:, r.top : r.top + r.side, r.left : r.left + r.side].amax(dim=(1, 2))
        for r in rmac_regions(height, width, levels)
    ]
    return l2_normalise(torch.stack(maxima))


def aggregate(vectors: Tensor, whitening: PcaWhitening | None = None) -> Tensor:
    """Region vectors (r, c) to one descriptor of length one: whitened and normalised each, summed, normalised."""
    if whitening is not None:
        vectors = l2_normalise(whitening.transform(vectors))
    return l2_normalise(vectors.sum(dim=0, keepdim=True)).squeeze(0)


def rmac(feature_map: Tensor, levels: int = 3) -> Tensor:
    """The descriptor of a feature map (c, h, w), without whitening: (c,), of length one."""
    return aggregate(region_vectors(feature_map, levels))


def _starts(length: int, side: int, count: int) -> list[int]:
    """Where ``count`` squares begin, spread evenly from one end to the other."""
    if count == 1:
        return [(length - side) // 2]
    step = (length - side) / (count - 1)
    return [math.floor(i * step) for i in range(count)]
