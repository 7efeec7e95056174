"""Table 3: finding a building again in Oxford5K and Paris6K.

Source: supplement, section 4.1 and Table 3; protocol of DeepCluster's eval_retrieval.py, mean average precision as the
data sets' own program computes it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dclib.cluster.whitening import PcaWhitening, fit_pca_whitening, usable_pca_dim
from dclib.data.images import ImageSet, UnreadableImageError
from dclib.data.landmarks import LandmarkQuery, Landmarks
from dclib.data.transforms import to_tensor
from dclib.evaluate.rmac import aggregate, region_vectors
from dclib.models.vgg import Trunk
from dclib.records import replacing

BLOCK = 64  # images between two files of region vectors
SMALLEST = 16  # pixels of a side that four poolings leave one of
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Described:
    """A retrieval set, seen by one network.

    Attributes:
        landmarks: Its images and queries.
        images: Region vectors (r_i, c) of each readable image, by its name.
        queries: Region vectors of each query's box, in the queries' order.
        unreadable: Names of the images that could not be decoded.
    """

    landmarks: Landmarks
    images: dict[str, Tensor]
    queries: list[Tensor]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Ranked:
    """What one query found: image names, best first, and how well that is, in [0, 1]."""

    query: LandmarkQuery
    names: tuple[str, ...]
    average_precision: float


def retrieval_average_precision(
    ranking: Sequence[int] | NDArray[np.integer], positives: Collection[int], junk: Collection[int] = ()
) -> float:
    """Average precision of a ranking of image numbers, best first, in [0, 1].

    Junk is taken out as if it were not in the set. The area under precision over recall is that of trapezoids: each
    positive found adds the mean of the precision before and at it, over the number of positives.

    Raises:
        ValueError: there is no positive, or an image is ranked twice.
    """
    wanted, ignored = set(positives), set(junk)
    if not wanted:
        raise ValueError("need at least one positive image to compute a precision; got none")
    if len(set(ranking)) != len(ranking):
        raise ValueError("need each image at most once in a ranking")
    kept = [int(image) for image in ranking if image not in ignored]
    total, found = 0.0, 0
    for rank, image in enumerate(kept):
        if image in wanted:
            before = found / rank if rank else 1.0
            found += 1
            total += (before + found / (rank + 1)) / 2
    return total / len(wanted)


def check_landmarks(images: ImageSet, landmarks: Landmarks) -> None:
    """Open every query's image and compare its box with it.

    Raises:
        ValueError: a query's image cannot be read, or its box leaves the image.
    """
    place = {name: i for i, name in enumerate(landmarks.images)}
    for query in landmarks.queries:
        try:
            width, height = images[place[query.image]].size
        except UnreadableImageError as error:
            raise ValueError(f"the image of query {query.name!r} must be readable: {error}") from None
        left, top, right, bottom = query.box
        # the ground truth's boxes may touch the border and, being rounded, pass it by a pixel
        if left < -1 or top < -1 or right > width + 1 or bottom > height + 1:
            raise ValueError(
                f"the box of query {query.name!r} must lie in its image of {width} x {height} pixels; got {query.box}: "
                "the images have been resized, or the ground truth is of another set"
            )


def describe_landmarks(
    trunk: Trunk, images: ImageSet, landmarks: Landmarks, *, longest_side: int, levels: int, cache: Path | None = None
) -> Described:
    """Region vectors of every image and every query's box.

    Args:
        cache: Folder for the vectors, written in blocks: a killed run goes on behind the last one.

    Raises:
        ValueError: what :func:`check_landmarks` raises.
    """
    check_landmarks(images, landmarks)
    trunk.eval()
    found: dict[str, Tensor] = {}
    for start in range(0, len(images), BLOCK):
        rows = range(start, min(start + BLOCK, len(images)))
        path = None if cache is None else cache / f"{start:08d}.pt"
        if path is not None and path.is_file():
            block = torch.load(path, weights_only=True)
        else:
            block = _describe_rows(trunk, images, landmarks, rows, longest_side, levels)
            if path is not None:
                with replacing(path) as file:
                    torch.save(block, file)
        found |= block
    unreadable = tuple(name for name in landmarks.images if name not in found)
    place = {name: i for i, name in enumerate(landmarks.images)}
    queries = [
        region_vectors(conv13_map(trunk, images[place[q.image]], longest_side, q.box), levels).cpu()
        for q in landmarks.queries
    ]
    return Described(landmarks, found, queries, unreadable)


@torch.no_grad()
def conv13_map(trunk: Trunk, image: Image.Image, longest_side: int, box: Box | None = None) -> Tensor:
    """The last ReLU's map (c, h, w) of an image resized to ``longest_side``, or of a box cut from it afterwards.

    Args:
        box: Left, top, right, bottom in pixels of the original; it is scaled with the image, then cut out, and not
            resized again, unless a side would have fewer than SMALLEST pixels.
    """
    scale = longest_side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    resized = image.resize(size, Image.Resampling.BILINEAR)
    if box is not None:
        left, top, right, bottom = (round(side * scale) for side in box)
        left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
        resized = resized.crop((left, top, max(left + 1, min(right, size[0])), max(top + 1, min(bottom, size[1]))))
    seen = (max(SMALLEST, resized.width), max(SMALLEST, resized.height))
    if resized.size != seen:  # a strip would vanish in the poolings
        resized = resized.resize(seen, Image.Resampling.BILINEAR)
    parameter = next(trunk.parameters())
    pixels = to_tensor(resized).unsqueeze(0).to(parameter.device).float() / 255
    maps: Tensor = trunk.features[:-1](trunk.stem(pixels))  # all but the last pooling
    return maps.squeeze(0)


def learn_whitening(described: Described) -> PcaWhitening:
    """PCA-whitening of all region vectors of a set's images, to be used on the *other* set."""
    vectors = torch.cat(list(described.images.values()))
    return fit_pca_whitening(vectors, usable_pca_dim(vectors.shape[1], len(vectors), vectors.shape[1]))


