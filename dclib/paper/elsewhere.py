"""What others published on CIFAR-10, where it stands and what it took. Nothing here is of the supplement, or ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """One accuracy on the 10,000 test images of CIFAR-10, from features that were learned without labels."""

    value: float  # %
    column: Literal["linear", "neighbours"]  # by a linear classifier on all labels, or by votes of neighbours
    what: str  # method and network
    budget: str  # what learning the features took
    source: str


_COATES = "Coates, Ng and Lee 2011, PMLR 15:215-223, Table 1"
_SOLO = "solo-learn, github.com/vturrisi/solo-learn, README, results on CIFAR-10, online"
_LIGHTLY = "Lightly, docs.lightly.ai, benchmarks, CIFAR-10, 200 neighbours, best epoch by the test images"

CIFAR10: tuple[Elsewhere, ...] = (
    Elsewhere(
        value=77.9,
        column="linear",
        what="K-means features, 1,600 centroids",
        budget="one whitened layer",
        source=_COATES,
    ),
    Elsewhere(
        value=79.6,
        column="linear",
        what="K-means features, 4,000 centroids",
        budget="one whitened layer",
        source=_COATES,
    ),
    Elsewhere(value=81.2, column="neighbours", what="SwAV, ResNet-18", budget="200 epochs", source=_LIGHTLY),
    Elsewhere(value=88.4, column="neighbours", what="SwAV, ResNet-18", budget="800 epochs", source=_LIGHTLY),
    Elsewhere(value=89.17, column="linear", what="SwAV, ResNet-18", budget="1,000 epochs", source=_SOLO),
    Elsewhere(value=92.58, column="linear", what="BYOL, ResNet-18", budget="1,000 epochs", source=_SOLO),
)
