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
CPU_SCORES, CUDA_SCORES = 2**22, 2**24
MOST_AGAIN = 0.2  # share of points searched twice above which float32 alone was faster, on a CPU without matrix units
GROUPS = 32
MOST_POSSIBLE = 64  # centroids, or a 32nd of them, above which a product with all was faster than differences
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
            self._make_room()
        self.gave_up = False  # where most calls are close, products in float32 alone are faster

    def _make_room(self) -> None:
        """For all that a block needs: memory that is new at every block is slower than what is done with it."""
        k, d = self.centroids.shape
        rows = rows_at_once(self.centroids, k)
        self.factor = cpu_factor(self.rounded, self.norms)
        self.centred, self.chosen = torch.empty(2, rows, d)
        self.augmented = torch.ones(rows, d + 2, dtype=torch.bfloat16)
        self.products = torch.empty(rows, self.factor.shape[1], dtype=torch.bfloat16)
        self.scores = torch.empty(self.products.shape)

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest centroid (n,) int64 and squared distance to it (n,), of points (n, d)."""
        if self.gave_up:
            return self.plain(points - self.centre)
        on_cpu = points.device.type == "cpu"
        numbers, squared, again = self._search_on_cpu(points) if on_cpu else self._search_on_gpu(points)
        self.gave_up = MOST_AGAIN * len(points) < len(again)
        if len(again):
            rows = points[again]
            numbers[again], _ = self.plain(rows - self.centre)
            squared[again] = (rows - self.centroids[numbers[again]]).square_().sum(dim=1)
        return numbers, squared

    def _search_on_cpu(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers, squared distances, and the rows where so many may be the nearest that this cannot tell."""
        size = len(self.scores)
        found = [self._search_block(block, i * size) for i, block in enumerate(points.split(size))]
        numbers, squared, row, column, many = map(torch.cat, zip(*found, strict=True))
        improve(numbers, squared, points, self.centroids, row, column)  # of all blocks: small operations are slow
        return numbers, squared, many

    def _search_block(self, points: Tensor, first: int) -> tuple[Tensor, ...]:
        """Numbers, squared distances, rows and columns of others that may be nearer, and rows where those are many.

        Rows are counted from ``first``.
        """
        n, d = points.shape
        centred, rounded, scores = self.centred[:n], self.augmented[:n, :d], self.scores[:n]
        rounded.copy_(torch.sub(points, self.centre, out=centred))
        lengths = centred.norm(dim=1)
        errors = centred.sub_(rounded).norm(dim=1)
        scores.copy_(torch.mm(self.augmented[:n], self.factor, out=self.products[:n]))
        lowest, numbers, others = lowest_and_others(scores)
        chosen = torch.index_select(self.centroids, 0, numbers, out=self.chosen[:n])
        squared = torch.sub(points, chosen, out=centred).square_().sum(dim=1)
        highest = highest_of_a_nearest(lowest, self._uncertainty(lengths, errors), 1.01 * ROUNDING)
        most = min(MOST_POSSIBLE, max(2, len(self.centroids) // GROUPS))
        row, column, many = possible_columns(scores, others, highest, most)
        return numbers, squared, row + first, column, many + first

    def _search_on_gpu(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers, squared distances, and the rows where the second nearest is too close to tell."""
        from dclib.cluster.two_lowest import two_lowest  # needs Triton

        centred = points - self.centre
        rounded = centred.bfloat16()
        lengths = centred.norm(dim=1)
        errors = centred.sub_(rounded).norm(dim=1)
        lowest, numbers, second = two_lowest(rounded, self.rounded, self.norms)
        squared = centred.copy_(points).sub_(self.centroids[numbers]).square_().sum(dim=1)
        highest = highest_of_a_nearest(lowest, self._uncertainty(lengths, errors), 0)
        # not "at most": a score that overflowed is not a number, and tells nothing
        return numbers, squared, (~(second > highest)).nonzero().squeeze(1)

    def _uncertainty(self, lengths: Tensor, errors: Tensor) -> Tensor:
        """How far the score of any centroid can be from |c|^2 - 2 x.c before it is rounded, (n,)."""
        by_factors = 2 * (errors * self.length + (lengths + errors) * self.error)
        # sums of d + 2 numbers in float32, which amount to at most (|x| + |c|)^2, and |c|^2 in two numbers of 8 bits
        sums = 4 * (self.centroids.shape[1] + 4) * FLOAT32_ROUNDING + 2.0**-16
        uncertainty: Tensor = 1.01 * by_factors + sums * (lengths + self.length).square()
        return uncertainty


def highest_of_a_nearest(lowest: Tensor, uncertainty: Tensor, rounding: float) -> Tensor:
    """The highest score that the nearest centroid can have where ``lowest`` is the lowest one found, (n,).

    Each score can be off by ``uncertainty`` (n,), and was then rounded by at most the share ``rounding`` of itself.
    """
    highest = lowest + rounding * lowest.abs() + 2 * uncertainty
    return highest / (1 - rounding * highest.sign())


def improve(numbers: Tensor, squared: Tensor, points: Tensor, centroids: Tensor, row: Tensor, column: Tensor) -> None:
    """Replace ``numbers`` and ``squared`` (n,) of the nearest centroids where another one is nearer, in place.

    Compared are point ``row[i]`` and centroid ``column[i]``, for all i, by their differences; ties go to the lower one.
    """
    parts = max(1, CPU_SCORES // points.shape[1])
    pairs = zip(row.split(parts), column.split(parts), strict=True)
    found = [(points.index_select(0, r) - centroids.index_select(0, c)).square_().sum(dim=1) for r, c in pairs]
    distances = torch.cat(found)
    shortest = squared.scatter_reduce(0, row, distances, "amin")
    numbers[shortest < squared] = len(centroids)
    nearest = distances == shortest[row]
    numbers.scatter_reduce_(0, row[nearest], column[nearest], "amin")
    squared.copy_(shortest)


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

    The squares are split in two numbers of 8 bits. k' is k made up, with infinite scores, to at least two groups.
    """
    high = norms.bfloat16()
    factor = torch.cat([-2 * rounded.T, high.unsqueeze(0), (norms - high).bfloat16().unsqueeze(0)])
    padding = factor.new_zeros(len(factor), max(2 * GROUPS - len(norms), -len(norms) % GROUPS))
    padding[-2] = torch.inf
    return torch.cat([factor, padding], dim=1)


def lowest_and_others(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of scores (n, k) the lowest of each row (n,), its column, and the lowest other one of every group (n, GROUPS).

    A group is every GROUPS-th column, for their minimum is found fastest; each has two columns or more.
    """
    groups = scores.unflatten(1, (-1, GROUPS))
    others = groups.amin(dim=1)
    group = others.argmin(dim=1, keepdim=True)
    lowest, places = groups[torch.arange(len(scores)), :, group.squeeze(1)].topk(2, dim=1, largest=False)
    others.scatter_(1, group, lowest[:, 1:])
    return lowest[:, 0], places[:, 0] * GROUPS + group.squeeze(1), others


def possible_columns(scores: Tensor, others: Tensor, highest: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of ``scores`` (n, k) that are not above ``highest`` (n,), perhaps without a row's lowest.

    ``others`` (n, GROUPS), the lowest of every group but for the row's lowest, tells where it is worth looking. Rows
    that have more than ``most`` such columns are given apart, as the third.
    """
    # not "at most": a score that overflowed is not a number, and tells nothing
    close = (~(others.amin(dim=1) > highest)).nonzero().squeeze(1)
    which, group = (~(others.index_select(0, close) > highest[close].unsqueeze(1))).nonzero(as_tuple=True)
    row = close[which]
    possible = ~(scores.unflatten(1, (-1, GROUPS))[row, :, group] > highest[row].unsqueeze(1))
    many = row.new_zeros(len(scores)).index_add_(0, row, possible.sum(dim=1)) > most
    which, place = (possible & ~many[row].unsqueeze(1)).nonzero(as_tuple=True)
    return row[which], place * GROUPS + group[which], many.nonzero().squeeze(1)


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
