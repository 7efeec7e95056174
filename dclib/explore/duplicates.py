"""Photographs that show the same picture: the same file twice, or one encoded anew, resized, cropped or mirrored.

Perceptual hashes (the 64 bits of ImageHash's ``phash``) name a few candidates for every photograph; each is then laid
upon the other and compared point for point, because hashes alone take skies, pages of text and templates for one
another. A group is a star: everything in it was compared with its middle, so that a likeness that is handed on from
one photograph to the next (a burst, a panorama) cannot join pictures that do not look alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dclib.cluster.nearest import import_faiss
from dclib.explore.alike import CHROMA, COARSE, MIDDLE, SIDE, blurred, correlation, fit, likeness
from dclib.explore.answers import NONE

HASH = 8  # bytes of a hash
DESCRIPTOR = 2 * HASH + SIDE**2 + 2 * CHROMA**2  # bytes
PLAIN = 4  # levels between the darkest and the lightest point of a picture that shows nothing: it is hashed as even
CANDIDATES = 42  # of each photograph, by each hash and by features
FARTHEST = 22  # of 64 bits that may differ between candidates
BLOCK = 2048  # pairs that are compared at a time
LIKELY = 0.5  # correlation of coarse thumbnails before they are aligned
COARSE_ALIKE, COARSE_DETAIL, MIDDLE_DETAIL = 0.8, 0.5, 0.6  # after it, and that of their details
SAME_LEVELS = 2.0  # between thumbnails, wherever that is all that can be compared
ROUNDS = 4  # of joining groups whose middles are alike


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Groups of photographs that show the same.

    Attributes:
        group: (n,) int32, numbered by their first members; NONE for a photograph of its own.
        kind: (n,) "exact" where another one has the same bytes, else "near"; "" outside groups.
        middle: (n,) int32, the photograph that each was compared with; itself for a middle, NONE outside groups.
        how: (n,) beside the middle: "same bytes", "same picture", "cropped", "mirrored"; "" for middles and outside.
    """

    group: NDArray[np.int32]
    kind: tuple[str, ...]
    middle: NDArray[np.int32]
    how: tuple[str, ...]


