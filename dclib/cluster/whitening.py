"""PCA-whitening of features from statistics gathered block by block: memory does not grow with the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import scipy.linalg
import torch
from torch import Tensor

from dclib.cluster.stored_rows import Rows, StoredRows
from dclib.distributed import all_reduce_sum

BLOCK_ROWS = 1024  # rows held in float64 at once


@dataclass(frozen=True)
class PcaWhitening:
    """A projection onto principal axes, each with unit variance."""

    mean: Tensor  # (d,)
    projection: Tensor  # (d, dim)
    explained: float  # share of the variance on the kept axes, in [0, 1]

    @property
    def variances(self) -> Tensor:
        """Of the kept axes, (dim,) float64, largest first; those under the floor are at it."""
        return self.projection.double().square().sum(dim=0).reciprocal()

    def transform(self, features: Tensor) -> Tensor:
        """(n, d) to (n, dim)."""
        return (features - self.mean) @ self.projection


def fit_pca_whitening(features: Rows | Iterable[Tensor], dim: int, *, floor: float = 1e-5) -> PcaWhitening:
    """Fit a projection onto ``dim`` principal axes with unit variance on each.

    Eigenvalues under ``floor`` times the largest are raised to it, so that a rank-deficient covariance (fewer
    images than dimensions) stays invertible; those axes come out with less than unit variance.

    Args:
        features: (n, d) floating point, any device, in memory or stored, or blocks (n_i, d) of them: one row per
            image; with several processes, this rank's rows only, of which there may be none. Never modified.
        dim: Axes kept, 1 <= dim <= d.
        floor: Fraction of the largest eigenvalue, dimensionless.

    Returns:
        mean (d,) and projection (d, dim) with the dtype and device of ``features``, and ``explained``, before the
        floor. The same on every rank.

    Raises:
        ValueError: no rows, rows that are not finite, or ``dim`` outside [1, d].

    Source: Caron et al. 2019, arXiv:1905.01278; floor and exponent -1/2 as in the released code,
    src/utils.py:263-296. Differs: statistics are streamed and in float64, over all rows instead of a sample.
    """
    if isinstance(features, Tensor | StoredRows):
        if features.ndim != 2:
            raise ValueError(f"features must be (n, d), one row per image; got shape {tuple(features.shape)}")
        no_rows = torch.empty(0, features.shape[1], dtype=features.dtype, device=features.device)
        features = chain([no_rows], features.split(BLOCK_ROWS))  # gives the width to a rank without rows
    mean, covariance, like = mean_and_covariance(features)
    d = len(mean)
    if not 1 <= dim <= d:
        raise ValueError(f"dim must be in [1, {d}], the feature width; got {dim}")
    variance = float(covariance.trace())
    values, vectors = principal_axes(covariance)
    del covariance  # what is left of it would be held until the end
    values, vectors = values[-dim:], vectors[:, -dim:]
    explained = float(values.clamp(min=0).sum()) / max(variance, 1e-30)
    floored = values.clamp(min=max(floor * float(values[-1]), 1e-30))
    # an axis has no sign of its own: its largest entry is positive, whoever computes it, in whatever blocks
    upright = vectors.amax(dim=0) >= -vectors.amin(dim=0)
    projection = vectors.mul_(torch.where(upright, 1, -1) * floored.rsqrt()).to(like).flip(1)
    return PcaWhitening(mean.to(like), projection, min(explained, 1.0))


def principal_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,), ascending, and eigenvectors in columns (d, d) of a symmetric matrix, which is used up."""
    if covariance.device.type == "cpu":
        # torch's own needs three more matrices for its work, this driver none
        found = map(torch.from_numpy, scipy.linalg.eigh(covariance.numpy().T, driver="evr", overwrite_a=True))
    else:
        found = torch.linalg.eigh(covariance)
    values, vectors = found
    return values, vectors


def l2_normalise(points: Tensor) -> Tensor:
    """Rows scaled to unit length; a row of zeros stays zero. (n, d) to (n, d).

    Differs from the released code, which divides by zero there and clusters NaN.
    """
    lengths: Tensor = torch.linalg.vector_norm(points, dim=1, keepdim=True)
    return points / lengths.clamp(min=1e-12)


def usable_pca_dim(wanted: int, n_images: int, feature_dim: int) -> int:
    """The PCA dimension that ``n_images`` features of width ``feature_dim`` can support: at most n - 1 and d."""
    return max(1, min(wanted, feature_dim, n_images - 1))


def mean_and_covariance(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) in float64, over blocks and ranks; and one of the blocks."""
    count, total, products, like = 0, None, None, None
    for block in blocks:
        if block.ndim != 2:
            raise ValueError(f"features must be (n, d), one row per image; got shape {tuple(block.shape)}")
        rows = block.double()
        if not bool(torch.isfinite(rows).all()):
            bad = (~torch.isfinite(rows).all(dim=1)).nonzero().squeeze(1)[:5] + count
            raise ValueError(f"features must be finite; rows {bad.tolist()} (counted from this rank's first) are not")
        count += len(rows)
        if total is None or products is None:
            d = block.shape[1]
            total, products = rows.new_zeros(d), rows.new_zeros(d, d)
        total += rows.sum(dim=0)
        products.addmm_(rows.T, rows)
        like = block
    if total is None or products is None or like is None:
        raise ValueError("need at least one feature row to fit a whitening; got none")
    n = all_reduce_sum(torch.tensor(float(count), dtype=torch.float64, device=total.device))
    if n == 0:
        raise ValueError("need at least one feature row to fit a whitening; got none")
    mean = all_reduce_sum(total) / n
    return mean, all_reduce_sum(products).div_(n).addr_(mean, mean, alpha=-1), like
