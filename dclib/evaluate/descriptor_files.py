"""Retrieval by descriptors that were computed elsewhere: scoring alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dclib.data.landmarks import Landmarks, read_ground_truth
from dclib.evaluate.retrieval import Ranked, score_descriptors
from dclib.reading import load_array


def score_files(ground_truth: str | Path, queries: str | Path, images: str | Path | None = None) -> list[Ranked]:
    """Score descriptors that were computed elsewhere and saved by NumPy.

    Args:
        ground_truth: Folder of text files, or a ``gnd_*.pkl``.
        queries: .npy of (q, d), in the ground truth's order of queries. images: .npy of (n, d), in its order of
            images; without it the queries' own images are what is searched.

    Raises:
        ValueError: a file is missing, is no matrix, or has another number of rows.
    """
    truth = read_ground_truth(ground_truth)
    asked = _load_matrix(queries)
    if images is not None:
        return score_descriptors(asked, _load_matrix(images), Landmarks(truth.images, truth.queries))
    first = {query.image: row for row, query in reversed(list(enumerate(truth.queries)))}
    if len(asked) != len(truth.queries):
        raise ValueError(f"need a row for each of {len(truth.queries)} queries in {queries}; got {len(asked)}")
    return score_descriptors(asked, asked[list(first.values())], Landmarks(tuple(first), truth.queries))


def _load_matrix(path: str | Path) -> Tensor:
    try:
        matrix = load_array(path)
    except ValueError as error:
        raise ValueError(f"need a matrix of descriptors saved by NumPy at {path}: {error}") from None
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(f"need finite descriptors (rows, d) in {path}; got shape {matrix.shape}")
    return torch.from_numpy(matrix.astype(np.float32))
