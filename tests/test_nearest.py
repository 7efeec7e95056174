"""The nearest centroid: products are not further off than said, and float64 finds none nearer, on hard points too."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from tensor_watch import MadeTensors
from torch import Tensor
from torch.nn.functional import normalize

from dclib.cluster import nearest as module
from dclib.cluster.kmeans import assign, kmeans
from dclib.cluster.nearest import GROUPS, ROUNDING, Bfloat16Search, PlainSearch, has_bfloat16

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


@pytest.fixture(params=CASES)
def hard(request):
    return CASES[request.param]()


def scores_of(search: Bfloat16Search, points: Tensor) -> tuple[Tensor, Tensor]:
    """Every score as the CPU's products give it (n, k), and the exact one, of the centred points in float64."""
    rounded = (points - search.centre).bfloat16()
    factor = search.factor[:, : len(search.centroids)]
    found = torch.cat([rounded, rounded.new_ones(len(points), 2)], dim=1) @ factor
    centred = (search.centroids - search.centre).double()
    return found.double(), centred.square().sum(dim=1) - 2 * (points - search.centre).double() @ centred.T


def test_no_score_is_further_off_than_said(hard):
    points, centroids = hard
    search = Bfloat16Search(centroids)
    centred = points - search.centre
    lengths, errors = centred.norm(dim=1), (centred - centred.bfloat16()).norm(dim=1)
    uncertainty = search._uncertainty(lengths, errors).double().unsqueeze(1)
    found, exact = scores_of(search, points)
    assert ((found - exact).abs() <= uncertainty + 1.01 * ROUNDING * found.abs()).all()
    # and not much more is said than can be: two lengths' shares of a rounding, twice, and the margins of float32
    most = 5 * ROUNDING * (lengths * search.length) + 1e-3 * (lengths + search.length).square()
    assert (search._uncertainty(lengths, errors) <= most).all()


@pytest.mark.parametrize("rounding", [0, 1.01 * ROUNDING])
def test_the_nearest_is_not_above_what_is_said_and_can_be_as_high(rounding):
    exact = torch.randn(4000, 9, dtype=torch.float64, generator=rng()) + torch.linspace(-3, 3, 4000).unsqueeze(1)
    uncertainty = torch.rand(4000, dtype=torch.float64, generator=rng(1)).unsqueeze(1)
    # a score is off, and then rounded, by as much as it can be, for or against each
    sign = (2 * torch.randint(2, (2, *exact.shape), generator=rng(2)) - 1).double()
    found = exact + sign[0] * uncertainty
    found = found + sign[1] * rounding * found.abs()
    highest = module.highest_of_a_nearest(found.amin(dim=1), uncertainty.squeeze(1), rounding)
    of_nearest = found.gather(1, exact.argmin(dim=1, keepdim=True)).squeeze(1)
    slack = highest - of_nearest
    assert float(slack.min()) > -0.01 * rounding  # rounding of a rounded score is taken for rounding of the score
    # two equal ones, one off in each direction, leave none
    equal = torch.tensor([-3.0, -0.1, 0.0, 0.1, 3.0], dtype=torch.float64)
    low, high = equal - 0.2, equal + 0.2
    low, high = low - rounding * low.abs(), high + rounding * high.abs()
    said = module.highest_of_a_nearest(low, torch.full((5,), 0.2, dtype=torch.float64), rounding)
    assert (said >= high - 1e-12).all()
    torch.testing.assert_close(said, high, rtol=3 * rounding**2 + 1e-12, atol=3 * rounding**2 + 1e-12)


def test_float64_finds_none_nearer(hard):
    points, centroids = hard
    nearest, squared = Bfloat16Search(centroids)(points)
    exact = exact_distances(points, centroids)
    found = exact.gather(1, nearest.unsqueeze(1)).squeeze(1)
    # float32: a few of d + 2 roundings of the squares that are added up, as the products of the plain path have
    sizes = exact_distances(points, centroids.median(dim=0, keepdim=True).values).squeeze(1)
    torch.testing.assert_close(squared.double(), found, rtol=1e-5, atol=0)
    assert (found <= exact.amin(dim=1) + 1e-6 * sizes.clamp(min=exact.amin(dim=1))).all()


def test_differs_from_the_plain_path_only_in_ties(hard):
    points, centroids = hard
    (fast, _), (plain, _) = Bfloat16Search(centroids)(points), assign(points, centroids)
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
    plain, improve = module.PlainSearch.__call__, module.improve
    monkeypatch.setattr(
        module.PlainSearch, "__call__", lambda self, points: (again.append(len(points)), plain(self, points))[1]
    )
    monkeypatch.setattr(module, "improve", lambda *given: (compared.append(len(given[-1])), improve(*given))[1])
    points = groups(4000, 128)
    centroids = points[:200].clone()
    for _ in range(3):
        nearest, _ = Bfloat16Search(centroids)(points)
        # 200 centroids in 12 groups: some are about as near as the nearest, and few points have more than 6 of them
        assert 0 < compared.pop() < 5 * len(points)
        assert sum(again) < len(points) / 4
        assert int((nearest != assign(points, centroids)[0]).sum()) == 0
        again.clear()
        centroids = torch.stack([points[nearest == c].mean(dim=0) for c in range(200)])


