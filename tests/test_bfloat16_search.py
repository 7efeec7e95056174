"""Nearest centroids through bfloat16: bounds hold, and float64 finds no nearer centroid, on easy and hard points."""

from collections.abc import Callable

import pytest
import torch
from tensor_watch import MadeTensors
from torch import Tensor
from torch.nn.functional import normalize

from dclib.cluster import bfloat16_search as module
from dclib.cluster.bfloat16_search import ROUNDING, Bfloat16Search, is_supported
from dclib.cluster.kmeans import assign, kmeans

needs_bfloat16 = pytest.mark.skipif(not is_supported(torch.device("cpu")), reason="the CPU has no bfloat16 products")


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


def test_no_distance_is_below_its_bound(hard):
    points, centroids = hard
    search = Bfloat16Search(centroids)
    bounds = (module.left_factor(points - search.centre) @ search.factors[0]).double()
    exact = exact_distances(points, centroids)
    assert (bounds * (1 - ROUNDING) <= exact).all()  # for bounds that are above zero
    # and none is far below: 4 lengths' shares of a rounding, both ways, and the margins of float32
    sizes = exact_distances(points, search.centre.unsqueeze(0)) + exact_distances(centroids, search.centre[None]).T
    assert (bounds >= exact - 6 * ROUNDING * sizes).all()


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


def test_ordinary_points_differ_nowhere_and_few_centroids_are_measured(monkeypatch):
    measured = []
    measure = module.Nearest.measure
    monkeypatch.setattr(
        module.Nearest,
        "measure",
        lambda self, rows, numbers: (measured.append(len(rows)), measure(self, rows, numbers)),
    )
    points = groups(4000, 128)
    centroids = points[:200].clone()
    for _ in range(3):
        nearest, _ = Bfloat16Search(centroids)(points)
        assert int((nearest != assign(points, centroids)[0]).sum()) == 0
        centroids = torch.stack([points[nearest == c].mean(dim=0) for c in range(200)])
    assert sum(measured) < 3 * 2 * len(points)  # on average less than two of 200


def test_ties_go_to_the_lower_number(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)
    centroids = groups(3, 8).repeat(5, 1)
    nearest, _ = Bfloat16Search(centroids)(groups(100, 8))
    assert set(nearest.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("elements", [1, 100, 5000])
def test_blocks_and_chunks_change_nothing(chunk, elements, monkeypatch):
    points = groups(150, 20)
    whole = Bfloat16Search(points[:40])(points)
    monkeypatch.setattr(module, "CHUNK", chunk)
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", elements)
    nearest, squared = Bfloat16Search(points[:40])(points)
    assert torch.equal(nearest, whole[0])
    torch.testing.assert_close(squared, whole[1], rtol=1e-6, atol=0)  # sums of 20 squares, if added in another order


@pytest.mark.parametrize("most", [0, 1, 2])
def test_float32_takes_over_where_bounds_are_too_close(most, monkeypatch):
    monkeypatch.setattr(module, "MOST_MEASURED", most)
    points, centroids = CASES["no groups"]()
    search = Bfloat16Search(centroids)
    nearest, _ = search(points)
    assert search.gave_up == (most == 0)
    assert torch.equal(nearest, assign(points, centroids)[0])


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


def test_a_pass_holds_a_block_whatever_n_and_k(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 20)
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 1000)
    points = groups(1000, 10)
    search = Bfloat16Search(points[:100])
    with MadeTensors() as watch:
        search(points)
    assert watch.largest() <= 1000  # n by k is 100,000


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
