"""Photographs that show the same picture: the same file twice, or one encoded anew, resized, cropped or mirrored.

Perceptual hashes (the 64 bits of ImageHash's ``phash``) name a few candidates for every photograph; each is then laid
upon the other and compared point for point, because hashes alone take skies, pages of text and templates for one
another. A group is a star: everything in it was compared with its middle, so that a likeness that is handed on from
one photograph to the next (a burst, a panorama) cannot join pictures that do not look alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dclib.cluster.nearest import import_faiss
from dclib.explore.answers import NONE

HASH, SIDE, CHROMA = 8, 48, 12  # bytes of a hash; sides of the grey thumbnail and of the two of colour, in points
DESCRIPTOR = 2 * HASH + SIDE**2 + 2 * CHROMA**2  # bytes
PLAIN = 4  # levels between the darkest and the lightest point of a picture that shows nothing: it is hashed as even
CANDIDATES = 14  # of each photograph, by each hash and by features
FARTHEST = 22  # of 64 bits that may differ between candidates
BLOCK = 2048  # pairs that are compared at a time
COARSE = 12  # side of the thumbnails at which most candidates end
LIKELY, ALIKE_COARSE = 0.5, 0.85  # their correlation before and after they are aligned
COARSE_STEPS, FINE_STEPS = {COARSE: 8}, {24: 8, SIDE: 6}  # of the alignment, by the side of the thumbnails
ALIKE, DETAIL, OVERLAP, TINT = 0.9, 0.77, 0.55, 20.0  # what the same pictures keep (see Likeness)
WORST, WORST_CROP = 0.5, 2.5  # a template with other words differs in place, not all over; a crop is drawn anew
STRETCH = 1.15  # between width and height
GREY = 2.0  # levels of colour in a grey picture
SAME_LEVELS = 2.0  # between thumbnails, wherever that is all that can be compared
NOISE = 0.6  # levels of detail that are noise
SHIFT = 0.015  # of a frame: more is a crop
WHOLE = (1.0, 1.0, 0.0, 0.0)  # the frame of a whole picture
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


@dataclass(frozen=True, eq=False)
class Likeness:
    """How alike the pictures of some pairs are where one lies upon the other, each (m,).

    Attributes:
        correlation: Of grey levels.
        detail: Correlation of what remains without the coarse forms; small where there is little.
        worst: Mean square of the difference of the details in the worst window, in that of the picture's details.
        colour: Root mean square of the difference of the colour planes, in levels; 0 where one picture is grey.
        overlap: Share of the picture that both show, the smaller of the two.
        frame: (m, 4) the second one's width, height and centre, in the frame of the first (see ``align``).
    """

    correlation: Tensor
    detail: Tensor
    worst: Tensor
    colour: Tensor
    overlap: Tensor
    frame: Tensor

    def whole(self) -> Tensor:
        """(m,) bool, whether neither picture is a part of the other."""
        off: Tensor = (self.frame - torch.tensor(WHOLE)).abs().amax(1)
        return off <= SHIFT

    def same(self) -> Tensor:
        """(m,) bool, whether the pictures are the same."""
        worst = torch.where(self.whole(), WORST, WORST_CROP)
        alike = (self.correlation >= ALIKE) & (self.detail >= DETAIL) & (self.worst <= worst)
        stretch = (self.frame[:, 0] / self.frame[:, 1]).log().abs() <= float(np.log(STRETCH))
        return alike & stretch & (self.colour <= TINT) & (self.overlap >= OVERLAP)


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
        a, b = _blurred(first), _blurred(second)
        numbers = ((_correlation(a, b, torch.ones_like(b)) >= LIKELY) | blank).nonzero()[:, 0]
        frame = align(first[numbers], second[numbers], COARSE_STEPS)
        laid, inside = lay(a[numbers], frame, COARSE)
        alike = (_correlation(laid, b[numbers], inside) >= ALIKE_COARSE) | blank[numbers]
        numbers, frame = numbers[alike], frame[alike]
        if not len(numbers):
            return set()
        first, second = (_pictures(self.descriptors[pairs[numbers.numpy(), side]]) for side in (0, 1))
        second = _turned(second, turned[numbers])
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


def likeness(first: Tensor, second: Tensor, frame: Tensor) -> Likeness:
    """Lay one picture of each pair upon the other, and compare.

    Args:
        first, second: (m, 3, SIDE, SIDE) grey levels and colours.
        frame: (m, 4) about where they agree, from ``align``.
    """
    grey, other = first[:, :1], second[:, :1]
    tint, other_tint = (F.avg_pool2d(x[:, 1:], SIDE // CHROMA) for x in (first, second))
    frame = align(grey, other, FINE_STEPS, frame)
    laid, inside = lay(grey, frame, SIDE)
    fine = [_detail(x) for x in (laid, other)]
    power = [_mean(x**2, inside) + NOISE**2 for x in fine]
    a, b = (x / square.sqrt() for x, square in zip(fine, power, strict=True))
    windows = F.avg_pool2d(torch.cat([(a - b) ** 2 * inside, inside], 1), 6, 3)
    laid_tint, seen = lay(tint, frame, CHROMA)
    colour = _mean(((laid_tint - other_tint) ** 2).mean(1, keepdim=True), seen).sqrt().flatten()
    grey_ones = [((x - 128) ** 2).flatten(1).mean(1).sqrt() <= GREY for x in (tint, other_tint)]
    share = inside.flatten(1).mean(1)
    return Likeness(
        correlation=_correlation(_blurred(laid), _blurred(other), inside),
        detail=_mean(a * b, inside).flatten(),
        worst=(windows[:, 0] / windows[:, 1].clamp(min=0.5)).flatten(1).amax(1),
        colour=torch.where(grey_ones[0] ^ grey_ones[1], 0.0, colour),
        overlap=torch.minimum(share, share * frame[:, 0] * frame[:, 1]),
        frame=frame,
    )


def align(moving: Tensor, fixed: Tensor, steps: Mapping[int, int], frame: Tensor | None = None) -> Tensor:
    """(m, 4) the part of one picture that lies upon the other: its width, height and centre, of frames from -1 to 1.

    By the inverse compositional method of Baker and Matthews ("Lucas-Kanade 20 years on", IJCV 2004), with a gain and
    an offset of the grey levels among the unknowns, from coarse thumbnails to fine ones.

    Args:
        moving, fixed: (m, 1, s, s) grey levels, of a side that all of ``steps`` divide.
        steps: How many at each side of the thumbnails.
        frame: Where to begin; by default the whole picture.
    """
    frame = torch.tensor(WHOLE).repeat(len(fixed), 1) if frame is None else frame
    if not len(fixed):
        return frame
    for side, count in steps.items():
        a, b = (_blurred(F.avg_pool2d(x, x.shape[-1] // side)) for x in (moving, fixed))
        everything = torch.ones_like(b)
        a, b = (_standardised(x, everything) for x in (a, b))
        down, right = torch.gradient(b, dim=(2, 3), spacing=2 / side)
        place = (torch.arange(side) * 2 + 1) / side - 1
        ways = torch.stack([right * place, down * place[:, None], right, down, b, everything], 1).flatten(2)
        solution = torch.linalg.solve(ways @ ways.mT + 1e-3 * side**2 * torch.eye(6), ways)
        for _ in range(count):
            laid, inside = lay(a, frame, side)
            step = (solution @ ((laid - b) * inside).flatten(1)[:, :, None])[:, :4, 0].clamp(-0.2, 0.2)
            size = frame[:, :2] / (1 + step[:, :2])
            centre = frame[:, 2:] - size * step[:, 2:]
            frame = torch.cat([size.clamp(0.5, 2), centre.clamp(-0.5, 0.5)], 1)
    return frame


def lay(picture: Tensor, frame: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The part of each picture within a frame, (m, c, side, side), and where there is any, (m, 1, side, side)."""
    if not len(frame):
        return picture, picture[:, :1]
    zero = torch.zeros(len(frame))
    theta = torch.stack([frame[:, 0], zero, frame[:, 2], zero, frame[:, 1], frame[:, 3]], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(frame), 1, side, side], align_corners=False)
    inside = (grid.abs().amax(3) <= 1).float()[:, None]
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False), inside


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


def _blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2, 1), 2, 1)


def _detail(x: Tensor) -> Tensor:
    blurred = _blurred(x)
    return blurred - F.avg_pool2d(F.pad(blurred, (3, 3, 3, 3), mode="replicate"), 7, 1)


def _mean(x: Tensor, inside: Tensor) -> Tensor:
    """(m, 1, 1, 1) over the points inside."""
    return (x * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)


def _standardised(x: Tensor, inside: Tensor) -> Tensor:
    """With mean 0 and deviation 1 inside, where it deviates by more than half a level."""
    centred = x - _mean(x, inside)
    return centred / _mean(centred**2, inside).sqrt().clamp(min=0.5)


def _correlation(a: Tensor, b: Tensor, inside: Tensor) -> Tensor:
    return _mean(_standardised(a, inside) * _standardised(b, inside), inside).flatten()