@pytest.mark.parametrize("search", [PlainSearch, Bfloat16Search])
@pytest.mark.parametrize("copies", [5, 100])
def test_ties_go_to_the_lower_number(search, copies):
    centroids = groups(3, 8).repeat(copies, 1)
    nearest, _ = search(centroids)(groups(100, 8))
    assert set(nearest.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("k", [256, 257, 300, 1000])
def test_the_minimum_by_groups_is_the_minimum(k):
    # small integers, so that every row has ties and every sum is exact
    points = torch.randint(-2, 3, (200, 6), generator=rng()).float()
    centroids = torch.randint(-2, 3, (k, 6), generator=rng(1)).float()
    search = PlainSearch(centroids)
    assert search.by_groups
    exact = torch.cdist(points.double(), centroids.double()).square().round()
    assert torch.equal(search(points)[0], exact.argmin(dim=1))
    assert torch.equal(search(points)[1], exact.amin(dim=1).float())


def test_the_lowest_and_the_lowest_others_of_each_group():
    scores = torch.randn(300, 7 * GROUPS, generator=rng())
    lowest, columns, others = module.lowest_and_others(scores.clone())
    assert torch.equal(columns, scores.argmin(dim=1))
    assert torch.equal(lowest, scores.amin(dim=1))
    without = scores.scatter(1, columns.unsqueeze(1), torch.inf)
    expected = [without[:, group::GROUPS].amin(dim=1) for group in range(GROUPS)]
    assert torch.equal(others, torch.stack(expected, dim=1))


def pairs(row: Tensor, column: Tensor) -> set[tuple[int, int]]:
    return set(zip(row.tolist(), column.tolist(), strict=True))


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_the_columns_that_are_not_above_a_limit(most):
    scores = torch.randn(200, 4 * GROUPS, generator=rng())
    scores[7] = torch.nan
    highest = scores.amin(dim=1) + torch.rand(200, generator=rng(1)) - 0.1
    highest[9] = torch.nan  # nothing is known
    lowest, columns, others = module.lowest_and_others(scores.clone())
    row, column, many = module.possible_columns(scores, others, highest, most)
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


@pytest.mark.parametrize("search", [PlainSearch, Bfloat16Search])
@pytest.mark.parametrize("scores", [1, 100, 5000])
def test_blocks_change_nothing(search, scores, monkeypatch):
    points = groups(150, 20)
    whole = search(points[:40])(points)
    monkeypatch.setattr(module, "CPU_SCORES", scores)
    nearest, squared = search(points[:40])(points)
    assert torch.equal(nearest, whole[0])
    torch.testing.assert_close(squared, whole[1], rtol=1e-5, atol=1e-6)  # products of other shapes, of unit vectors


def test_points_near_many_centroids_are_told_in_every_block(monkeypatch):
    monkeypatch.setattr(module, "CPU_SCORES", 40 * 20)
    # the last points have 40 centroids about them, at distances that bfloat16 cannot tell and float32 can
    middle = 3 * groups(1, 20, seed=5)
    points = torch.cat([groups(150, 20), near(middle, 20, 1e-3)])
    centroids = torch.cat([groups(150, 20)[:40], near(middle, 40, 0.01)])
    nearest, squared = Bfloat16Search(centroids)(points)
    exact = exact_distances(points, centroids)
    assert torch.equal(nearest, exact.argmin(dim=1))
    torch.testing.assert_close(squared.double(), exact.amin(dim=1), rtol=1e-5, atol=0)  # sums of 20 in float32


def test_gives_up_where_nothing_can_be_told():
    points, centroids = CASES["centroids as close as float32 can tell"]()
    search = Bfloat16Search(centroids)
    search(points)
    assert search.gave_up


def test_points_whose_squares_overflow_get_an_answer():
    points = torch.full((10, 4), 1e30)
    nearest, squared = Bfloat16Search(torch.randn(30, 4, generator=rng()))(points)
    assert (nearest < 30).all()
    assert torch.isinf(squared).all()


@pytest.mark.parametrize("search", [PlainSearch, Bfloat16Search])
def test_a_pass_holds_a_block_whatever_n_and_k(search, monkeypatch):
    monkeypatch.setattr(module, "CPU_SCORES", 4000)
    points = groups(2000, 10)
    ready = search(points[:300])
    with MadeTensors() as watch:
        ready(points)
    # n by k is 600,000; points whose call is close are gathered, n by d
    assert watch.largest() <= (20_000 if search is Bfloat16Search else 4000 + 20 * 13)


def test_no_points_find_nothing():
    nearest, squared = Bfloat16Search(groups(3, 4))(torch.zeros(0, 4))
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
    nearest, squared = Bfloat16Search(points[:600])(points)
    exact = exact_distances(points, points[:600])
    found = exact.gather(1, nearest.unsqueeze(1)).squeeze(1)
    assert (found <= exact.amin(dim=1) + 1e-6).all()
    torch.testing.assert_close(squared.double(), found, rtol=0, atol=1e-5)
