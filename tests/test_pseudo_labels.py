"""Two levels of clustering: the same steps by hand, clipping to small data, and the messages."""

import pytest
import torch

from dclib.cluster.counts import check_cluster_counts
from dclib.cluster.kmeans import kmeans
from dclib.cluster.pseudo_labels import PseudoLabels, cluster_features
from dclib.config import ClusterConfig


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_features(n: int = 240, d: int = 10) -> torch.Tensor:
    draws = rng(3)
    centres = 3 * torch.randn(8, d, generator=draws)
    return centres[torch.arange(n) % 8] + torch.randn(n, d, generator=draws)


def config(**changes) -> ClusterConfig:
    return ClusterConfig(**{"n_super": 3, "n_sub": 5, "pca_dim": 6, "n_iter": 4, "backend": "torch", **changes})


def whiten_by_hand(features: torch.Tensor, dim: int) -> torch.Tensor:
    """Whitened unit vectors through a singular value decomposition instead of a covariance."""
    centred = features.double() - features.double().mean(dim=0)
    left, _, _ = torch.linalg.svd(centred, full_matrices=False)
    return torch.nn.functional.normalize(left[:, :dim], dim=1)


def test_two_levels_equal_k_means_called_by_hand():
    features = make_features()
    clustering = cluster_features(features, config(), rng(1))
    points = whiten_by_hand(features, 6).float()
    draws = rng(1)
    top = kmeans(points, 3, generator=draws, n_iter=4, backend="torch")
    sub_class = torch.full((240,), -1)
    squared = 0.0
    for c in range(3):
        members = top.assignments == c
        sub = kmeans(points[members], 5, generator=draws, n_iter=4, backend="torch")
        sub_class[members] = sub.assignments
        squared += float((points[members] - sub.centroids[sub.assignments]).square().sum())
    assert torch.equal(clustering.labels.super_cluster, top.assignments)
    assert torch.equal(clustering.labels.sub_class, sub_class)
    assert clustering.inertia == pytest.approx(squared / 240, rel=1e-4)  # float32 distances of another whitening
    assert clustering.notices == ()
    assert (clustering.pca_dim, clustering.backend) == (6, "torch")
    assert 0 < clustering.explained_variance < 1


def test_one_super_cluster_is_plain_k_means():
    features = make_features()
    labels = cluster_features(features, config(n_super=1, n_sub=7), rng(1)).labels
    assert labels.super_cluster.unique().tolist() == [0]
    assert labels.clusters.unique().tolist() == list(range(7))


def test_scale_and_shift_of_the_features_do_not_matter():
    features = make_features().double()
    a, b = (cluster_features(f, config(), rng(1)).labels for f in (features, 50 * features - 7))
    assert torch.equal(a.clusters, b.clusters)


def test_the_generator_decides():
    features = make_features()
    first, again, other = (cluster_features(features, config(), rng(seed)).labels for seed in (1, 1, 2))
    assert torch.equal(first.clusters, again.clusters)
    assert not torch.equal(first.clusters, other.clusters)


def test_features_are_not_modified():
    features = make_features()
    before = features.clone()
    cluster_features(features, config(), rng())
    assert torch.equal(features, before)


def test_cluster_numbers_and_counts_by_hand():
    labels = PseudoLabels(torch.tensor([0, 1, 1, 1]), torch.tensor([2, 0, 2, 2]), n_super=2, n_sub=3)
    assert labels.clusters.tolist() == [2, 3, 5, 5]
    assert labels.counts.tolist() == [0, 0, 1, 1, 0, 2]


def test_every_image_has_a_label_in_range_and_no_cluster_is_empty():
    labels = cluster_features(make_features(), config(), rng(1)).labels
    assert len(labels.counts) == 15
    assert int(labels.counts.sum()) == 240
    assert int(labels.counts.min()) > 0


@pytest.mark.parametrize(("n", "d", "kept"), [(6, 10, 5), (240, 4, 4)])
def test_a_pca_dimension_that_the_data_cannot_support_is_clipped_with_a_notice(n, d, kept):
    clustering = cluster_features(make_features(n, d), config(n_super=1, n_sub=2, pca_dim=6), rng())
    assert clustering.pca_dim == kept
    assert f"PCA keeps {kept} dimensions instead of 6: there are {n} images of {d} features" in clustering.notices


def test_a_super_cluster_with_few_images_gets_fewer_sub_clusters_with_a_notice():
    draws = rng(2)
    features = torch.randn(22, 4, generator=draws)
    clustering = cluster_features(features, config(n_super=2, n_sub=11, pca_dim=2), rng(4))
    sizes = torch.bincount(clustering.labels.super_cluster, minlength=2).tolist()
    few, small = min(sizes), sizes.index(min(sizes))
    assert few < 11  # else the two halves are equal and this seed tests nothing
    assert clustering.notices == (f"super-cluster {small} has {few} images, so {few} sub-clusters instead of 11",)
    of_small = clustering.labels.sub_class[clustering.labels.super_cluster == small]
    assert sorted(of_small.tolist()) == list(range(few))


def test_more_clusters_than_images_are_refused_with_two_better_values():
    check_cluster_counts(100, config(n_super=2, n_sub=50))
    with pytest.raises(ValueError, match=r"2 x 51 = 102 clusters for 100 images") as error:
        check_cluster_counts(100, config(n_super=2, n_sub=51))
    assert "at most 50," in str(error.value)
    with pytest.raises(ValueError, match=r"better 12 \(39 images a cluster\)"):
        check_cluster_counts(1000, config(n_super=2, n_sub=501))  # 1000 / 2 / 39
    with pytest.raises(ValueError, match="for 10 images"):
        cluster_features(make_features(10), config(), rng())


def test_features_that_are_not_finite_are_refused():
    features = make_features()
    features[7, 0] = float("nan")
    with pytest.raises(ValueError, match=r"finite; rows \[7\]"):
        cluster_features(features, config(), rng())
