"""The nearest of k centroids for every point: five ways that find the same one.

``"torch"`` takes products in the points' own precision. ``"torch-axes"`` takes them along the centroids' leading axes
and ``"torch-bf16"`` in bfloat16; both know how far that can be wrong, and do the close calls in full. ``"numpy"`` is
``"torch"`` with NumPy's library of products, and ``"faiss"`` asks FAISS. None holds n by k distances.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dclib.cluster.bounded import FLOAT32_ROUNDING, MOST_AGAIN, SAMPLE, BoundedSearch
from dclib.cluster.plain import NumpySearch, PlainSearch
from dclib.precision import multiplies_in_bfloat16

Search = Callable[[Tensor], tuple[Tensor, Tensor]]  # of points (n, d): numbers of the nearest, squared distances


class KernelSearch:
    """Finds the nearest of ``centroids``, (k, d) float32 on a GPU, by products in bfloat16, then in float32.

    Where the second lowest score is above the lowest by more than twice what both can be wrong, as said in
    :mod:`dclib.cluster.bounded`, the lowest is that of the nearest centroid; elsewhere float32 decides.
    """

    def __init__(self, centroids: Tensor) -> None:
        self.centroids = centroids
        self.centre = centroids[:SAMPLE].median(dim=0).values
        centred = centroids - self.centre
        self.plain = PlainSearch(centred)
        self.rounded = centred.bfloat16()
        self.error = (centred - self.rounded).norm(dim=1).amax()
        self.length = centred.norm(dim=1).amax()
        self.norms = centred.square().sum(dim=1)
        self.gave_up = False  # where most calls are close, products in float32 alone are faster

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest centroid (n,) int64 and squared distance to it (n,), of points (n, d)."""
        if self.gave_up:
            return self.plain(points - self.centre)
        numbers, squared, again = self._search(points)
        self.gave_up = MOST_AGAIN * len(points) < len(again)
        if len(again):
            rows = points[again]
            numbers[again], _ = self.plain(rows - self.centre)
            squared[again] = (rows - self.centroids[numbers[again]]).square_().sum(dim=1)
        return numbers, squared

    def _search(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers, squared distances, and the rows where the second nearest is too close to tell."""
        from dclib.cluster.two_lowest import two_lowest  # needs Triton

        centred = points - self.centre
        rounded = centred.bfloat16()
        lengths = centred.norm(dim=1)
        errors = centred.sub_(rounded).norm(dim=1)
        lowest, numbers, second = two_lowest(rounded, self.rounded, self.norms)
        squared = centred.copy_(points).sub_(self.centroids[numbers]).square_().sum(dim=1)
        by_factors = 2 * (errors * self.length + (lengths + errors) * self.error)
        # sums of d + 2 numbers in float32, which amount to at most (|x| + |c|)^2; matrix units may cut instead of round
        sums = (4 * (self.centroids.shape[1] + 4) * FLOAT32_ROUNDING + 2.0**-16) * (lengths + self.length).square()
        # not "at most": a score that overflowed is not a number, and tells nothing
        return numbers, squared, (~(second - lowest > 2 * (1.01 * by_factors + sums))).nonzero().squeeze(1)


def bfloat16_search(centroids: Tensor) -> Search:
    """That of the device."""
    return KernelSearch(centroids) if centroids.is_cuda else BoundedSearch(centroids, torch.bfloat16)


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
    "torch-axes": partial(BoundedSearch, digits=torch.float32),
    "torch-bf16": bfloat16_search,
    "numpy": NumpySearch,
    "faiss": FaissSearch,
}


def has_bfloat16(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether points of this type on ``device`` can be searched by products in bfloat16 to any good."""
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
