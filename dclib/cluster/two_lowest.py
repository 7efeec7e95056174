"""On a GPU: the lowest and second lowest score of every point, by one kernel that writes no scores to memory.

Importing this needs Triton, which comes with torch where there can be a GPU of NVIDIA. With ``TRITON_INTERPRET=1`` in
the environment the kernel runs on a CPU, slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

POINTS, CENTROIDS, WIDTH = 128, 128, 64  # of a tile


def two_lowest(points: Tensor, centroids: Tensor, norms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of points (n, d) the lowest |c|^2 - 2 x.c of centroids (k, d), the number of its centroid, and the second lowest.

    Args:
        points: (n, d), and ``centroids`` (k, d), both bfloat16 or both float32, on the GPU.
        norms: |c|^2, (k,) float32.

    Returns:
        (n,) float32, int64 and float32. Products are added up in float32. Equal scores go to the lower number; of one
        centroid the second lowest is infinite.
    """
    n, d = points.shape
    lowest, second = (torch.empty(n, dtype=torch.float32, device=points.device) for _ in range(2))
    numbers = torch.empty(n, dtype=torch.int64, device=points.device)
    if n:
        grid = (triton.cdiv(n, POINTS),)
        kernel[grid](
            points.contiguous(), centroids.contiguous(), norms, lowest, numbers, second, n, len(norms), d,
            POINTS=POINTS, CENTROIDS=CENTROIDS, WIDTH=WIDTH, num_warps=8,
        )  # fmt: skip
    return lowest, numbers, second


@triton.jit  # type: ignore[untyped-decorator]
def kernel(  # type: ignore[no-untyped-def]
    points, centroids, norms, lowest_out, numbers_out, second_out, n, k, d,
    POINTS: tl.constexpr, CENTROIDS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One program goes through all centroids for its POINTS points."""
    rows = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    own = points + rows.to(tl.int64)[:, None] * d
    lowest = tl.full((POINTS,), float("inf"), tl.float32)
    second = tl.full((POINTS,), float("inf"), tl.float32)
    numbers = tl.zeros((POINTS,), tl.int32)
    places = tl.arange(0, CENTROIDS)
    for first in range(0, k, CENTROIDS):
        columns = first + places
        products = tl.zeros((POINTS, CENTROIDS), tl.float32)
        for start in range(0, d, WIDTH):
            part = start + tl.arange(0, WIDTH)
            left = tl.load(own + part[None, :], mask=(rows[:, None] < n) & (part[None, :] < d), other=0.0)
            right = tl.load(
                centroids + columns[None, :] * d + part[:, None],
                mask=(columns[None, :] < k) & (part[:, None] < d),
                other=0.0,
            )
            products = tl.dot(left, right, products, input_precision="ieee")
        squares = tl.load(norms + columns, mask=columns < k, other=float("inf"))
        scores = squares[None, :] - 2 * products
        here = tl.min(scores, axis=1)
        place = tl.argmin(scores, axis=1)
        next_here = tl.min(tl.where(places[None, :] == place[:, None], float("inf"), scores), axis=1)
        second = tl.minimum(tl.minimum(second, next_here), tl.maximum(lowest, here))
        numbers = tl.where(here < lowest, first + place, numbers)
        lowest = tl.minimum(lowest, here)
    tl.store(lowest_out + rows, lowest, mask=rows < n)
    tl.store(numbers_out + rows, numbers.to(tl.int64), mask=rows < n)
    tl.store(second_out + rows, second, mask=rows < n)