def describe(image: Image.Image) -> NDArray[np.uint8]:
    """(DESCRIPTOR,) what duplicates are found by: hashes of the picture and of its mirror image, and small thumbnails.

    Args:
        image: RGB, upright; of any size and shape, better not much smaller than 96 pixels.
    """
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("YCbCr")
    grey, *colours = (np.asarray(plane) for plane in small.split())
    seen = grey if int(grey.max()) - int(grey.min()) > PLAIN else np.zeros_like(grey)
    square = Image.fromarray(seen).resize((32, 32), Image.Resampling.BILINEAR)
    mirrored = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    hashes = [np.packbits(imagehash.phash(picture).hash) for picture in (square, mirrored)]
    planes = [plane.reshape(CHROMA, SIDE // CHROMA, CHROMA, -1).mean((1, 3)).round() for plane in colours]
    return np.concatenate([part.astype(np.uint8).ravel() for part in (*hashes, grey, *planes)])


def find_duplicates(
    descriptors: NDArray[np.uint8],
    contents: Sequence[str],
    *,
    features: NDArray[np.float32] | None = None,
    report: Callable[[float], None] | None = None,
) -> Duplicates:
    """Groups of photographs with the same bytes, or with pictures that are the same but for what a program did to them.

    Pictures that show nothing are the same where every point of their thumbnails is, up to ``SAME_LEVELS``.

    Args:
        descriptors: (n, DESCRIPTOR), from ``describe``.
        contents: (n,) a hash of each file's bytes.
        features: (n, d) of a trained network: its nearest photographs are candidates too.
        report: Told from time to time which share of the work is done.

    Raises:
        ValueError: The arguments are not of the same photographs.
    """
    n = len(contents)
    if descriptors.shape != (n, DESCRIPTOR) or (features is not None and len(features) != n):
        raise ValueError(
            f"need a descriptor of {DESCRIPTOR} bytes, and features if any, for each of the {n} contents; got "
            f"{descriptors.shape} and {None if features is None else features.shape}: describe all of them"
        )
    first = dict[str, int]()
    same = np.array([first.setdefault(content, i) for i, content in enumerate(contents)], dtype=np.int64)
    words = dict[tuple[int, int], str]()
    compare = _Comparison(descriptors, _coarse(descriptors), words)
    stars = _stars(compare.neighbours(np.array(sorted(first.values()), dtype=np.int64), features, report))
    for _ in range(ROUNDS):  # of many copies, each was compared with a few others only
        before = len(stars)
        for a, b in compare.neighbours(np.array(sorted(stars), dtype=np.int64), None, None):
            if a in stars and b in stars:
                kept, gone = sorted((a, b), key=lambda middle: (-len(stars[middle]), middle))
                moved = [gone, *stars[gone]]
                if len(compare.pairs(np.array([[kept, m, turned] for m in moved for turned in (0, 1)]))) == len(moved):
                    stars[kept] += moved
                    del stars[gone]
        if len(stars) == before:
            break
    return _named(same, stars, words)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Compares photographs by their descriptors, and notes in ``words`` what each is beside the other."""

    descriptors: NDArray[np.uint8]
    coarse: Tensor  # (n, 1, COARSE, COARSE), grey levels
    words: dict[tuple[int, int], str]

    def neighbours(
        self,
        members: NDArray[np.int64],
        features: NDArray[np.float32] | None,
        report: Callable[[float], None] | None,
    ) -> list[tuple[int, int]]:
        """Pairs of some photographs, among the nearest of each, that show the same; the lower number first."""
        found = set[tuple[int, int]]()
        if len(members) < 2:
            return []
        faiss, k = import_faiss(), min(CANDIDATES + 1, len(members))
        hashes = self.descriptors[members, : 2 * HASH].reshape(-1, 2, HASH)
        index = faiss.IndexBinaryFlat(8 * HASH)
        index.add(np.ascontiguousarray(hashes[:, 0]))
        if features is not None:
            points = features[members].astype(np.float32)
            points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
            near = faiss.IndexFlatIP(points.shape[1])
            near.add(points)
        for start in range(0, len(members), BLOCK):
            rows, candidates = np.arange(start, min(start + BLOCK, len(members))), []
            for turned in (0, 1):
                far, numbers = index.search(np.ascontiguousarray(hashes[rows, turned]), k)
                candidates.append(_candidates(rows, np.where(far <= FARTHEST, numbers, NONE), turned))
                if features is not None:
                    candidates.append(_candidates(rows, near.search(points[rows], k)[1], turned))
            pairs = np.unique(np.concatenate(candidates), axis=0)
            pairs[:, :2] = members[pairs[:, :2]]
            for at in range(0, len(pairs), BLOCK):
                found.update(self.pairs(pairs[at : at + BLOCK]))
            if report is not None:
                report((int(rows[-1]) + 1) / len(members))
        return sorted(found)

    def pairs(self, pairs: NDArray[np.int64]) -> set[tuple[int, int]]:
        """Those of some pairs (m, 3), of two photographs and whether one is turned over, that show the same."""
        turned = torch.from_numpy(pairs[:, 2] == 1)
        first, second = (_turned(self.coarse[pairs[:, side]], turned & (side == 1)) for side in (0, 1))
        blank = (first - second).abs().flatten(1).amax(1) <= SAME_LEVELS
        a, b = blurred(first), blurred(second)
        numbers = ((correlation(a, b, torch.ones_like(b)) >= LIKELY) | blank).nonzero()[:, 0]
        frame, grey, detail = fit(first[numbers], second[numbers], COARSE)
        alike = (grey >= COARSE_ALIKE) & (detail >= COARSE_DETAIL) | blank[numbers]
        numbers, frame = numbers[alike], frame[alike]
        first, second = (_pictures(self.descriptors[pairs[numbers.numpy(), side]]) for side in (0, 1))
        second = _turned(second, turned[numbers])
        frame, _, detail = fit(first[:, :1], second[:, :1], MIDDLE, frame)
        alike = (detail >= MIDDLE_DETAIL) | blank[numbers]
        numbers, frame, first, second = numbers[alike], frame[alike], first[alike], second[alike]
        if not len(numbers):
            return set()
        equal = (first - second).abs().flatten(1).amax(1) <= SAME_LEVELS
        found = likeness(first, second, frame)
        whole = equal | found.whole()
        kept = dict[tuple[int, int], str]()
        for i in (found.same() | equal).nonzero().flip(0)[:, 0].tolist():  # a pair's plain comparison comes last
            a_number, b_number, over = pairs[numbers[i]].tolist()
            key = min(a_number, b_number), max(a_number, b_number)
            plain = "same picture" if whole[i] else "cropped"
            kept[key] = "mirrored" if over and key not in kept else plain
        self.words.update(kept)
        return set(kept)


def _candidates(rows: NDArray[np.int64], numbers: NDArray[np.int64], turned: int) -> NDArray[np.int64]:
    """(m, 3) lower number, higher number, whether one is turned over, of the neighbours of some rows."""
    own, other = np.repeat(rows, numbers.shape[1]), numbers.ravel()
    pairs = np.sort(np.stack([own, other], 1), axis=1)[(other >= 0) & (other != own)]
    return np.concatenate([pairs, np.full((len(pairs), 1), turned)], 1)


def _stars(pairs: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    """Of each middle the others of its group: those with most neighbours left take theirs first."""
    neighbours = defaultdict[int, set[int]](set)
    for a, b in pairs:
        neighbours[a].add(b)
        neighbours[b].add(a)
    stars, taken = dict[int, list[int]](), set[int]()
    for middle in sorted(neighbours, key=lambda number: (-len(neighbours[number]), number)):
        free = sorted(neighbours[middle] - taken)
        if middle not in taken and free:
            stars[middle] = free
            taken.update((middle, *free))
    return stars


def _named(same: NDArray[np.int64], stars: dict[int, list[int]], words: dict[tuple[int, int], str]) -> Duplicates:
    """Groups and what each member is, from the first file with its bytes and from the groups of those."""
    middles = {member: middle for middle, members in stars.items() for member in (middle, *members)}
    copies = np.bincount(same, minlength=len(same))
    middle, how, kind = np.full(len(same), NONE, dtype=np.int32), [""] * len(same), [""] * len(same)
    for i, origin in enumerate(same.tolist()):
        if origin in middles or copies[origin] > 1:
            middle[i] = centre = middles.get(origin, origin)
            kind[i] = "exact" if copies[origin] > 1 else "near"
            if origin != centre:
                how[i] = words[min(origin, centre), max(origin, centre)]
            elif i != origin:
                how[i] = "same bytes"
    numbers: dict[int, int] = {NONE: NONE}
    group = np.array([numbers.setdefault(m, len(numbers) - 1) for m in middle.tolist()], dtype=np.int32)
    return Duplicates(group, tuple(kind), middle, tuple(how))


def _pictures(descriptors: NDArray[np.uint8]) -> Tensor:
    """(m, 3, SIDE, SIDE) the thumbnails of descriptors, those of colour enlarged."""
    grey = torch.from_numpy(descriptors[:, 2 * HASH : 2 * HASH + SIDE**2]).view(-1, 1, SIDE, SIDE).float()
    colour = torch.from_numpy(descriptors[:, 2 * HASH + SIDE**2 :]).view(-1, 2, CHROMA, CHROMA).float()
    return torch.cat([grey, F.interpolate(colour, size=SIDE, mode="nearest")], 1)


def _coarse(descriptors: NDArray[np.uint8]) -> Tensor:
    grey = descriptors[:, 2 * HASH : 2 * HASH + SIDE**2].reshape(-1, 1, COARSE, SIDE // COARSE, COARSE, SIDE // COARSE)
    return torch.from_numpy(grey.mean((3, 5), dtype=np.float32))


def _turned(pictures: Tensor, over: Tensor) -> Tensor:
    return torch.where(over[:, None, None, None], pictures.flip(3), pictures)
