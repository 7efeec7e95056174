"""k-means: plain loops, scikit-learn, FAISS against torch, empty clusters, invariants and bad input."""

import sys

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from tensor_watch import MadeTensors

from dclib.cluster import fastest, plain
from dclib.cluster import kmeans as module
from dclib.cluster.kmeans import assign, kmeans, update_centroids


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit_points(n: int, d: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Points on the sphere, as the method clusters them, in loose groups."""
    draws = rng(seed)
    centres = torch.randn(12, d, generator=draws, dtype=torch.float64)
    points = centres[torch.randint(12, (n,), generator=draws)] + torch.randn(n, d, generator=draws, dtype=torch.float64)
    return torch.nn.functional.normalize(points, dim=1).to(dtype)


def lloyd_by_loop(points: np.ndarray, centroids: np.ndarray, n_iter: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Plain Lloyd without refills: assignments, centroids, mean squared distance at each pass."""
    history = []
    for iteration in range(n_iter + 1):
        nearest, distances = [], []
        for point in points:
            squared = [float(((point - centroid) ** 2).sum()) for centroid in centroids]
            nearest.append(int(np.argmin(squared)))
            distances.append(min(squared))
        history.append(float(np.mean(distances)))
        if iteration < n_iter:
            members = [[p for p, a in zip(points, nearest, strict=True) if a == c] for c in range(len(centroids))]
            centroids = np.array([np.mean(m, axis=0) if m else c for m, c in zip(members, centroids, strict=True)])
    return np.array(nearest), centroids, history


def inertia_of(points: torch.Tensor, centroids: torch.Tensor, assignments: torch.Tensor) -> float:
    return float((points - centroids[assignments]).square().sum(dim=1).mean())


# --- against other implementations


@pytest.mark.parametrize("n_iter", [1, 4])
def test_matches_a_plain_loop(n_iter):
    points = unit_points(120, 5)
    initial = points[:7].clone()
    result = kmeans(points, 7, generator=rng(), n_iter=n_iter, initial=initial, backend="torch")
    assignments, centroids, history = lloyd_by_loop(points.numpy(), initial.numpy(), n_iter)
    assert result.n_splits == 0  # the loop knows no refills
    assert result.assignments.tolist() == assignments.tolist()
    # float64 means of unit vectors
    np.testing.assert_allclose(result.centroids.numpy(), centroids, rtol=0, atol=1e-13)
    np.testing.assert_allclose(result.history, history, rtol=1e-12)
    assert result.inertia == result.history[-1]
    assert len(result.history) == n_iter + 1


def test_four_points_by_hand():
    points = torch.tensor([[0.0, 0], [0, 2], [10, 0], [10, 4]])
    result = kmeans(points, 2, generator=rng(), initial=torch.tensor([[1.0, 0], [9, 0]]), backend="torch")
    assert result.assignments.tolist() == [0, 0, 1, 1]
    assert result.centroids.tolist() == [[0, 1], [10, 2]]
    assert result.history[0] == pytest.approx((1 + 5 + 1 + 17) / 4, rel=1e-6)  # to the initial centroids, float32
    assert result.inertia == pytest.approx((1 + 1 + 4 + 4) / 4, rel=1e-6)
    assert result.counts.tolist() == [2, 2]


def test_reaches_the_optimum_of_scikit_learn():
    points = unit_points(300, 6)
    initial = points[:9].clone()
    ours = kmeans(points, 9, generator=rng(), n_iter=100, initial=initial, backend="torch")
    theirs = KMeans(9, init=initial.numpy(), n_init=1, max_iter=100, tol=0).fit(points.numpy())
    assert ours.assignments.tolist() == theirs.labels_.tolist()
    assert ours.inertia == pytest.approx(theirs.inertia_ / len(points), rel=1e-10)


def test_update_matches_a_plain_loop():
    points = unit_points(50, 3)
    old = unit_points(4, 3, seed=1)
    labels = torch.randint(3, (50,), generator=rng())  # cluster 3 stays empty
    actual, counts = update_centroids(points, labels, old)
    expected = old.clone()
    for c in range(3):
        members = [p for p, a in zip(points, labels, strict=True) if a == c]
        expected[c] = sum(members) / len(members)
    # float64 sums of about 17 numbers below 1: order of addition moves 1e-16 each
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)
    assert counts.tolist() == [int((labels == c).sum()) for c in range(4)]


