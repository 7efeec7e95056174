"""Nearest centroids, most of the work done in bfloat16: rough products name the candidates, float32 chooses.

One matrix product in bfloat16 gives, for every point and centroid, a bound that their squared distance cannot be
below. The centroid with the lowest bound is measured, a float32 sum of squared differences, then the next one, until
no bound left is below the shortest distance found. So the nearest centroid is returned, ties to the lower number,
whatever the products rounded: they decide only how many centroids are measured.

The bound. Let x and c be a point and a centroid less a common centre, X and C the same rounded to bfloat16, and
e = x - X, f = c - C what that took. Then x.c = X.C + x.f + e.C, and by Cauchy and Schwarz

    |x - c|^2 >= |x|^2 + |c|^2 - 2 X.C - 2 |x| |f| - 2 |e| |C|.

All norms are known. The right side is itself a scalar product of d + 6 numbers, of (X, |x|^2, 1, |x|, |e|) and
(-2 C, 1, |c|^2, -2 |f|, -2 |C|), squares being split in two numbers of 8 bits. What else is rounded is rounded towards
a lower bound, by the margins below.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 2.0**-8  # a number that becomes bfloat16 changes by at most this share of it
FLOAT32_ROUNDING = 2.0**-24
MOST_MEASURED = 8  # centroids of a chunk measured for one point; of more candidates float32 products take one
CHUNK = 2048  # centroids whose bounds are held at once
BLOCK_ELEMENTS = 2**20  # bounds held at once: with what is made of them, a block stays in the caches
SAMPLE = 1024  # centroids whose middle is the centre; any centre gives the same answers
COLUMN = 0xFFFF  # bits of a packed bound that hold its column
MEASURED = torch.iinfo(torch.int32).max  # sorts behind every packed bound


def is_supported(device: torch.device) -> bool:
    """Whether ``device`` is a CPU with instructions for products in bfloat16, which are added up in float32."""
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in the oldest versions of torch
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class Bfloat16Search:
    """Finds the nearest of ``centroids``, (k, d) float32."""

    def __init__(self, centroids: Tensor) -> None:
        self.centroids = centroids
        # of smaller numbers rounding takes less; centroids far away, as empty clusters may have, do not move a median
        self.centre = centroids[:SAMPLE].median(dim=0).values
        self.chunks = (centroids - self.centre).split(CHUNK)
        self.factors = [right_factor(chunk).T for chunk in self.chunks]
        self.gave_up = False  # where bounds are too close together, products in float32 are faster

    def __call__(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest centroid (n,) int64 and squared distance to it (n,), of points (n, d)."""
        rows = max(1, BLOCK_ELEMENTS // max(len(self.chunks[0]), block.shape[1]))
        found = [self._search(part) for part in block.split(rows)]
        return torch.cat([nearest.numbers for nearest in found]), torch.cat([nearest.squared for nearest in found])

    def _search(self, points: Tensor) -> Nearest:
        centred = points - self.centre
        nearest = Nearest(points, self.centroids)
        left = None if self.gave_up else left_factor(centred)
        for number in range(len(self.chunks)):
            rows = torch.arange(len(points))
            if left is not None:
                rows = self._measure_candidates(nearest, left, number)
                self.gave_up |= 2 * len(rows) > len(points)
            if len(rows):
                self._measure_by_float32(nearest, centred, rows, number)
        return nearest

    def _measure_candidates(self, nearest: Nearest, left: Tensor, number: int) -> Tensor:
        """Measure the centroids of a chunk in the order of their bounds; the points that have more than a few to go."""
        packed = pack(left @ self.factors[number])
        rows = torch.arange(len(left))
        for measured in range(MOST_MEASURED + 1):
            lowest = packed.amin(dim=1)
            bound = (lowest & ~COLUMN).view(torch.float32)
            # not "at most": a bound that overflowed is not a number, and excludes nothing
            excluded = (bound * (1 - ROUNDING) > nearest.squared[rows]) | (lowest == MEASURED)
            left_over = (~excluded).nonzero().squeeze(1)
            if len(left_over) < len(rows):
                rows, packed, lowest = rows[left_over], packed[left_over], lowest[left_over]
            if len(rows) == 0 or measured == MOST_MEASURED:
                break
            columns = (lowest & COLUMN).long()
            nearest.measure(rows, columns + number * CHUNK)
            packed.scatter_(1, columns.unsqueeze(1), MEASURED)
        return rows

    def _measure_by_float32(self, nearest: Nearest, centred: Tensor, rows: Tensor, number: int) -> None:
        """Measure, for some points, the centroid of a chunk that a product in float32 finds nearest."""
        chunk = self.chunks[number]
        scores = torch.addmm(chunk.square().sum(dim=1), centred[rows], chunk.T, alpha=-2)
        nearest.measure(rows, scores.argmin(dim=1) + number * CHUNK)


class Nearest:
    """The nearest of the centroids measured so far: ``numbers`` (n,) int64 and ``squared`` distances (n,)."""

    def __init__(self, points: Tensor, centroids: Tensor) -> None:
        self.points, self.centroids = points, centroids
        self.numbers = torch.full((len(points),), len(centroids))
        self.squared = points.new_full((len(points),), torch.inf)

    def measure(self, rows: Tensor, numbers: Tensor) -> None:
        """Measure one more centroid for each of some points."""
        points = self.points if len(rows) == len(self.points) else self.points[rows]
        squared = (points - self.centroids[numbers]).square_().sum(dim=1)
        before = self.squared[rows]
        closer = (squared < before) | ((squared == before) & (numbers < self.numbers[rows]))
        self.squared[rows] = torch.where(closer, squared, before)
        self.numbers[rows] = torch.where(closer, numbers, self.numbers[rows])


def left_factor(points: Tensor) -> Tensor:
    """(n, d + 6) of points (n, d): times :func:`right_factor`, the bounds."""
    rounded, high, low, length, error, _ = pieces(points)
    ones = torch.ones_like(high)
    return torch.cat([rounded, torch.stack([high, low, ones, ones, length, error], dim=1)], dim=1)


def right_factor(centroids: Tensor) -> Tensor:
    """(k, d + 6) of centroids (k, d)."""
    rounded, high, low, _, error, rounded_length = pieces(centroids)
    ones = torch.ones_like(high)
    return torch.cat(
        [-2 * rounded, torch.stack([ones, ones, high, low, -2 * error, -2 * rounded_length], dim=1)], dim=1
    )


def pieces(rows: Tensor) -> tuple[Tensor, ...]:
    """Of rows (n, d): themselves in bfloat16; |row|^2 from below, in two numbers; |row|, |what rounding took| and
    |rounded row| from above, (n,) each.

    Squares are lowered by a margin for all that float32 rounds. With g the largest relative error of a sum of d + 8
    numbers in float32, in any order, and s = |x|^2 + |c|^2, these are at most: 2.1 g s in the product, whose terms
    amount to less than that many s; g s in the squares; 2 g s in the distance measured, for |x - c|^2 <= 2 s; and
    2^-15 s where squares are split and the centre is subtracted.
    """
    sums = (rows.shape[1] + 8) * FLOAT32_ROUNDING
    sums /= 1 - sums
    rounded = rows.bfloat16()
    squares = rows.square().sum(dim=1)
    lowered = squares * (1 - 6 * sums - 2.0**-14)
    high = lowered.bfloat16()
    lengths = (
        squares.sqrt(),
        (rows - rounded).square_().sum(dim=1).sqrt(),
        rounded.float().square_().sum(dim=1).sqrt(),
    )
    raised = [(length * (1 + 2 * ROUNDING + sums)).bfloat16() for length in lengths]
    return rounded, high, (lowered - high).bfloat16(), *raised


def pack(bounds: Tensor) -> Tensor:
    """Bounds in bfloat16 with their column in the low bits, int32: their minimum says where it is.

    Integers order as the numbers do, except that numbers below zero come in another order; they come first.
    """
    return bounds.float().view(torch.int32).bitwise_or_(torch.arange(bounds.shape[1], dtype=torch.int32))