def rank_queries(described: Described, whitening: PcaWhitening) -> list[Ranked]:
    """Every query's ranking of the readable images, by the dot product of descriptors."""
    names = tuple(described.images)
    base = torch.stack([aggregate(vectors, whitening) for vectors in described.images.values()])
    queries = torch.stack([aggregate(vectors, whitening) for vectors in described.queries])
    return score_descriptors(queries, base, Landmarks(names, described.landmarks.queries))


def score_descriptors(queries: Tensor, base: Tensor, landmarks: Landmarks) -> list[Ranked]:
    """Rank the images by the dot product of given descriptors, and score the rankings.

    Args:
        queries: (q, d), one per query of ``landmarks``. base: (n, d), one per image of it.
        landmarks: Positives and junk that are not among its images are left out.

    Raises:
        ValueError: the counts do not fit, or a query is left without any positive.
    """
    if len(queries) != len(landmarks.queries) or len(base) != len(landmarks.images):
        raise ValueError(
            f"need one descriptor for each of {len(landmarks.queries)} queries and {len(landmarks.images)} images; "
            f"got {len(queries)} and {len(base)}"
        )
    place = {name: i for i, name in enumerate(landmarks.images)}
    # a stable order, so that equal similarities rank as the images are listed
    order = torch.argsort(queries @ base.T, dim=1, descending=True, stable=True).numpy()
    ranked = []
    for query, ranking in zip(landmarks.queries, order, strict=True):
        positives = {place[name] for name in query.positives if name in place}
        junk = {place[name] for name in query.junk if name in place}
        if not positives:
            raise ValueError(f"query {query.name!r} has no positive among the images: fetch them, or leave it out")
        precision = retrieval_average_precision(ranking, positives, junk)
        ranked.append(Ranked(query, tuple(landmarks.images[i] for i in ranking), precision))
    return ranked


def _describe_rows(
    trunk: Trunk, images: ImageSet, landmarks: Landmarks, rows: range, longest_side: int, levels: int
) -> dict[str, Tensor]:
    """Region vectors of some images, by name; those that cannot be decoded are left out."""
    block = {}
    for row in rows:
        try:
            image = images.open(row, draft=longest_side)
        except UnreadableImageError:
            continue
        block[landmarks.images[row]] = region_vectors(conv13_map(trunk, image, longest_side), levels).cpu()
    return block