def test_means_are_summed_in_float64():
    points = torch.full((100_000, 1), 0.1)
    labels = torch.zeros(100_000, dtype=torch.int64)
    mean, _ = update_centroids(points, labels, torch.zeros(1, 1))
    assert mean.item() == points[0, 0].item()  # a float32 sum of 1e5 tenths is off in the fifth digit


def test_faiss_and_torch_agree():
    points = unit_points(2000, 16, dtype=torch.float32)
    initial = points[:20].clone()
    ours, theirs = (
        kmeans(points, 20, generator=rng(), n_iter=5, initial=initial, backend=backend)
        for backend in ("torch", "faiss")
    )
    assert (ours.backend, theirs.backend) == ("torch", "faiss")
    differ = (ours.assignments != theirs.assignments).nonzero().squeeze(1)
    assert len(differ) <= 2  # points as near to two centroids as float32 can tell
    for i in differ.tolist():
        a, b = (float((points[i] - r.centroids[r.assignments[i]]).norm()) for r in (ours, theirs))
        assert a == pytest.approx(b, abs=1e-4)
    # a point that changes sides moves the means of some 100 unit vectors by 1/100; without one, float32 rounding
    torch.testing.assert_close(theirs.centroids, ours.centroids, rtol=0, atol=2e-2 if len(differ) else 1e-5)
    np.testing.assert_allclose(theirs.history, ours.history, rtol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "torch-axes", "numpy", "faiss"])
def test_float32_agrees_with_float64(backend):
    points = unit_points(500, 8)
    initial = points[:10].clone()
    exact = kmeans(points, 10, generator=rng(), n_iter=3, initial=initial, backend="torch")
    rough = kmeans(points.float(), 10, generator=rng(), n_iter=3, initial=initial.float(), backend=backend)
    assert rough.centroids.dtype == torch.float32
    # squared distances near 1 are known to 1e-7 in float32: no point of this set is that close to a tie
    assert torch.equal(rough.assignments, exact.assignments)
    torch.testing.assert_close(rough.centroids.double(), exact.centroids, rtol=0, atol=1e-6)


# --- what holds whatever the points


def test_the_result_is_consistent():
    points = unit_points(400, 6)
    for backend in ("torch", "faiss"):
        result = kmeans(points, 25, generator=rng(1), backend=backend)
        nearest, squared = assign(points, result.centroids)
        assert torch.equal(result.assignments, nearest)
        assert result.inertia == pytest.approx(float(squared.mean()), rel=1e-9)
        assert result.inertia == pytest.approx(inertia_of(points, result.centroids, result.assignments), rel=1e-9)
        assert result.assignments.dtype == torch.int64


def test_inertia_never_rises_without_a_split():
    points = unit_points(400, 6)
    result = kmeans(points, 10, generator=rng(2), n_iter=15, backend="torch")
    assert result.n_splits == 0
    assert all(after <= before + 1e-15 for before, after in zip(result.history, result.history[1:], strict=False))
    assert result.history[-1] < result.history[0]


def test_restart_at_the_optimum_changes_nothing():
    points = unit_points(300, 5)
    first = kmeans(points, 8, generator=rng(), n_iter=100, backend="torch")
    again = kmeans(points, 8, generator=rng(7), n_iter=3, initial=first.centroids, backend="torch")
    assert torch.equal(again.assignments, first.assignments)
    torch.testing.assert_close(again.centroids, first.centroids, rtol=0, atol=1e-14)  # float64 sums, rerun
    assert again.inertia == pytest.approx(first.inertia, rel=1e-13)


def test_order_of_rows_does_not_matter():
    points = unit_points(200, 5)
    order = torch.randperm(200, generator=rng(3))
    a = kmeans(points, 6, generator=rng(), initial=points[:6], backend="torch")
    b = kmeans(points[order], 6, generator=rng(), initial=points[:6], backend="torch")
    assert torch.equal(a.assignments[order], b.assignments)
    torch.testing.assert_close(a.centroids, b.centroids, rtol=0, atol=1e-14)  # float64 sums in another order


