"""The nearest of k centroids by products in full precision, on any device: what others agree with."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

# scores held at once: few enough for a core's own cache, enough to keep a GPU busy
CPU_SCORES, CUDA_SCORES = 2**19, 2**24
LEAST_ROWS = 256  # on a CPU, so that centroids are not read for a few points only
FEWEST_GROUPS = 32
WIDE = 256  # columns from which the minimum of a row is found by groups


class PlainSearch:
    """Finds the nearest of ``centroids`` (k, d) by |c|^2 - 2 x.c in their precision; ties go to the lower number."""

    def __init__(self, centroids: Tensor) -> None:
        self.by_groups = centroids.device.type == "cpu" and len(centroids) >= WIDE
        self.groups = groups_of(len(centroids)) if self.by_groups else 1
        padding = -len(centroids) % self.groups
        weights = torch.cat([-2 * centroids, centroids.new_zeros(padding, centroids.shape[1])]).T
        norms = torch.cat([centroids.square().sum(dim=1), centroids.new_full((padding,), torch.inf)])
        self.weights, self.norms = by_places(weights, self.groups), by_places(norms, self.groups)

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest centroid (n,) int64 and squared distance to it (n,), of points (n, d)."""
        rows = rows_at_once(points, len(self.norms))
        room = points.new_empty(min(rows, len(points)), len(self.norms))  # at every block anew it would be slower
        found = [self._search(part, room[: len(part)]) for part in points.split(rows)]
        return torch.cat([numbers for numbers, _ in found]), torch.cat([squared for _, squared in found])

    def _search(self, points: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
        scores = self._scores(points, room)
        lowest, numbers = lowest_by_groups(scores, self.groups) if self.by_groups else scores.min(dim=1)
        return numbers, (lowest + points.square().sum(dim=1)).clamp_(min=0)

    def _scores(self, points: Tensor, room: Tensor) -> Tensor:
        if points.is_cuda:
            return torch.addmm(self.norms, points, self.weights, out=room)
        return torch.mm(points, self.weights, out=room).add_(self.norms)  # in a core's own cache faster than at once


class NumpySearch(PlainSearch):
    """The same by NumPy's library of products on a CPU, which is faster than PyTorch's on some of them."""

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        with libraries().limit(limits=torch.get_num_threads(), user_api="blas"):
            return super().__call__(points)

    def _scores(self, points: Tensor, room: Tensor) -> Tensor:
        np.matmul(points.numpy(), self.weights.numpy(), out=room.numpy())
        return room.add_(self.norms)


@cache
def libraries() -> ThreadpoolController:
    """The libraries of products that are loaded; to look for them takes milliseconds."""
    return ThreadpoolController()


def rows_at_once(points: Tensor, k: int) -> int:
    """Points whose scores of k centroids are held at once."""
    if points.device.type == "cpu":
        return max(LEAST_ROWS, CPU_SCORES // max(k, points.shape[1]))
    return max(1, CUDA_SCORES // max(k, points.shape[1]))


def groups_of(k: int) -> int:
    """In how many groups k columns are looked through: about as many as there are columns in one."""
    return max(FEWEST_GROUPS, 1 << k.bit_length() // 2)


def by_places(columns: Tensor, groups: int) -> Tensor:
    """Columns (..., groups x m), each group's m together, so that all groups' first come first, then all second ones.

    Then minima of groups are those of whole runs of numbers, which a CPU finds several times faster.
    """
    placed: Tensor = columns.unflatten(-1, (groups, -1)).transpose(-1, -2)
    return placed.flatten(-2).contiguous()


def lowest_by_groups(scores: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """As ``scores.min(dim=1)`` before :func:`by_places`: the lowest of each row (n,) and its column then (n,).

    On a CPU a minimum alone is found several times faster than its place: so each group's, then the place in one group.
    """
    places = scores.unflatten(1, (-1, groups))
    group = places.amin(dim=1).argmin(dim=1)
    lowest, place = places[torch.arange(len(scores)), :, group].min(dim=1)
    return lowest, group * places.shape[1] + place
