"""What clusters are about, told by what the photographs come with: hashtags, cameras, places, photographers.

Training reads none of it. Source: the cluster figure of the main paper, whose photographers the supplement's section 6
names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from dclib.analysis.hashtags import count_tags
from dclib.data.images import ImageSet
from dclib.data.yfcc_metadata import MetadataTable, PhotoMetadata, photos_by_image

FIELDS = ("hashtag", "device", "gps", "user")
CELL_DEGREES = 1.0  # side of a GPS cell
PERMUTATIONS = 5  # of the labels, to see what chance gives


@dataclass(frozen=True)
class Agreement:
    """How far clusters and a field agree, over the photographs that have it.

    Attributes:
        n: Those photographs.
        nmi, ami: Normalised mutual information, and the one adjusted for chance (arithmetic means).
        purity: Share of photographs whose value is the commonest of their cluster.
        chance_nmi, chance_purity: The same with the values dealt out anew, mean over permutations.
    """

    n: int
    nmi: float
    ami: float
    purity: float
    chance_nmi: float
    chance_purity: float


@dataclass(frozen=True)
class Dominated:
    """A cluster in which one value of a field is common."""

    cluster: int
    value: str  # as shown on a page
    size: int
    share: float  # of its images that have the value


class ClusteredPhotos(Protocol):
    """Photographs of clustered images and their metadata, however many and wherever they are."""

    def __len__(self) -> int: ...

    def agreement(self, field: str, seed: int) -> Agreement | None:
        """How far clusters and a field agree; None where there are not two values."""
        ...

    def dominated(self, field: str, *, smallest: int, count: int) -> list[Dominated]:
        """Clusters in which one value is common; see :func:`dominated_clusters`."""
        ...

    def nicknames(self, rows: Sequence[int]) -> list[str]:
        """Who took the images of some rows; empty where that is not known."""
        ...


@dataclass(frozen=True)
class MatchedPhotos:
    """Those that fit in memory."""

    clusters: NDArray[np.int64]
    photos: Mapping[int, PhotoMetadata]

    def __len__(self) -> int:
        return len(self.photos)

    def agreement(self, field: str, seed: int) -> Agreement | None:
        values = field_values(self.photos, field)
        return agreement(self.clusters, values, seed) if len(set(values.values())) > 1 else None

    def dominated(self, field: str, *, smallest: int, count: int) -> list[Dominated]:
        return dominated_clusters(self.clusters, self.photos, field, smallest=smallest, count=count)

    def nicknames(self, rows: Sequence[int]) -> list[str]:
        return [self.photos[row].user_nickname if row in self.photos else "" for row in rows]


def match_photos(images: ImageSet, table: MetadataTable) -> dict[int, PhotoMetadata]:
    """Row of the image set -> its line of the metadata; see :func:`dclib.data.yfcc_metadata.photos_by_image`."""
    rows = {image_id: row for row, image_id in enumerate(images.ids)}
    return {rows[image_id]: photo for image_id, photo in photos_by_image(images.ids, table.photos).items()}


def field_values(photos: Mapping[int, PhotoMetadata], field: str) -> dict[int, Hashable]:
    """Row -> value of a field, for the photographs that have it.

    ``hashtag``: of a photograph's hashtags the one that most photographs carry, ties by the alphabet. ``device``:
    the camera as written. ``gps``: the cell of one degree by one, named by its south-western corner. ``user``.
    """
    if field == "hashtag":
        counts = count_tags(photo.user_tags for photo in photos.values())
        tagged = {row: tags for row, photo in photos.items() if (tags := photo.hashtags)}
        return {row: min(tags, key=lambda tag: (-counts[tag], tag)) for row, tags in tagged.items()}
    if field == "device":
        return {row: photo.capture_device for row, photo in photos.items() if photo.capture_device}
    if field == "gps":
        return {row: cell_of(photo) for row, photo in photos.items() if photo.is_located}
    if field == "user":
        return {row: photo.user_id for row, photo in photos.items()}
    raise ValueError(f"unknown field {field!r}; there are {', '.join(FIELDS)}")


def cell_of(photo: PhotoMetadata) -> tuple[int, int]:
    """Latitude and longitude of the south-western corner of a photograph's cell, degrees."""
    return (
        math.floor(photo.latitude / CELL_DEGREES) * int(CELL_DEGREES),
        math.floor(photo.longitude / CELL_DEGREES) * int(CELL_DEGREES),
    )


def agreement(clusters: NDArray[np.int64], values: Mapping[int, Hashable], seed: int) -> Agreement:
    """Compare the clusters of the photographs in ``values`` with their values, and with the values dealt out anew.

    Raises:
        ValueError: fewer than two photographs have a value.
    """
    if len(values) < 2:
        raise ValueError(f"need at least two photographs with a value to compare clusters with; got {len(values)}")
    rows = sorted(values)
    mine = clusters[rows]
    codes = {value: code for code, value in enumerate(sorted(set(values.values()), key=repr))}
    theirs = np.array([codes[values[row]] for row in rows])
    rng = np.random.default_rng(seed)
    dealt = [rng.permutation(theirs) for _ in range(PERMUTATIONS)]
    return Agreement(
        n=len(rows),
        nmi=float(normalized_mutual_info_score(theirs, mine)),
        ami=float(adjusted_mutual_info_score(theirs, mine)),
        purity=purity(mine, theirs),
        chance_nmi=float(np.mean([normalized_mutual_info_score(labels, mine) for labels in dealt])),
        chance_purity=float(np.mean([purity(mine, labels) for labels in dealt])),
    )


def purity(clusters: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Share of points whose label is the commonest of their cluster, in (0, 1]."""
    pairs = Counter(zip(clusters.tolist(), labels.tolist(), strict=True))
    best: dict[int, int] = {}
    for (cluster, _), count in pairs.items():
        best[cluster] = max(best.get(cluster, 0), count)
    return sum(best.values()) / len(clusters)


def dominated_clusters(
    clusters: NDArray[np.int64], photos: Mapping[int, PhotoMetadata], field: str, *, smallest: int, count: int
) -> list[Dominated]:
    """Clusters of at least ``smallest`` images with the largest share of one value, one cluster for each value.

    The share is over all images of the cluster, those without the field included; of hashtags every one of a
    photograph counts, not only the commonest.
    """
    sizes = np.bincount(clusters)
    tallies: dict[int, Counter[str]] = {}
    for row, shown in _shown_values(photos, field).items():
        tallies.setdefault(int(clusters[row]), Counter()).update(shown)
    best = []
    for cluster, tally in tallies.items():
        value, n = min(tally.items(), key=lambda item: (-item[1], item[0]))
        if sizes[cluster] >= smallest:
            best.append(Dominated(cluster, value, int(sizes[cluster]), n / int(sizes[cluster])))
    chosen: dict[str, Dominated] = {}
    for one in sorted(best, key=lambda d: (-d.share, d.cluster)):
        chosen.setdefault(one.value, one)
    return list(chosen.values())[:count]


def _shown_values(photos: Mapping[int, PhotoMetadata], field: str) -> dict[int, Sequence[str]]:
    if field == "hashtag":
        return {row: tags for row, photo in photos.items() if (tags := photo.hashtags)}
    values = field_values(photos, field)
    return {row: (f"GPS {value}",) if field == "gps" else (str(value),) for row, value in values.items()}
