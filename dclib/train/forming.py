"""What is kept of every clustering of a run, so that it can be seen how clusters form. No torch here.

A file for each, ``clusterings/000.npz`` and so on in the run's folder: the cluster of every image in the smallest
integers that hold it, and where some images, always the same, lie on a plane. Above a million images the clusters of
these alone are kept, so that a run on a hundred million adds kilobytes to its checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dclib.records import replacing

MAPPED = 2500  # images that have a place: as many as a page can show
KEPT_IMAGES = 1_000_000  # images of a set whose clusters are all kept: one or two bytes each
FOLDER = "clusterings"
AXES = 2

Integers = NDArray[np.integer[Any]]
Places = NDArray[np.float32]


@dataclass(frozen=True)
class Formed:
    """One clustering of a run on ``n`` images, of which ``mapped_rows(n)`` have a place."""

    n: int
    epoch: int  # epochs that were finished when it was made
    clusters: Integers  # (n,), or of the mapped rows alone; over both levels
    place: Places  # (m, 2) of the mapped rows, in units of their spread along the first axis; (0, 2) where none is kept

    @property
    def of_mapped(self) -> NDArray[np.int64]:
        """(m,) clusters of the mapped rows."""
        rows = mapped_rows(self.n)
        return (self.clusters if len(self.clusters) == len(rows) else self.clusters[rows]).astype(np.int64)


def mapped_rows(n: int, most: int | None = None) -> NDArray[np.int64]:
    """Which of ``n`` images have a place, ascending: all, or ``most`` (``MAPPED``) at random, the same in every run."""
    most = MAPPED if most is None else most
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False, shuffle=False))


def place_on_plane(features: NDArray[np.floating[Any]]) -> Places:
    """(m, 2) places of features (m, d) on their two principal axes, with unit variance on the first.

    One after the other, such planes are turned and mirrored anyhow: :func:`aligned` undoes that.
    """
    centred: NDArray[np.float64] = np.asarray(features, np.float64)
    centred = centred - centred.mean(axis=0)
    vectors, scales, _ = np.linalg.svd(centred, full_matrices=False)
    place = np.zeros((len(centred), AXES))
    found = min(AXES, len(scales))
    place[:, :found] = vectors[:, :found] * scales[:found]
    return (place / max(float(place[:, 0].std()), 1e-12)).astype(np.float32)


def smallest(values: Integers) -> Integers:
    """The same numbers, none negative, in the smallest integers that hold them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def path_of(folder: Path, number: int) -> Path:
    """Where the clustering of this number of a run is kept."""
    return folder / FOLDER / f"{number:03d}.npz"


def keep(path: Path, formed: Formed) -> None:
    """Write one clustering; the same one gives the same bytes.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    keep_together(path, [formed])


def keep_together(path: Path, formed: Sequence[Formed]) -> None:
    """Write all clusterings of a run as one file, which is published with its pictures. Errors as :func:`keep`."""
    with replacing(path) as file:
        np.savez_compressed(
            file,
            n=np.array(formed[0].n),
            epochs=np.array([one.epoch for one in formed]),
            clusters=smallest(np.stack([one.clusters for one in formed])),
            places=np.stack([one.place for one in formed]).astype(np.float16),  # a thousandth of the map is enough
        )


def read_together(path: Path) -> list[Formed]:
    """The clusterings in one file.

    Raises:
        ValueError: it holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            n, epochs, clusters, places = (found[name] for name in ("n", "epochs", "clusters", "places"))
        return [
            Formed(int(n), int(epoch), one, place.astype(np.float32))
            for epoch, one, place in zip(epochs, clusters, places, strict=True)
        ]
    except Exception as error:  # broken bytes raise nearly anything
        raise ValueError(f"{path} holds no clusterings of a run; delete it: a new training writes it") from error


def formed_by(runs: Path, method: str, seed: int) -> list[Formed]:
    """The clusterings of the run of a method that was last at work below ``runs``, in order; empty without one."""
    folders = [found.parent for found in runs.glob(f"{method}-s{seed}-*/{FOLDER}")]
    files = [sorted((folder / FOLDER).glob("[0-9]*.npz")) for folder in folders]
    last = max(filter(None, files), key=lambda some: max(path.stat().st_mtime_ns for path in some), default=[])
    return [one for path in last for one in read_together(path)]


def aligned(places: Sequence[Places]) -> list[Places]:
    """Planes of the same images, each turned or mirrored to lie on the one before as well as it can.

    The best such turn of centred points: by the singular vectors of the product of both (Schönemann, 1966).
    """
    found: list[Places] = []
    for place in places:
        if found and place.size:
            left, _, right = np.linalg.svd(place.T.astype(np.float64) @ found[-1])
            place = (place @ (left @ right)).astype(np.float32)
        found.append(place)
    return found