def test_order_of_initial_centroids_only_renumbers_clusters():
    points = unit_points(200, 5)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    a = kmeans(points, 6, generator=rng(), initial=points[:6], backend="torch")
    b = kmeans(points, 6, generator=rng(), initial=points[:6][order], backend="torch")
    assert torch.equal(a.assignments, order[b.assignments])


def test_one_cluster_is_the_mean():
    points = unit_points(50, 3)
    for backend in ("torch", "faiss"):
        result = kmeans(points, 1, generator=rng(), backend=backend)
        assert set(result.assignments.tolist()) == {0}
        # FAISS computes in float32
        torch.testing.assert_close(result.centroids[0], points.mean(dim=0), rtol=0, atol=1e-6)
        assert result.inertia == pytest.approx(
            float((points - points.mean(dim=0)).square().sum(dim=1).mean()), rel=1e-6
        )


def test_as_many_clusters_as_points_puts_each_alone():
    points = unit_points(40, 3)
    for backend in ("torch", "faiss"):
        result = kmeans(points, 40, generator=rng(), backend=backend)
        assert sorted(result.assignments.tolist()) == list(range(40))
        assert result.inertia < 1e-12  # FAISS stores centroids in float32


def test_the_generator_decides_everything():
    points = unit_points(300, 5)
    first, again, other = (kmeans(points, 12, generator=rng(seed), backend="torch") for seed in (1, 1, 2))
    assert torch.equal(first.centroids, again.centroids)
    assert torch.equal(first.assignments, again.assignments)
    assert first.history == again.history
    assert not torch.equal(first.centroids, other.centroids)


def test_faiss_repeats_itself():
    points = unit_points(300, 5, dtype=torch.float32)
    first, again = (kmeans(points, 12, generator=rng(1), backend="faiss") for _ in range(2))
    assert torch.equal(first.centroids, again.centroids)
    assert torch.equal(first.assignments, again.assignments)


def test_the_backend_does_not_change_what_is_drawn_after_it():
    points = unit_points(60, 5)
    draws = {backend: rng(1) for backend in ("torch", "faiss")}
    for backend, generator in draws.items():
        kmeans(points, 4, generator=generator, backend=backend)
    assert torch.equal(draws["torch"].get_state(), draws["faiss"].get_state())


def test_initial_centroids_are_distinct_rows():
    points = torch.arange(30.0, dtype=torch.float64).unsqueeze(1)
    for seed in range(5):
        result = kmeans(points, 30, generator=rng(seed), n_iter=1, backend="torch")
        assert result.n_splits == 0  # a row drawn twice would leave a cluster empty
        assert result.history[0] == 0


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_inputs_are_not_modified(backend):
    points = unit_points(100, 4)
    initial = points[:5].clone()
    before = points.clone(), initial.clone()
    kmeans(points, 5, generator=rng(), initial=initial, backend=backend)
    assert torch.equal(points, before[0])
    assert torch.equal(initial, before[1])


# --- blocks


