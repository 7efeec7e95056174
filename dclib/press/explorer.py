"""The images of a book in the explorer of one's own photographs: a clustering of them for each network and epoch.

What a run keeps of its last clustering is the cluster of every image. How sure an image is of it follows from that too:
where there are several seeds, from whether it stays with the same images in the clusters of the others. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dclib.config import Preset
from dclib.explore.answers import NONE, Answers, Grouping
from dclib.explore.page import write_explorer
from dclib.paper import task_of
from dclib.press.pool import Pool
from dclib.report.forming import Course
from dclib.report.series import order_methods, plural, title_of

FOLDER = "explorer"  # below a book
FIRST = "deepercluster"  # by whose clusters the page is ordered
GRID = 8  # mean colours of GRID x GRID squares, by which images lie on the map and are neighbours
NEIGHBOURS = 6
MAP = "PCA of colours and layout"
ABOUT = (
    "Each network's last features were clustered in the same way, and this shows which images came together. The "
    "network that was trained with labels is left out.",
    "An image is the nearer to the middle of its cluster, the more of that cluster's images are with it in the "
    "clusters of the same method from other seeds; with one seed all are equally far, and clusters come as numbered.",
    "Places on the map of a finished network, and all neighbours, go by the colours and the layout of the images: "
    "features are not kept with the results.",
)
OF_DRAWN = "Names begin with what was drawn. No network has seen them."
BY_EPOCH = (
    "Epoch by epoch: what a network in training was asked to tell apart until the next clustering. A cluster has the "
    "number of the one after it that shares most images with it, its middle is made of those that are together in the "
    "clusterings before and after too, and the map is that of the features of that moment."
)

Clusters = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Kept:
    """What is kept of one method: the cluster of every image, of each seed."""

    method: str
    clusterings: Sequence[Clusters]
    is_published: bool


def kept_clusterings(preset: Preset, own: Path, published: Path | None) -> list[Kept]:
    """What is kept of the methods that saw no labels: of this machine's runs, else of published ones.

    All are of as many images: of a drawn pool's, else of as many as the first.

    Args:
        own: The folder of pictures of the preset's runs.
        published: The same of published results of the same images.
    """
    n = preset.data.pocket_images if preset.data.is_drawn else 0
    methods = [name for name in preset.methods if task_of(name) != "supervised"]
    found = []
    for method in sorted(order_methods(methods), key=lambda name: name != FIRST):
        for folder in filter(None, (own, published)):
            files = sorted(folder.glob(f"assignments-{method}-s[0-9]*.npy"))
            clusterings = [one for file in files if len(one := np.load(file)) == n or not n]
            if clusterings:
                n = n or len(clusterings[0])
                found.append(Kept(method, clusterings, folder == published))
                break
    return found


def write_book_explorer(html: Path, pool: Pool, kept: Sequence[Kept], found: Sequence[Course] = ()) -> Path:
    """Write the explorer of a pool into a book, by network and, for those of ``found``, by epoch; returns its page.

    Raises:
        OSError: it cannot be written.
    """
    thumbs, drawn = pool.thumbs(), "drawn " if pool.is_drawn else ""
    networks = plural(len({*(one.method for one in kept), *(course.method for course in found)}), "network")
    notes = [*(ABOUT if kept else ()), *([BY_EPOCH] if found else ()), *([OF_DRAWN] if pool.is_drawn else ())]
    return write_explorer(
        html / FOLDER,
        book_answers(pool, thumbs, kept, found),
        thumbs,
        title="The images of this book",
        verdict=[f"{len(pool.names):,} of {pool.n:,} {drawn}images, by the clusters of {networks}."],
        notes=notes,
        words=("image", "images"),
    )


def book_answers(pool: Pool, thumbs: NDArray[np.uint8], kept: Sequence[Kept], found: Sequence[Course] = ()) -> Answers:
    """What is known of some images of a pool, whose pictures are ``thumbs`` (n, 3, t, t)."""
    n, rows = len(pool.names), pool.rows
    none, zero = np.full(n, NONE, np.int32), np.zeros(n, np.float32)
    like = Grouping("", none, zero, none, zero, *by_colours(thumbs), MAP, "By network")
    groupings = []
    for one in kept:
        sharpness, second = steadiness(one.clusterings)
        published = " (published)" if one.is_published and not all(other.is_published for other in kept) else ""
        groupings.append(
            replace(
                like,
                name=title_of(one.method) + published,
                cluster=one.clusterings[0].astype(np.int32)[rows],
                distance=1 - sharpness[rows],
                second=second[rows],
                sharpness=sharpness[rows],
            )
        )
    for course in found:
        groupings += _by_epoch(course, like)
    return Answers(
        root="",
        paths=list(pool.names),
        size=pool.size,
        taken=list(pool.taken),
        bytes=np.zeros(n, np.int64),
        duplicate=np.full(n, NONE, np.int32),
        duplicate_kind=[""] * n,
        groupings=tuple(groupings),
    )


def _by_epoch(course: Course, like: Grouping) -> list[Grouping]:
    """The clusterings of a run, one after the other on maps of their own; neighbours are those of ``like``."""
    steps, family = course.clusters, f"{title_of(course.method)}, epoch by epoch"
    groupings = []
    for number, (clusters, place) in enumerate(zip(steps, course.places, strict=True)):
        sharpness, second = steadiness([clusters, *steps[max(number - 1, 0) : number], *steps[number + 1 : number + 2]])
        here, kind = (place, "PCA of its features") if len(place) else (like.place, like.map_name)
        groupings.append(
            replace(
                like,
                name=f"{title_of(course.method)}, {course.when(number)}",
                cluster=clusters.astype(np.int32),
                distance=1 - sharpness,
                second=second,
                sharpness=sharpness,
                place=here,
                map_name=kind,
                family=family,
            )
        )
    return groupings


def steadiness(clusterings: Sequence[Clusters]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """How far the others bear out the first of some clusterings of the same n images.

    Returns:
        (n,) float32 in [0, 1], of the other images in an image's cluster the share that is with it in another
        clustering too, mean over these; 0 where there is no other clustering or no other image. And (n,) int32, the
        cluster of the first that most others of those with it elsewhere are in; NONE where they are nowhere else.
    """
    first = np.asarray(clusterings[0], np.int64)
    n, k = len(first), int(first.max(initial=0)) + 1
    shares, elsewhere = np.zeros(n), np.zeros((n, k))
    for other in clusterings[1:]:
        other = np.asarray(other, np.int64)
        together = np.zeros((k, int(other.max(initial=0)) + 1))
        np.add.at(together, (first, other), 1)
        size = together.sum(axis=1)
        shares += (together[first, other] - 1) / np.maximum(size[first] - 1, 1) / (len(clusterings) - 1)
        elsewhere += (together / together.sum(axis=0).clip(min=1))[:, other].T
    elsewhere[np.arange(n), first] = 0
    second = np.where(elsewhere.any(axis=1), elsewhere.argmax(axis=1), NONE)
    return shares.astype(np.float32), second.astype(np.int32)


def by_colours(thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Places (n, 2) in [0, 1], neighbours (n, m) and their cosines, by mean colours of a grid less those of all."""
    n, _, side, _ = thumbs.shape
    means = thumbs.reshape(n, 3, GRID, side // GRID, GRID, side // GRID).mean(axis=(3, 5), dtype=np.float32)
    points = means.reshape(n, -1) - means.reshape(n, -1).mean(axis=0)
    _, axes = np.linalg.eigh(points.T @ points)
    flat = points @ axes[:, :-3:-1]
    flat -= flat.min(axis=0)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    cosines = points @ points.T
    np.fill_diagonal(cosines, -np.inf)
    m = min(NEIGHBOURS, n - 1)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :m]
    return flat / max(float(flat.max()), 1e-12), nearest.astype(np.int32), np.take_along_axis(cosines, nearest, axis=1)


def links(kept: Sequence[Kept]) -> Mapping[str, str]:
    """For each page about these images or one of their clusterings, a sentence that leads to the explorer."""
    if not kept:
        return {}
    link = f'<a href="../{FOLDER}/index.html">look through the images</a>'
    own = f"Its clusters, beside those of other networks: {link}."
    return {"data": f"By the clusters of each network: {link}.", **{f"pretraining_{one.method}": own for one in kept}}
