"""The nearest centroid: products are not further off than said, and float64 finds none nearer, on hard points too."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from tensor_watch import MadeTensors
from threadpoolctl import threadpool_info
from torch import Tensor
from torch.nn.functional import normalize

from dclib.cluster import bounded as module
from dclib.cluster import plain as plain_module
from dclib.cluster.bounded import BoundedSearch
from dclib.cluster.kmeans import assign, kmeans
from dclib.cluster.nearest import has_bfloat16
from dclib.cluster.plain import NumpySearch, PlainSearch, by_places, groups_of

needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16(torch.float32, torch.device("cpu")), reason="the CPU has no bfloat16 products"
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def groups(n: int, d: int, *, seed: int = 0) -> Tensor:
    """Unit vectors in loose groups, as the method clusters them."""
    draws = rng(seed)
    middles = torch.randn(12, d, generator=draws)
    return normalize(middles[torch.randint(12, (n,), generator=draws)] + torch.randn(n, d, generator=draws), dim=1)


def sphere(n: int, d: int) -> Tensor:
    return normalize(torch.randn(n, d, generator=rng(1)), dim=1)


def near(centre: Tensor, k: int, reach: float) -> Tensor:
    return centre + reach * torch.randn(k, centre.shape[-1], generator=rng(2))


def case(points: Tensor, centroids: Tensor | int) -> tuple[Tensor, Tensor]:
    return points, points[:centroids].clone() if isinstance(centroids, int) else centroids


CASES: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "groups": lambda: case(groups(500, 64), 50),
    "means": lambda: case(groups(500, 64), torch.stack([part.mean(dim=0) for part in groups(500, 64).split(10)])),
    "no groups": lambda: case(sphere(500, 37), 101),
    "one cluster": lambda: case(groups(60, 16), 1),
    "two clusters": lambda: case(groups(300, 16), 2),
    "a line": lambda: case(torch.linspace(-3, 4, 333).unsqueeze(1), 20),
    "wide": lambda: case(groups(40, 4097), 9),
    "more centroids than points": lambda: case(groups(3, 5), sphere(200, 5)),
    "copies of points": lambda: case(groups(20, 24).repeat(20, 1), 30),
    "copies of centroids": lambda: case(groups(200, 24), groups(6, 24).repeat(3, 1)),
    "all the same": lambda: case(torch.full((50, 8), 0.3), torch.full((20, 8), 0.3)),
    "zeros": lambda: case(torch.zeros(20, 8), torch.zeros(5, 8)),
    "centroids close together": lambda: case(groups(300, 32), near(groups(1, 32), 40, 1e-3)),
    "centroids as close as float32 can tell": lambda: case(groups(300, 32), near(groups(1, 32), 40, 1e-7)),
    "far from zero": lambda: case(groups(300, 32) + 100, 40),
    "far from each other": lambda: case(groups(300, 32), torch.cat([groups(30, 32), torch.full((1, 32), 1e4)])),
    "small": lambda: case(1e-12 * groups(300, 32), 40),
    "large": lambda: case(1e12 * groups(300, 32), 40),
    "of all sizes": lambda: case(groups(300, 32) * torch.logspace(-6, 6, 300).unsqueeze(1), 60),
    "one axis": lambda: case(groups(300, 32) * torch.tensor([1e3] + 31 * [1.0]), 40),
    "halfway between two bfloat16": lambda: case((1 + 2.0**-8) * groups(200, 16).sign(), near(groups(1, 16), 20, 1.0)),
    "rounding in line with centroids": lambda: case(
        (1 + 0.99 * 2.0**-8) * torch.tensor([[1.0], [-1.0]]).expand(2, 16),
        torch.linspace(-2, 2, 41)[:, None].expand(41, 16),
    ),
}


def exact_distances(points: Tensor, centroids: Tensor) -> Tensor:
    return (points.double().unsqueeze(1) - centroids.double()).square().sum(dim=2)


def in_bfloat16(centroids: Tensor) -> BoundedSearch:
    return BoundedSearch(centroids, torch.bfloat16)


SEARCHES = [PlainSearch, NumpySearch, in_bfloat16, partial(BoundedSearch, digits=torch.float32)]


@pytest.fixture(params=CASES)
def hard(request):
    return CASES[request.param]()


def some_axes(d: int, p: int) -> Tensor:
    """Any are right: (d, p) orthonormal."""
    return torch.linalg.qr(torch.randn(d, p, generator=rng(), dtype=torch.float64)).Q.float()


BOUNDED = {
    "bfloat16": (torch.bfloat16, False),
    "fewer axes": (torch.float32, True),
    "fewer axes in bfloat16": (torch.bfloat16, True),
}
Bounded = Callable[[Tensor], BoundedSearch]


@pytest.fixture(params=BOUNDED)
def bounded(request, monkeypatch) -> Bounded:
    """Searches by bounds of one kind, whatever would be the fastest."""
    digits, fewer = BOUNDED[request.param]

    def chosen(points: Tensor, centroids: Tensor, product: float) -> Tensor | None:
        d = centroids.shape[1]
        return some_axes(d, max(1, d // 3)) if fewer else None

    monkeypatch.setattr(module, "fewer_axes", chosen)
    return lambda centroids: BoundedSearch(centroids, digits)


def test_no_bound_is_further_off_than_said(hard, bounded, monkeypatch):
    points, centroids = hard
    monkeypatch.setattr(plain_module, "LEAST_ROWS", len(points))
    search = bounded(centroids)
    search._prepare(points - search.centre)
    found, lengths, uncertainty = search._bounds(points)
    found = by_places(found, found.shape[1] // groups_of(len(centroids)))  # back to the order of centroids
    found, uncertainty = found[:, : len(centroids)].double(), uncertainty.double().unsqueeze(1)
    x, c = (points - search.centre).double(), (centroids - search.centre).double()
    exact = c.square().sum(dim=1) - 2 * x @ c.T
    rounding = 1.01 * module.ROUNDING * found.abs() if search.digits == torch.bfloat16 else 0
    assert (found <= exact + uncertainty + rounding).all()
    # and not much less is said than can be: what axes leave may count for or against
    left = torch.zeros_like(exact)
    if search.axes is not None:
        rest = [y - y @ search.axes.double() @ search.axes.double().T for y in (x, c)]
        left = 4 * rest[0].norm(dim=1).outer(rest[1].norm(dim=1))
    sizes = (lengths.unsqueeze(1) + search.length).square().double()
    # a hundredth is for lengths that must not come out shorter than they are
    assert (found >= exact - uncertainty - rounding - 1.03 * left - 0.011 * sizes).all()
    most = 5 * module.ROUNDING * lengths * search.length + 1e-3 * sizes.squeeze(1)
    assert (uncertainty.squeeze(1) <= most).all()


def test_float64_finds_none_nearer(hard, bounded):
    points, centroids = hard
    nearest, squared = bounded(centroids)(points)
    exact = exact_distances(points, centroids)
    found = exact.gather(1, nearest.unsqueeze(1)).squeeze(1)
    # float32: a few of d + 2 roundings of the squares that are added up, as the products of the plain path have
    sizes = exact_distances(points, centroids.median(dim=0, keepdim=True).values).squeeze(1)
    torch.testing.assert_close(squared.double(), found, rtol=1e-5, atol=0)
    assert (found <= exact.amin(dim=1) + 1e-6 * sizes.clamp(min=exact.amin(dim=1))).all()


def test_differs_from_the_plain_path_only_in_ties(hard, bounded):
    points, centroids = hard
    (fast, _), (plain, _) = bounded(centroids)(points), assign(points, centroids)
    exact = exact_distances(points, centroids)
    differ = (fast != plain).nonzero().squeeze(1)
    gap = exact[differ, plain[differ]] - exact[differ, fast[differ]]
    # what the plain path cannot tell: |x|^2 + |c|^2 - 2 x.c in float32, far from zero many times the distance
    sizes = points.double().square().sum(dim=1)[differ] + centroids.double().square().sum(dim=1)[plain[differ]]
    assert (gap.abs() <= 4e-7 * sizes).all()
    beyond = points.double().square().sum(dim=1)
    tied = (exact - exact.amin(dim=1, keepdim=True) <= 4e-7 * beyond.unsqueeze(1)).sum(dim=1) > 1
    assert len(differ) <= int(tied.sum())


def test_ordinary_points_differ_nowhere_and_few_calls_are_close(monkeypatch):
    compared, again = [], []
    plain, improve = PlainSearch.__call__, module.improve
    monkeypatch.setattr(
        PlainSearch, "__call__", lambda self, points: (again.append(len(points)), plain(self, points))[1]
    )
    monkeypatch.setattr(module, "improve", lambda *given: (compared.append(len(given[-1])), improve(*given))[1])
    points = groups(4000, 128)
    centroids = points[:200].clone()
    for _ in range(3):
        nearest, _ = in_bfloat16(centroids)(points)
        # 200 centroids in 12 groups: some are about as near as the nearest
        assert compared.pop() < len(points)
        assert sum(again) < len(points) / 4
        assert int((nearest != assign(points, centroids)[0]).sum()) == 0
        again.clear()
        centroids = torch.stack([points[nearest == c].mean(dim=0) for c in range(200)])


def in_a_plane(n: int, d: int, p: int) -> Tensor:
    """(n, d), along p of the axes, turned."""
    return torch.randn(n, p, generator=rng(3)) @ some_axes(d, p).T


def test_few_axes_are_taken_where_centroids_lie_along_few():
    centroids = in_a_plane(300, 64, 6)
    axes = module.fewer_axes(centroids[:100] + groups(100, 64), centroids, 1.0)
    assert axes is not None
    assert axes.shape == (64, 8)  # the fewest that are tried
    # eigenvectors in float64, rounded to float32
    torch.testing.assert_close(axes.T @ axes, torch.eye(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(centroids @ axes @ axes.T, centroids, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("centroids", "product"),
    [
        (sphere(300, 64), 1.0),  # along all axes alike
        (in_a_plane(300, 64, 6), 1e-3),  # products cost nothing
        (in_a_plane(10, 64, 6), 1.0),  # few centroids
        (in_a_plane(100, module.WIDEST + 1, 6), 1.0),
    ],
    ids=["all alike", "cheap products", "few", "wide"],
)
def test_all_axes_are_taken_where_fewer_would_not_be_faster(centroids, product):
    points = normalize(torch.randn(100, centroids.shape[1], generator=rng(4)), dim=1)
    assert module.fewer_axes(points, centroids, product) is None


def test_points_that_are_not_like_the_first_get_the_right_answer():
    # axes are chosen by points most of which are centroids, along which the others cannot be told apart
    centroids = in_a_plane(300, 64, 6) + 0.05 * torch.randn(300, 64, generator=rng(6))
    points = torch.cat([centroids[:200], 300 * sphere(500, 64)])
    search = BoundedSearch(centroids, torch.float32)
    nearest, _ = search(points)
    assert search.axes is not None
    assert search.gave_up
    exact = exact_distances(points, centroids)
    assert torch.equal(nearest, exact.argmin(dim=1))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("copies", [5, 100])
def test_ties_go_to_the_lower_number(search, copies):
    # eighths, so that every sum is exact: a product of matrices may add the same numbers in another order at its edges
    centroids, points = groups(3, 8).mul(8).round().div(8).repeat(copies, 1), groups(100, 8).mul(8).round().div(8)
    nearest, _ = search(centroids)(points)
    assert set(nearest.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("search", [PlainSearch, NumpySearch])
@pytest.mark.parametrize("k", [256, 257, 300, 1000])
def test_the_minimum_by_groups_is_the_minimum(k, search):
    # small integers, so that every row has ties and every sum is exact
    points = torch.randint(-2, 3, (200, 6), generator=rng()).float()
    centroids = torch.randint(-2, 3, (k, 6), generator=rng(1)).float()
    search = search(centroids)
    assert search.by_groups
    exact = torch.cdist(points.double(), centroids.double()).square().round()
    assert torch.equal(search(points)[0], exact.argmin(dim=1))
    assert torch.equal(search(points)[1], exact.amin(dim=1).float())


def test_the_lowest_and_the_lowest_others_of_each_group():
    scores = torch.randn(300, 7 * 32, generator=rng())
    columns, others = module.lowest_and_others(by_places(scores, 32), 32)
    assert torch.equal(columns, scores.argmin(dim=1))
    without = scores.scatter(1, columns.unsqueeze(1), torch.inf)
    expected = [part.amin(dim=1) for part in without.split(7, dim=1)]
    assert torch.equal(others, torch.stack(expected, dim=1))


def pairs(row: Tensor, column: Tensor) -> set[tuple[int, int]]:
    return set(zip(row.tolist(), column.tolist(), strict=True))


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_the_columns_that_are_not_above_a_limit(most):
    scores = torch.randn(200, 4 * 32, generator=rng())
    scores[7] = torch.nan
    highest = scores.amin(dim=1) + torch.rand(200, generator=rng(1)) - 0.1
    highest[9] = torch.nan  # nothing is known
    columns, others = module.lowest_and_others(by_places(scores, 32), 32)
    row, column, many = module.possible_columns(by_places(scores, 32), others, highest, most)
    assert len(row) == len(pairs(row, column))
    possible = ~(scores > highest.unsqueeze(1))
    without = possible.clone()
    without[torch.arange(200), columns] = False
    for i in range(200):
        found = set(column[row == i].tolist())
        wanted, at_least = (set(mask[i].nonzero().squeeze(1).tolist()) for mask in (possible, without))
        if i in many.tolist():
            assert found == set()
            assert len(wanted) > most
        else:
            assert at_least <= found <= wanted
            assert len(found) <= most
    assert {7, 9} <= set(many.tolist()) or most == 1000


def test_improved_numbers_are_those_of_the_nearest_compared():
    # small integers: every distance is exact, and many are equal
    points, centroids = (torch.randint(-2, 3, (n, 3), generator=rng(n)).float() for n in (150, 40))
    exact = exact_distances(points, centroids)
    numbers = torch.randint(40, (150,), generator=rng())
    squared = exact[torch.arange(150), numbers].float()
    compared = torch.rand(150, 40, generator=rng(1)) < 0.2
    row, column = compared.nonzero(as_tuple=True)
    compared[torch.arange(150), numbers] = True
    allowed = exact.masked_fill(~compared, torch.inf)
    shuffled = torch.randperm(len(row), generator=rng(2))
    module.improve(numbers, squared, points, centroids, row[shuffled], column[shuffled])
    assert torch.equal(numbers, allowed.argmin(dim=1))  # the first of equal ones
    assert torch.equal(squared, allowed.amin(dim=1).float())


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("scores", [1, 100, 5000])
def test_blocks_change_nothing(search, scores, monkeypatch):
    points = groups(150, 20)
    whole = search(points[:40])(points)
    monkeypatch.setattr(plain_module, "LEAST_ROWS", 1)
    monkeypatch.setattr(plain_module, "CPU_SCORES", scores)
    nearest, squared = search(points[:40])(points)
    assert torch.equal(nearest, whole[0])
    torch.testing.assert_close(squared, whole[1], rtol=1e-5, atol=1e-6)  # products of other shapes, of unit vectors


def test_points_near_many_centroids_are_told_in_every_block(monkeypatch):
    monkeypatch.setattr(plain_module, "LEAST_ROWS", 1)
    monkeypatch.setattr(plain_module, "CPU_SCORES", 40 * 20)
    # the last points have 40 centroids about them, at distances that bfloat16 cannot tell and float32 can
    middle = 3 * groups(1, 20, seed=5)
    points = torch.cat([groups(150, 20), near(middle, 20, 1e-3)])
    centroids = torch.cat([groups(150, 20)[:40], near(middle, 40, 0.01)])
    nearest, squared = in_bfloat16(centroids)(points)
    exact = exact_distances(points, centroids)
    assert torch.equal(nearest, exact.argmin(dim=1))
    torch.testing.assert_close(squared.double(), exact.amin(dim=1), rtol=1e-5, atol=0)  # sums of 20 in float32


def test_numpy_takes_as_many_threads_as_torch(monkeypatch):
    seen, threads = [], torch.get_num_threads()
    product = NumpySearch._scores

    def scores(self, points, room):
        seen.extend(i["num_threads"] for i in threadpool_info() if "numpy" in i["filepath"] and i["user_api"] == "blas")
        return product(self, points, room)

    monkeypatch.setattr(NumpySearch, "_scores", scores)
    for number in (1, 2):
        torch.set_num_threads(number)
        NumpySearch(groups(20, 4))(groups(50, 4))
    torch.set_num_threads(threads)
    if not seen:
        pytest.skip("NumPy has a library whose threads cannot be told")
    assert seen == [1, 2]


def test_gives_up_where_nothing_can_be_told():
    points, centroids = CASES["centroids as close as float32 can tell"]()
    search = in_bfloat16(centroids)
    search(points)
    assert search.gave_up


def test_points_whose_squares_overflow_get_an_answer():
    points = torch.full((10, 4), 1e30)
    nearest, squared = in_bfloat16(torch.randn(30, 4, generator=rng()))(points)
    assert (nearest < 30).all()
    assert torch.isinf(squared).all()


@pytest.mark.parametrize("search", SEARCHES)
def test_a_pass_holds_a_block_whatever_n_and_k(search, monkeypatch):
    monkeypatch.setattr(plain_module, "LEAST_ROWS", 1)
    monkeypatch.setattr(plain_module, "CPU_SCORES", 4000)
    points = groups(2000, 10)
    ready = search(points[:300])
    ready(points[:5])  # what every block needs is made once
    with MadeTensors() as watch:
        ready(points)
    # n by k is 600,000; points whose call is close are gathered, n by d
    assert watch.largest() <= (4000 + 20 * 13 if search in (PlainSearch, NumpySearch) else 20_000)


def test_no_points_find_nothing():
    nearest, squared = in_bfloat16(groups(3, 4))(torch.zeros(0, 4))
    assert (nearest.shape, squared.shape) == ((0,), (0,))


@needs_bfloat16
def test_a_clustering_is_that_of_the_plain_path():
    points = groups(3000, 48)
    initial = points[:60].clone()
    fast, plain = (
        kmeans(points, 60, generator=rng(), initial=initial, n_iter=6, backend=backend)
        for backend in ("torch-bf16", "torch")
    )
    assert (fast.backend, plain.backend) == ("torch-bf16", "torch")
    assert int((fast.assignments != plain.assignments).sum()) == 0  # no two distances here are within 1e-7
    assert torch.equal(fast.centroids, plain.centroids)
    torch.testing.assert_close(torch.tensor(fast.history), torch.tensor(plain.history), rtol=1e-6, atol=0)


@needs_bfloat16
def test_threads_change_nothing():
    points, threads = groups(3000, 48), torch.get_num_threads()
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        found.append(kmeans(points, 60, generator=rng(), n_iter=4, backend="torch-bf16"))
    torch.set_num_threads(threads)
    assert torch.equal(found[0].assignments, found[1].assignments)
    assert torch.equal(found[0].centroids, found[1].centroids)


@needs_bfloat16
def test_needs_float32():
    with pytest.raises(ValueError, match=r"needs float32 points.*got torch.float64 on cpu.*use backend='auto'"):
        kmeans(groups(20, 3).double(), 2, generator=rng(), backend="torch-bf16")


KERNEL = """
import torch
from dclib.cluster.two_lowest import two_lowest
draws = torch.Generator().manual_seed(0)
for n, k, d, dtype in [(300, 200, 70, torch.float32), (5, 1, 3, torch.float32), (130, 129, 64, torch.float16)]:
    points, centroids = (torch.randn(rows, d, generator=draws).to(dtype) for rows in (n, k))
    norms = centroids.float().square().sum(dim=1)
    lowest, numbers, second = two_lowest(points, centroids, norms)
    exact = norms.double() - 2 * points.double() @ centroids.double().T
    ranked = torch.cat([exact, torch.full((n, 1), torch.inf)], dim=1).sort(dim=1)
    assert torch.equal(numbers, ranked.indices[:, 0]), (numbers, ranked.indices[:, 0])
    found = torch.stack([lowest, second], dim=1).double()
    # sums of d products in float32; no two of these scores are as close
    torch.testing.assert_close(found, ranked.values[:, :2], rtol=1e-5, atol=1e-4)
same = torch.ones(3, 4).repeat(300, 1)
assert (two_lowest(same, same, same.square().sum(dim=1))[1] == 0).all()
assert two_lowest(same[:0], same, same.square().sum(dim=1))[0].shape == (0,)
print("equal")
"""


def test_the_kernel_of_gpus_finds_the_two_lowest_in_tritons_interpreter():
    pytest.importorskip("triton")
    ran = subprocess.run(
        [sys.executable, "-c", KERNEL], capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"}
    )
    assert ran.stdout == "equal\n", ran.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_the_cpu_finds():
    points = groups(5000, 130).cuda()
    nearest, squared = in_bfloat16(points[:600])(points)
    exact = exact_distances(points, points[:600])
    found = exact.gather(1, nearest.unsqueeze(1)).squeeze(1)
    assert (found <= exact.amin(dim=1) + 1e-6).all()
    torch.testing.assert_close(squared.double(), found, rtol=0, atol=1e-5)