@pytest.mark.parametrize("block", [1, 7, 64, 999])
def test_blocked_passes_equal_whole_ones(block, monkeypatch):
    points = unit_points(100, 5)
    whole = kmeans(points, 6, generator=rng(), initial=points[:6], backend="torch")
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", block)
    monkeypatch.setattr(module, "SUMMED_ELEMENTS", block // 2)
    monkeypatch.setattr(plain, "CPU_SCORES", block)
    monkeypatch.setattr(plain, "LEAST_ROWS", 1)
    blocked = kmeans(points, 6, generator=rng(), initial=points[:6], backend="torch")
    assert torch.equal(blocked.assignments, whole.assignments)
    torch.testing.assert_close(blocked.centroids, whole.centroids, rtol=0, atol=1e-14)  # matmul of other shapes


@pytest.mark.parametrize(("k", "d"), [(2, 50), (50, 2), (10, 10)])
def test_a_pass_holds_a_block_whatever_k_and_d(k, d, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 1000)
    monkeypatch.setattr(module, "SUMMED_ELEMENTS", 500)
    monkeypatch.setattr(plain, "CPU_SCORES", 1000)
    monkeypatch.setattr(plain, "LEAST_ROWS", 1)
    points = unit_points(2000, d)
    with MadeTensors() as watch:
        nearest, _ = assign(points, points[:k])
        update_centroids(points, nearest, points[:k])
    # k = 4 super-clusters of 4096 dimensions: rows times d is what fills the memory, not rows times k
    assert watch.largest(torch.float64) <= max(2000, 1000 + d)  # or the (n,) distances that are returned


def test_ties_go_to_the_lower_number():
    centroids = torch.tensor([[1.0, 0], [-1, 0], [1, 0]])
    nearest, squared = assign(torch.tensor([[0.0, 0], [1, 0], [0, 1]]), centroids)
    assert nearest.tolist() == [0, 0, 0]
    assert squared.tolist() == [1, 0, 2]


def test_distances_are_never_negative():
    points = unit_points(1000, 64, dtype=torch.float32)
    assert assign(points, points[:500])[1].min() >= 0


# --- empty clusters


def test_far_away_centroids_are_brought_back():
    points = unit_points(200, 4)
    initial = torch.cat([points[:3], torch.full((5, 4), 100.0, dtype=torch.float64)])
    for backend in ("torch", "faiss"):
        result = kmeans(points, 8, generator=rng(), initial=initial, backend=backend)
        assert int(result.counts.min()) > 0
        assert result.n_splits >= 5
        assert inertia_of(points, result.centroids, result.assignments) == pytest.approx(result.inertia, rel=1e-9)


def test_identical_initial_centroids_come_apart():
    points = unit_points(200, 4)
    initial = points[:1].expand(8, 4)
    for backend in ("torch", "faiss"):
        assert int(kmeans(points, 8, generator=rng(), initial=initial, backend=backend).counts.min()) > 0


def test_each_empty_cluster_has_a_donor_of_its_own():
    draws = rng(5)
    blobs = torch.randn(3, 40, 2, generator=draws, dtype=torch.float64) + torch.tensor([[[0.0]], [[100]], [[200]]])
    initial = torch.cat([blobs.mean(dim=1), torch.full((3, 2), 1e4, dtype=torch.float64)])
    result = kmeans(blobs.flatten(0, 1), 6, generator=rng(), n_iter=1, initial=initial, backend="torch")
    assert result.n_splits == 3
    # the released code splits one and the same cluster three times: 4, 1 and 1 clusters
    assert [len(set(blob.tolist())) for blob in result.assignments.view(3, 40)] == [2, 2, 2]


def test_large_clusters_are_split_first():
    draws = rng(6)
    blobs = [offset + torch.randn(n, 2, generator=draws, dtype=torch.float64) for offset, n in ((0, 9), (50, 90))]
    initial = torch.tensor([[0.0, 0], [50, 50], [1e4, 1e4]], dtype=torch.float64)
    result = kmeans(torch.cat(blobs), 3, generator=rng(), n_iter=3, initial=initial, backend="torch")
    assert len(set(result.assignments[:9].tolist())) == 1
    assert len(set(result.assignments[9:].tolist())) == 2
    assert int(result.counts[result.assignments[9:]].min()) > 20  # halves, not a point and the rest


@pytest.mark.parametrize("copies", [4, 100])
def test_copies_of_one_point_do_not_keep_a_cluster_empty(copies):
    """The largest cluster may be one photo many times over: it has no halves, so another one must give."""
    others = torch.tensor([[5.0, 0], [5, 1], [6, 0], [6, 1]])
    points = torch.cat([torch.zeros(copies, 2), others])
    initial = torch.tensor([[0.0, 0], [5.5, 0.5], [100, 100]])
    result = kmeans(points, 3, generator=rng(), initial=initial, backend="torch")
    assert int(result.counts.min()) > 0
    assert len(points.unique(dim=0)) >= 3


def test_no_cluster_is_empty_where_photos_repeat():
    distinct = unit_points(60, 8, dtype=torch.float32)
    points = torch.cat([distinct, distinct[:1].expand(40, 8)])
    for seed in range(10):
        for backend in ("torch", "faiss"):
            assert int(kmeans(points, 32, generator=rng(seed), backend=backend).counts.min()) > 0, (seed, backend)


@pytest.mark.parametrize("direction", [[1.0, 1.0], [1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
def test_a_donor_on_a_line_is_split_whatever_its_direction(direction):
    points = torch.linspace(-1, 1, 20, dtype=torch.float64).unsqueeze(1) * torch.tensor(direction, dtype=torch.float64)
    initial = torch.tensor([[0.0, 0.0], [100.0, -100.0]], dtype=torch.float64)
    assert int(kmeans(points, 2, generator=rng(), initial=initial, backend="torch").counts.min()) >= 5


@pytest.mark.parametrize("backend", ["torch", "torch-axes", "numpy", "faiss"])
def test_fewer_distinct_points_than_clusters_end_without_an_error(backend):
    points = torch.tensor([[1.0, 0], [0, 1], [-1, 0]]).repeat(20, 1)
    result = kmeans(points, 5, generator=rng(), backend=backend)
    assert int((result.counts > 0).sum()) == 3
    assert torch.isfinite(result.centroids).all()
    assert result.inertia < 1e-4  # every distinct point has its centroid, up to a step of a last split
    assert torch.equal(result.assignments, assign(points, result.centroids)[0])
    # float32 distances below 1e-4 of unit vectors are good to 1e-7
    assert result.inertia == pytest.approx(inertia_of(points, result.centroids, result.assignments), abs=1e-6)


def test_zero_points_end_without_an_error():
    result = kmeans(torch.zeros(10, 3), 4, generator=rng(), backend="torch")
    assert torch.isfinite(result.centroids).all()
    assert result.inertia < 1e-4


# --- which back-end runs, and what is refused


@pytest.mark.parametrize("supported", [False, True])
def test_auto_takes_bfloat16_for_many_wide_centroids_in_float32_where_the_machine_has_it(supported, monkeypatch):
    points = unit_points(50, 4)
    capabilities = {"avx512_bf16": supported}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert kmeans(points.float(), 3, generator=rng()).backend == "torch"
    for size in ("BFLOAT16_CLUSTERS", "BFLOAT16_WIDTH"):
        monkeypatch.setattr(fastest, size, 0)
    assert kmeans(points.float(), 3, generator=rng()).backend == ("torch-bf16" if supported else "torch")
    assert kmeans(points, 3, generator=rng()).backend == "torch"  # of float64


@pytest.mark.parametrize("backend", ["torch-axes", "numpy"])
def test_some_ways_need_float32_on_a_cpu(backend):
    with pytest.raises(ValueError, match=r"needs float32 points on a CPU; got torch.float64 on cpu.*backend='auto'"):
        kmeans(unit_points(50, 4), 3, generator=rng(), backend=backend)


def test_asking_for_a_missing_faiss_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="install faiss-cpu or use backend='torch'"):
        kmeans(unit_points(50, 4), 3, generator=rng(), backend="faiss")


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (torch.zeros(5, 2), {"k": 6}, r"k must be in \[1, 5\].*got 6"),
        (torch.zeros(5, 2), {"k": 0}, r"k must be in \[1, 5\].*got 0"),
        (torch.zeros(5), {"k": 1}, r"\(n, d\).*\(5,\)"),
        (torch.tensor([[0.0], [float("nan")], [float("inf")]]), {"k": 2}, r"finite; rows \[1, 2\]"),
        (torch.zeros(5, 2), {"k": 2, "n_iter": 0}, "n_iter must be at least 1; got 0"),
        (
            torch.zeros(5, 2),
            {"k": 2, "backend": "scipy"},
            "'auto', 'torch', 'torch-axes', 'torch-bf16', 'numpy', 'faiss'; got 'scipy'",
        ),
        (torch.zeros(5, 2), {"k": 2, "initial": torch.zeros(3, 2)}, r"initial must be \(2, 2\); got \(3, 2\)"),
    ],
)
def test_bad_input_is_refused(points, options, message):
    with pytest.raises(ValueError, match=message):
        kmeans(points, generator=rng(), **options)
