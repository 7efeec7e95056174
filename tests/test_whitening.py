"""PCA-whitening: unit covariance, scikit-learn, known spectra, blocks, precision and bad input."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tensor_watch import MadeTensors

from dclib.cluster import whitening as module
from dclib.cluster.whitening import fit_pca_whitening, l2_normalise, usable_pca_dim


def correlated(n: int, d: int, *, seed: int = 0, offset: float = 3.0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=draws, dtype=torch.float64)
    return torch.randn(n, d, generator=draws, dtype=torch.float64) @ mixing + offset


def with_variances(variances: list[float], n: int = 64) -> torch.Tensor:
    """Points (n, d) whose covariance (division by n) is exactly the given diagonal, turned at random."""
    draws = torch.Generator().manual_seed(4)
    d = len(variances)
    columns = torch.randn(n, d, generator=draws, dtype=torch.float64)
    orthonormal = torch.linalg.qr(columns - columns.mean(dim=0)).Q  # columns of mean 0 and length 1
    turn = torch.linalg.qr(torch.randn(d, d, generator=draws, dtype=torch.float64)).Q
    return orthonormal * torch.tensor(variances, dtype=torch.float64).mul(n).sqrt() @ turn.T


def covariance(points: torch.Tensor) -> torch.Tensor:
    centred = points - points.mean(dim=0)
    return centred.T @ centred / len(points)


@pytest.mark.parametrize("dim", [1, 4, 9])
def test_whitened_features_have_unit_covariance(dim):
    features = correlated(300, 9)
    whitened = fit_pca_whitening(features, dim).transform(features)
    assert whitened.shape == (300, dim)
    # float64; the smallest of 9 variances is some 1e-4 of the largest and amplifies rounding by as much
    torch.testing.assert_close(covariance(whitened), torch.eye(dim, dtype=torch.float64), rtol=0, atol=1e-9)
    assert whitened.mean(dim=0).abs().max() < 1e-9


def test_agrees_with_scikit_learn_up_to_sign():
    features = correlated(200, 6)
    ours = fit_pca_whitening(features, 4)
    theirs = PCA(4, whiten=True, svd_solver="full").fit(features.numpy())
    n = len(features)
    expected = theirs.transform(features.numpy()) * np.sqrt(n / (n - 1))  # it divides the covariance by n - 1
    actual = ours.transform(features).numpy()
    signs = np.sign((actual * expected).sum(axis=0))
    np.testing.assert_allclose(actual * signs, expected, rtol=0, atol=1e-9)  # float64, values below 5
    assert ours.explained == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-12)
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_ * (n - 1) / n, rtol=1e-9)


def test_eigenvalues_under_the_floor_are_raised_to_it():
    features = with_variances([1.0, 1e-3, 1e-8])
    variances = covariance(fit_pca_whitening(features, 3).transform(features)).diagonal()
    # 1e-8 is divided by 1e-5 of the largest; the eigenvalue itself is good to 1e-16 / 1e-8
    torch.testing.assert_close(variances, torch.tensor([1.0, 1.0, 1e-3], dtype=torch.float64), rtol=1e-6, atol=0)
    unfloored = covariance(fit_pca_whitening(features, 3, floor=1e-12).transform(features)).diagonal()
    torch.testing.assert_close(unfloored, torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=0)


def test_explained_is_the_share_of_the_kept_variances():
    features = with_variances([5.0, 3.0, 1.5, 0.5])
    shares = [fit_pca_whitening(features, dim).explained for dim in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.5, 0.8, 0.95, 1.0], rel=1e-12)
    assert max(shares) <= 1


def test_fewer_images_than_dimensions_stay_finite():
    features = correlated(7, 20)
    whitening = fit_pca_whitening(features, 20)
    whitened = whitening.transform(features)
    assert torch.isfinite(whitened).all()
    # n points span n - 1 axes once their mean is taken off; on the others there is nothing but rounding
    expected = torch.tensor([1.0] * 6 + [0.0] * 14, dtype=torch.float64)
    torch.testing.assert_close(covariance(whitened).diagonal(), expected, rtol=0, atol=1e-6)
    assert whitening.explained == pytest.approx(1.0)


def test_identical_images_are_all_zero_and_finite():
    features = torch.full((5, 3), 0.1)
    whitened = fit_pca_whitening(features, 2).transform(features)
    assert whitened.abs().max() == 0
    assert l2_normalise(whitened).abs().max() == 0


@pytest.mark.parametrize("sizes", [[100], [1, 99], [30, 30, 40], [1] * 100])
def test_blocks_equal_the_whole(sizes):
    features = correlated(100, 5)
    whole = fit_pca_whitening(features, 3)
    blocked = fit_pca_whitening(iter(features.split(sizes)), 3)
    # float64 sums of 100 products below 100 in another order; the projection divides by small variances
    torch.testing.assert_close(blocked.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(blocked.transform(features), whole.transform(features), rtol=0, atol=1e-9)
    assert blocked.explained == pytest.approx(whole.explained, rel=1e-12)


def test_no_float64_copy_of_all_features_is_made():
    features = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    with MadeTensors() as watch:
        fit_pca_whitening(features, 2)
    assert watch.largest(torch.float64) < features.numel()


def test_axes_are_those_of_the_covariance_and_their_largest_entry_is_positive(monkeypatch):
    features = torch.randn(400, 100, generator=torch.Generator().manual_seed(0))
    made: list[torch.Tensor] = []
    axes = module.principal_axes
    monkeypatch.setattr(module, "principal_axes", lambda matrix: (made.append(matrix.clone()), axes(matrix))[1])
    whitening = fit_pca_whitening(features, 100)
    values, vectors = axes(made[0].clone())
    exact = torch.linalg.eigvalsh(made[0])
    torch.testing.assert_close(values, exact, rtol=1e-12, atol=0)  # float64; the smallest is a tenth of the largest
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(100, dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(vectors * values @ vectors.T, made[0], rtol=0, atol=1e-13)
    assert (whitening.projection.abs().amax(dim=0) == whitening.projection.amax(dim=0)).all()


def test_an_axis_with_two_opposite_entries_is_kept():
    features = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [2.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)
    whitened = fit_pca_whitening(features, 1).transform(features)
    expected = features[:, :1] / features[:, 0].square().mean().sqrt()
    torch.testing.assert_close(whitened.abs(), expected.abs(), rtol=1e-12, atol=0)  # float64


def test_order_of_rows_does_not_matter():
    features = correlated(50, 4)
    shuffled = features[torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    a, b = fit_pca_whitening(features, 4), fit_pca_whitening(shuffled, 4)
    torch.testing.assert_close(a.transform(features), b.transform(features), rtol=0, atol=1e-9)  # as for blocks


def test_float32_features_keep_their_type_and_agree_with_float64():
    features = correlated(400, 8, offset=100.0)
    exact = fit_pca_whitening(features, 8).transform(features)
    whitening = fit_pca_whitening(features.float(), 8)
    assert whitening.mean.dtype == whitening.projection.dtype == torch.float32
    # values near 100 are stored to 4e-6 in float32; whitening divides by deviations down to 0.1 or so
    torch.testing.assert_close(whitening.transform(features.float()).double(), exact, rtol=0, atol=2e-3)


def test_inputs_are_not_modified():
    features = correlated(30, 4)
    before = features.clone()
    fit_pca_whitening(features, 2).transform(features)
    l2_normalise(features)
    assert torch.equal(features, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_rows_that_are_not_finite_are_named(bad):
    features = correlated(30, 4)
    features[17, 2] = bad
    features[23, 0] = bad
    with pytest.raises(ValueError, match=r"finite; rows \[17, 23\]"):
        fit_pca_whitening(features, 2)
    with pytest.raises(ValueError, match=r"finite; rows \[17\]"):  # counted over the blocks before it
        fit_pca_whitening(iter(features.split(10)[:2]), 2)


@pytest.mark.parametrize("dim", [0, 5, -1])
def test_a_dimension_outside_the_features_is_refused(dim):
    with pytest.raises(ValueError, match=rf"\[1, 4\].*got {dim}"):
        fit_pca_whitening(correlated(30, 4), dim)


@pytest.mark.parametrize("empty", [torch.zeros(0, 4), iter([]), iter([torch.zeros(0, 4)])])
def test_no_rows_are_refused(empty):
    with pytest.raises(ValueError, match="at least one feature row"):
        fit_pca_whitening(empty, 2)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_features_that_are_no_matrix_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(n, d\)"):
        fit_pca_whitening(torch.zeros(shape), 2)


def test_unit_length_and_the_zero_row():
    points = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]])
    # float32 division: one rounding
    torch.testing.assert_close(l2_normalise(points), torch.tensor([[0.6, 0.8], [0, 0], [1, 0]]), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("wanted", "n", "d", "expected"), [(256, 1000, 4096, 256), (256, 100, 4096, 99), (256, 1000, 64, 64), (8, 1, 4, 1)]
)
def test_usable_dimension_is_clipped_by_images_and_width(wanted, n, d, expected):
    assert usable_pca_dim(wanted, n, d) == expected
