"""The nearest of k centroids for every point: three ways that find the same one.

``"torch"`` takes products in the points' own precision. ``"torch-bf16"`` takes them in bfloat16, knows how far they can
be wrong, and does the close calls again as ``"torch"`` does. ``"faiss"`` asks FAISS. None holds n by k distances.

How far a bfloat16 product can be wrong. Let x and c be a point and a centroid less a common centre, X and C the same
rounded to bfloat16. Then x.c = X.C + (x - X).c + X.(c - C), so by Cauchy and Schwarz

    |x.c - X.C| <= |x - X| |c| + |X| |c - C|.

All four norms are known. Where the second lowest of |c|^2 - 2 X.C is above the lowest by more than twice what both can
be wrong, the lowest is that of the nearest centroid, whatever was rounded; elsewhere float32 decides.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dclib.precision import multiplies_in_bfloat16

ROUNDING = 2.0**-8  # a number that becomes bfloat16 changes by at most this share of it
FLOAT32_ROUNDING = 2.0**-24
# scores held at once: few enough for a CPU's caches, enough to keep a GPU busy
CPU_SCORES, CUDA_SCORES = 2**21, 2**24
MOST_AGAIN = 0.2  # share of close calls above which float32 alone was faster, on a CPU without matrix units
GROUPS = 32
WIDE = 256  # columns from which the minimum of a row is found by groups
SAMPLE = 1024  # centroids whose middle is the centre; any centre gives the same answers

Search = Callable[[Tensor], tuple[Tensor, Tensor]]  # of points (n, d): numbers of the nearest, squared distances


class PlainSearch:
    """Finds the nearest of ``centroids`` (k, d) by |c|^2 - 2 x.c in their precision; ties go to the lower number."""

    def __init__(self, centroids: Tensor) -> None:
        self.by_groups = centroids.device.type == "cpu" and len(centroids) >= WIDE
        padding = -len(centroids) % GROUPS if self.by_groups else 0
        self.weights = torch.cat([centroids, centroids.new_zeros(padding, centroids.shape[1])]).T.contiguous()
        self.norms = torch.cat([centroids.square().sum(dim=1), centroids.new_full((padding,), torch.inf)])

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest centroid (n,) int64 and squared distance to it (n,), of points (n, d)."""
        found = [self._search(part) for part in points.split(rows_at_once(points, len(self.norms)))]
        return torch.cat([numbers for numbers, _ in found]), torch.cat([squared for _, squared in found])

    def _search(self, points: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.addmm(self.norms, points, self.weights, alpha=-2)
        lowest, numbers = lowest_by_groups(scores) if self.by_groups else scores.min(dim=1)
        return numbers, (lowest + points.square().sum(dim=1)).clamp_(min=0)


class Bfloat16Search:
    """Finds the nearest of ``centroids``, (k, d) float32, by products in bfloat16 and, in close calls, in float32."""

    def __init__(self, centroids: Tensor) -> None:
        self.centroids = centroids
        # of smaller numbers rounding takes less; centroids far away, as empty clusters may have, do not move a median
        self.centre = centroids[:SAMPLE].median(dim=0).values
        centred = centroids - self.centre
        self.plain = PlainSearch(centred)
        self.rounded = centred.bfloat16()
        self.error = (centred - self.rounded).norm(dim=1).amax()
        self.length = centred.norm(dim=1).amax()
        self.norms = centred.square().sum(dim=1)
        if centroids.device.type == "cpu":
            self.factor = cpu_factor(self.rounded, self.norms)
            # memory that is new at every block is slower than what is done with it
            self.scores = torch.empty(rows_at_once(centroids, len(centroids)), self.factor.shape[1])
        self.gave_up = False  # where most calls are close, products in float32 alone are faster

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest centroid (n,) int64 and squared distance to it (n,), of points (n, d)."""
        if self.gave_up:
            return self.plain(points - self.centre)
        numbers, squared, close = zip(
            *map(self._search, points.split(rows_at_once(points, len(self.norms)))), strict=True
        )
        found, distances = torch.cat(numbers), torch.cat(squared)
        again = torch.cat(close).nonzero().squeeze(1)  # together: small products are slow
        self.gave_up = MOST_AGAIN * len(points) < len(again)
        if len(again):
            rows = points[again]
            found[again], _ = self.plain(rows - self.centre)
            distances[again] = (rows - self.centroids[found[again]]).square_().sum(dim=1)
        return found, distances

    def _search(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers, squared distances, and where the second nearest is too close to tell."""
        centred = points - self.centre
        rounded = centred.bfloat16()
        lengths = centred.norm(dim=1)
        errors = centred.sub_(rounded).norm(dim=1)
        if points.device.type == "cpu":
            ones = rounded.new_ones(len(points), 2)
            scores = self.scores[: len(points)].copy_(torch.cat([rounded, ones], dim=1) @ self.factor)
            lowest, numbers, second = two_lowest_by_groups(scores)
        else:
            from dclib.cluster.two_lowest import two_lowest  # needs Triton

            lowest, numbers, second = two_lowest(rounded, self.rounded, self.norms)
        # scores of a CPU are rounded themselves; not "at most": one that overflowed is not a number, and tells nothing
        gap = second - lowest - 1.01 * ROUNDING * (second.abs() + lowest.abs())
        close = ~(gap > 2 * self._uncertainty(lengths, errors))
        squared = torch.sub(points, self.centroids.index_select(0, numbers), out=centred).square_().sum(dim=1)
        return numbers, squared, close

    def _uncertainty(self, lengths: Tensor, errors: Tensor) -> Tensor:
        """How far the score of any centroid can be from |c|^2 - 2 x.c before it is rounded, (n,)."""
        by_factors = 2 * (errors * self.length + (lengths + errors) * self.error)
        # sums of d + 2 numbers in float32, which amount to at most (|x| + |c|)^2, and |c|^2 in two numbers of 8 bits
        sums = 4 * (self.centroids.shape[1] + 4) * FLOAT32_ROUNDING + 2.0**-16
        uncertainty: Tensor = 1.01 * by_factors + sums * (lengths + self.length).square()
        return uncertainty


def rows_at_once(points: Tensor, k: int) -> int:
    """Points whose scores of k centroids are held at once."""
    return max(1, (CPU_SCORES if points.device.type == "cpu" else CUDA_SCORES) // max(k, points.shape[1]))


def lowest_by_groups(scores: Tensor) -> tuple[Tensor, Tensor]:
    """As ``scores.min(dim=1)``, of as many columns as GROUPS divides.

    On a CPU a minimum alone is found several times faster than its place: so each group's, then the place in one group.
    """
    groups = scores.unflatten(1, (GROUPS, -1))
    group = groups.amin(dim=2).argmin(dim=1)
    lowest, place = groups[torch.arange(len(scores)), group].min(dim=1)
    return lowest, group * groups.shape[2] + place


def cpu_factor(rounded: Tensor, norms: Tensor) -> Tensor:
    """(d + 2, k') bfloat16, of centroids (k, d) in bfloat16 and |c|^2 (k,): times (x, 1, 1), |c|^2 - 2 x.c.

    The squares are split in two numbers of 8 bits. k' is k made up to a multiple of GROUPS, with infinite scores.
    """
    high = norms.bfloat16()
    factor = torch.cat([-2 * rounded.T, high.unsqueeze(0), (norms - high).bfloat16().unsqueeze(0)])
    padding = factor.new_zeros(len(factor), -len(norms) % GROUPS)
    padding[-2] = torch.inf
    return torch.cat([factor, padding], dim=1)


def two_lowest_by_groups(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of scores (n, k) the lowest of each row (n,), its column and the second lowest; GROUPS divides k."""
    groups = scores.unflatten(1, (-1, GROUPS))  # a group is every 32nd column: their minimum is found fastest
    lowest_of = groups.amin(dim=1)
    group = lowest_of.argmin(dim=1, keepdim=True)
    own = groups[torch.arange(len(scores)), :, group.squeeze(1)]
    lowest, place = own.min(dim=1, keepdim=True)
    lowest_of.scatter_(1, group, own.scatter_(1, place, torch.inf).amin(dim=1, keepdim=True))
    return lowest.squeeze(1), (place * GROUPS + group).squeeze(1), lowest_of.amin(dim=1)


class FaissSearch:
    """Asks FAISS, on the CPU and in float32, wherever and whatever the points are."""

    def __init__(self, centroids: Tensor) -> None:
        self.centroids = centroids
        self.index = import_faiss().IndexFlatL2(centroids.shape[1])
        self.index.add(centroids.detach().cpu().float().contiguous().numpy())

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest centroid (n,) int64 and squared distance to it (n,), of points (n, d)."""
        _, found = self.index.search(points.detach().cpu().float().contiguous().numpy(), 1)
        numbers = torch.from_numpy(found[:, 0]).to(points.device)
        return numbers, (points - self.centroids[numbers]).square().sum(dim=1)


SEARCHES: dict[str, Callable[[Tensor], Search]] = {
    "torch": PlainSearch,
    "torch-bf16": Bfloat16Search,
    "faiss": FaissSearch,
}


def has_bfloat16(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether points of this type on ``device`` can be searched by :class:`Bfloat16Search` to any good."""
    has_kernel = device.type == "cpu" or importlib.util.find_spec("triton") is not None
    return dtype == torch.float32 and has_kernel and multiplies_in_bfloat16(device)


def import_faiss() -> Any:
    """FAISS, or a ValueError that says how to get it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation notices of its generated bindings
            import faiss
    except ImportError as error:
        raise ValueError(
            f"backend='faiss' needs FAISS, which cannot be imported ({error}); install faiss-cpu or use backend='torch'"
        ) from None
    return faiss
