"""On a CPU: the nearest of k centroids by cheap products that are known to be too low, and a few distances in full.

Let x and c be a point and a centroid less a common centre, Px and Pc their parts along some orthonormal axes, and Rx
and Rc what is left of them. Then x.c = Px.Pc + Rx.Rc, and by Cauchy and Schwarz

    |c|^2 - 2 x.c  >=  |c|^2 - 2 Px.Pc - 2 |Rx| |Rc|.

The right side is a product of two short vectors: a *bound*. The centroid of the lowest bound is compared in full, and
so is every other whose bound is not above what that gives. On real features few are left, for centroids lie along few
axes, far fewer than points have.

The short vectors may be rounded to bfloat16, X and C then. What that changes is known, too:

    |Px.Pc - X.C| <= |Px - X| |Pc| + |X| |Pc - C|.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dclib.cluster.plain import FEWEST_GROUPS, PlainSearch, by_places, groups_of, rows_at_once

ROUNDING = 2.0**-8  # a number that becomes bfloat16 changes by at most this share of it
FLOAT32_ROUNDING = 2.0**-24
MOST_AGAIN = 0.2  # share of points searched twice above which float32 alone was faster
MOST_POSSIBLE = 64  # centroids, or a 32nd of them, above which a product with all was faster than differences
SAMPLE = 1024  # centroids whose middle is the centre; any centre gives the same answers
SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2)  # of the axes that are tried, the leading ones
TRIED = 128  # points they are tried on, at least
MOST_USED = 0.4  # share of the axes that centroids may use for fewer to be looked for
WIDEST = 512  # columns up to which axes are looked for: of more, finding them takes too long
PAIR = 100  # a difference in full takes as long as so many products of the same length
BFLOAT16_PRODUCT = 0.4  # time of a product in bfloat16, in units of one in float32


class BoundedSearch:
    """Finds the nearest of ``centroids``, (k, d) float32 on a CPU, by products in ``digits``, then in float32.

    How many axes the products go along, all d or fewer, is decided at the first call by what it would have cost for a
    few of its points; no answer depends on it.
    """

    def __init__(self, centroids: Tensor, digits: torch.dtype) -> None:
        self.centroids, self.digits = centroids, digits
        # of smaller numbers rounding takes less; centroids far away, as empty clusters may have, do not move a median
        self.centre = centroids[:SAMPLE].median(dim=0).values
        self.centred = centroids - self.centre
        self.plain = PlainSearch(self.centred)
        self.axes: Tensor | None = None  # (d, p), or all
        self.factor: Tensor | None = None
        self.gave_up = False  # where most calls are close, products in float32 alone are faster

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest centroid (n,) int64 and squared distance to it (n,), of points (n, d)."""
        if self.factor is None and not self.gave_up:
            self._prepare(points[:: max(1, len(points) // TRIED)] - self.centre)
        if self.gave_up:
            return self.plain(points - self.centre)
        size = len(self.short)
        found = [self._search_block(block, i * size) for i, block in enumerate(points.split(size))]
        numbers, squared, row, column, again = map(torch.cat, zip(*found, strict=True))
        improve(numbers, squared, points, self.centroids, row, column)  # of all blocks: small operations are slow
        too_many = PAIR * len(row) > len(points) * len(self.centroids)
        self.gave_up = too_many or MOST_AGAIN * len(points) < len(again)
        if len(again):
            rows = points[again]
            numbers[again], _ = self.plain(rows - self.centre)
            squared[again] = (rows - self.centroids[numbers[again]]).square_().sum(dim=1)
        return numbers, squared

    def _prepare(self, tried: Tensor) -> None:
        """Choose the axes by a few centred points, and make what every block needs."""
        self.axes = fewer_axes(tried, self.centred, 1.0 if self.digits == torch.float32 else BFLOAT16_PRODUCT)
        if self.axes is None and self.digits == torch.float32:
            self.gave_up = True
            return
        along = self.centred if self.axes is None else self.centred @ self.axes
        rounded = along.to(self.digits)
        self.error = (along - rounded).norm(dim=1).amax()
        lengths = self.centred.norm(dim=1)
        self.length = lengths.amax()
        self.factor = bounding_factor(rounded, self.centred.square().sum(dim=1), self._rest(lengths, along))
        # memory that is new at every block is slower than what is done with it
        k, d = self.centroids.shape
        rows = rows_at_once(self.centroids, k)
        self.room, self.chosen = torch.empty(2, rows, d)
        self.short = torch.ones(rows, len(self.factor), dtype=self.digits)
        self.bounds = torch.empty(rows, self.factor.shape[1])
        self.rounded_bounds = self.bounds if self.digits == torch.float32 else self.bounds.to(self.digits)

    def _rest(self, lengths: Tensor, along: Tensor) -> Tensor:
        """Lengths of what the parts ``along`` the axes leave, not less than they are, (n,)."""
        if self.axes is None:
            return torch.zeros_like(lengths)
        squares = lengths.square()
        left = (squares - along.square().sum(dim=1)).clamp_(min=0)
        return 1.01 * (left + 8 * (along.shape[1] + 4) * FLOAT32_ROUNDING * squares).sqrt_()

    def _search_block(self, points: Tensor, first: int) -> tuple[Tensor, ...]:
        """Numbers, squared distances, rows and columns of others that may be nearer, and rows where those are many.

        Rows are counted from ``first``.
        """
        n, k = len(points), len(self.centroids)
        bounds, lengths, uncertainty = self._bounds(points)
        numbers, others = lowest_and_others(bounds, groups_of(k))
        chosen = torch.index_select(self.centroids, 0, numbers, out=self.chosen[:n])
        squared = torch.sub(points, chosen, out=self.room[:n]).square_().sum(dim=1)
        highest = (squared - lengths.square_()).add_(uncertainty)
        if self.digits == torch.bfloat16:  # in which the bounds are written
            highest += 1.01 * ROUNDING * highest.abs()
        row, column, many = possible_columns(bounds, others, highest, most_compared(k))
        return numbers, squared, row + first, column, many + first

    def _bounds(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bounds (n, k') of a block's |c|^2 - 2 x.c, lengths |x| (n,), and how far a bound can be above that (n,).

        The first are by places, the last is before a bound is rounded to bfloat16.
        """
        assert self.factor is not None
        n = len(points)
        short, bounds, rounded = self.short[:n], self.bounds[:n], self.rounded_bounds[:n]
        centred = torch.sub(points, self.centre, out=self.room[:n])
        lengths = centred.norm(dim=1)
        along = centred if self.axes is None else centred @ self.axes
        p = along.shape[1]
        short[:, :p], short[:, -1] = along, self._rest(lengths, along)
        torch.mm(short, self.factor, out=rounded)
        if self.digits == torch.float32:
            return bounds, lengths, self._uncertainty(lengths, torch.zeros_like(lengths))
        bounds.copy_(rounded)
        return bounds, lengths, self._uncertainty(lengths, along.sub_(short[:, :p]).norm(dim=1))

    def _uncertainty(self, lengths: Tensor, errors: Tensor) -> Tensor:
        """How far a bound, before it is rounded, can be above what it bounds, (n,)."""
        by_factors = 2 * (errors * self.length + (lengths + errors) * self.error)
        # sums of at most d + 3 numbers in float32, which amount to at most (|x| + |c|)^2; in bfloat16, |c|^2 is two
        # numbers of 8 bits
        sums = 8 * (self.centroids.shape[1] + 4) * FLOAT32_ROUNDING + (0 if self.digits == torch.float32 else 2.0**-16)
        uncertainty: Tensor = 1.01 * by_factors + sums * (lengths + self.length).square()
        return uncertainty


def fewer_axes(points: Tensor, centroids: Tensor, product: float) -> Tensor | None:
    """The leading axes of the centroids along which products are worth it, (d, p), or None if all d are.

    Args:
        points: (n, d), a few. centroids: (k, d), both less their centre.
        product: Time of a product beside one in float32.
    """
    k, d = centroids.shape
    if not len(points) or d > WIDEST or k < 2 * FEWEST_GROUPS:
        return None
    products = centroids.T @ centroids
    used = products.trace().square() / products.square().sum()  # axes, if all of those were used alike
    if not used < MOST_USED * d:
        return None
    axes = torch.linalg.eigh(products.double()).eigenvectors.flip(1).to(centroids)
    norms = centroids.square().sum(dim=1)
    nearest = (norms - 2 * points @ centroids.T).amin(dim=1, keepdim=True)
    x, c = points @ axes, centroids @ axes
    best, least = None, product * k
    for p in sorted({max(8, round(share * d / 8) * 8) for share in SHARES}):
        rest = x[:, p:].norm(dim=1).outer(c[:, p:].norm(dim=1))
        possible = (norms - 2 * (x[:, :p] @ c[:, :p].T + rest) <= nearest).sum(dim=1).double() - 1
        again = possible > most_compared(k)
        compared = torch.where(again, k, PAIR * possible).mean()
        cost = p / d * (product * k + d) + float(compared)
        if p < d and cost < least:
            best, least = axes[:, :p].contiguous(), cost
    return best


def bounding_factor(rounded: Tensor, norms: Tensor, rest: Tensor) -> Tensor:
    """(p + 3, k'), of centroids' parts C (k, p), |c|^2 (k,) and |Rc| (k,): times (X, 1, 1, |Rx|), their bounds.

    The squares are split in two numbers of as many digits as C has. k' is k made up, with infinite bounds, to at least
    two groups; its columns stand :func:`dclib.cluster.plain.by_places`.
    """
    high = norms.to(rounded.dtype)
    low = (norms - high).to(rounded.dtype)
    factor = torch.cat([-2 * rounded.T, torch.stack([high, low, (-2 * rest).to(rounded.dtype)])])
    groups = groups_of(len(norms))
    padding = factor.new_zeros(len(factor), max(2 * groups - len(norms), -len(norms) % groups))
    padding[-3] = torch.inf
    return by_places(torch.cat([factor, padding], dim=1), groups)


def most_compared(k: int) -> int:
    """Centroids, of k, that are compared with one point by differences; of more, all are."""
    return min(MOST_POSSIBLE, max(2, k // FEWEST_GROUPS))


def lowest_and_others(bounds: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Of bounds (n, k), by places, the column of the lowest of each row (n,) before they stood so, and each group's
    lowest other one (n, n_groups).

    A minimum alone is found several times faster than its place: so each group's, then the place in one group.
    """
    places = bounds.unflatten(1, (-1, n_groups))
    others = places.amin(dim=1)
    group = others.argmin(dim=1)
    members = places[torch.arange(len(bounds)), :, group]
    place = members.argmin(dim=1, keepdim=True)
    others.scatter_(1, group.unsqueeze(1), members.scatter_(1, place, torch.inf).amin(dim=1, keepdim=True))
    return group * places.shape[1] + place.squeeze(1), others


def possible_columns(bounds: Tensor, others: Tensor, highest: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of ``bounds`` (n, k) that are not above ``highest`` (n,), perhaps without a row's lowest.

    Bounds are by places, columns as they were before. ``others`` (n, groups), the lowest of every group but for the
    row's lowest, tells where it is worth looking. Rows that have more than ``most`` such columns are given apart, as
    the third.
    """
    places = bounds.unflatten(1, (-1, others.shape[1]))
    # not "at most": a bound that overflowed is not a number, and tells nothing
    close = (~(others.amin(dim=1) > highest)).nonzero().squeeze(1)
    which, group = (~(others.index_select(0, close) > highest[close].unsqueeze(1))).nonzero(as_tuple=True)
    row = close[which]
    possible = ~(places[row, :, group] > highest[row].unsqueeze(1))
    many = row.new_zeros(len(bounds)).index_add_(0, row, possible.sum(dim=1)) > most
    which, place = (possible & ~many[row].unsqueeze(1)).nonzero(as_tuple=True)
    return row[which], group[which] * places.shape[1] + place, many.nonzero().squeeze(1)


def improve(numbers: Tensor, squared: Tensor, points: Tensor, centroids: Tensor, row: Tensor, column: Tensor) -> None:
    """Replace ``numbers`` and ``squared`` (n,) of the nearest centroids where another one is nearer, in place.

    Compared are point ``row[i]`` and centroid ``column[i]``, for all i, by their differences; ties go to the lower one.
    """
    parts = rows_at_once(points, 1)
    pairs = zip(row.split(parts), column.split(parts), strict=True)
    found = [(points.index_select(0, r) - centroids.index_select(0, c)).square_().sum(dim=1) for r, c in pairs]
    distances = torch.cat(found)
    shortest = squared.scatter_reduce(0, row, distances, "amin")
    numbers[shortest < squared] = len(centroids)
    nearest = distances == shortest[row]
    numbers.scatter_reduce_(0, row[nearest], column[nearest], "amin")
    squared.copy_(shortest)
