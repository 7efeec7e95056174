"""What is known of every photograph of a folder once it has been explored: plain arrays, a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NONE = -1  # the cluster, second choice or duplicate group of a photograph that has none


@dataclass(frozen=True, eq=False)
class Grouping:
    """One clustering of photographs, and where they lie by the features that it rests on.

    Attributes:
        name: What it is called: of one network, or of one moment of its training.
        cluster: (n,) int32, from 0; NONE where nothing was clustered.
        distance: (n,) float32, from a photograph's point to the centroid of its cluster.
        second: (n,) int32, the cluster with the next nearest centroid; NONE where there is one cluster.
        sharpness: (n,) float32 in [0, 1]: 1 - distance / distance to the second centroid.
        place: (n, 2) float32 in [0, 1], on the map.
        neighbours: (n, m) int32, the nearest photographs by cosine, nearest first, itself not among them.
        similarity: (n, m) float32, their cosines.
        map_name: How the map was made: "PCA", "t-SNE".
        family: Under which heading it is listed, where there are several.
    """

    name: str
    cluster: NDArray[np.int32]
    distance: NDArray[np.float32]
    second: NDArray[np.int32]
    sharpness: NDArray[np.float32]
    place: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    similarity: NDArray[np.float32]
    map_name: str = "PCA"
    family: str = ""

    def coherence(self) -> NDArray[np.float32]:
        """Mean sharpness of each cluster, (clusters,); by it they are ordered. 0 for an empty one."""
        kept = self.cluster >= 0
        n = int(self.cluster.max(initial=NONE)) + 1
        total = np.bincount(self.cluster[kept], self.sharpness[kept], minlength=n)
        return (total / np.maximum(np.bincount(self.cluster[kept], minlength=n), 1)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Answers:
    """Photographs and what is known of them.

    Attributes:
        root: Folder of the photographs, absolute; "" where there is none to show (drawn pictures).
        paths: (n,) path of each below ``root``, with "/".
        size: (n, 2) int32, width and height in pixels, upright.
        taken: (n,) "YYYY-MM-DDTHH:MM:SS" from EXIF, else ""
        bytes: (n,) int64, of each file.
        duplicate: (n,) int32, the group of photographs that show the same; NONE for one of its own.
        duplicate_kind: (n,) "exact", "near" or "".
        groupings: One or more; the first is the one that tables show. None where there are too few photographs.
    """

    root: str
    paths: Sequence[str]
    size: NDArray[np.int32]
    taken: Sequence[str]
    bytes: NDArray[np.int64]
    duplicate: NDArray[np.int32]
    duplicate_kind: Sequence[str]
    groupings: tuple[Grouping, ...]

    def __len__(self) -> int:
        return len(self.paths)
