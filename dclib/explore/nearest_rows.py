"""The nearest rows of a matrix by cosine, all of them looked at, a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BASE = 16_384  # rows that are compared with the queries at once


def nearest_rows(
    features: NDArray[Any],
    queries: range,
    others: NDArray[Any] | None,
    count: int,
    points: Callable[[Tensor], Tensor] = F.normalize,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Numbers and cosines (m, count) of the rows nearest to rows ``queries`` (m) of ``features``, nearest first.

    They are looked for among the rows of ``others``, or among all other ``features``, where it is None;
    ``points`` makes rows (m, d) of unit length of them.
    """
    base = features if others is None else others
    own = points(torch.from_numpy(np.array(features[queries.start : queries.stop], dtype=np.float32)))
    best = torch.full((len(own), count), -2.0)
    numbers = torch.zeros(len(own), count, dtype=torch.int64)
    for start in range(0, len(base), BASE):
        block = points(torch.from_numpy(np.array(base[start : start + BASE], dtype=np.float32)))
        cosines = own @ block.T
        if others is None:
            first = max(queries.start, start)
            inside = torch.arange(first, max(first, min(queries.stop, start + len(block))))
            cosines[inside - queries.start, inside - start] = -2.0  # itself
        found, places = cosines.topk(min(count, len(block)), dim=1)
        best, kept = torch.cat([best, found], dim=1).topk(count, dim=1)
        numbers = torch.cat([numbers, places + start], dim=1).gather(1, kept)
    return numbers.numpy().astype(np.int32), best.numpy()
