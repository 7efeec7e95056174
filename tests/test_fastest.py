"""Which back-end is the fastest: long clusterings try them, the quickest is kept, and which it is changes nothing."""

import time
from functools import partial

import pytest
import torch
from torch import Tensor

from dclib.cluster import fastest as module
from dclib.cluster.fastest import backend_seconds, candidates, fastest_backend
from dclib.cluster.kmeans import kmeans
from dclib.cluster.nearest import SEARCHES, has_bfloat16
from dclib.randomness import generator


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch):
    monkeypatch.setattr(module, "kept", {})


def points(n: int = 2000, d: int = 24) -> Tensor:
    draws = generator(0, "points")
    middles = torch.randn(60, d, generator=draws)
    return torch.nn.functional.normalize(
        middles[torch.randint(60, (n,), generator=draws)] + torch.randn(n, d, generator=draws), dim=1
    )


class Slow:
    """Takes a while to make and for each row, and finds nothing."""

    def __init__(self, centroids: Tensor, *, to_make: float, a_row: float) -> None:
        time.sleep(to_make)
        self.a_row = a_row

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        time.sleep(self.a_row * len(rows))
        return torch.zeros(len(rows)), torch.zeros(len(rows))


def test_seconds_are_those_to_make_it_once_and_of_every_row(monkeypatch):
    ways = {"quick rows": partial(Slow, to_make=0.05, a_row=1e-5), "quick start": partial(Slow, to_make=0, a_row=1e-4)}
    monkeypatch.setattr(module, "SEARCHES", ways)
    few, many = (backend_seconds(points(n, 4), points(2, 4), list(ways), 200) for n in (200, 20_000))
    assert min(few, key=few.get) == "quick start"
    assert min(many, key=many.get) == "quick rows"
    # sleeping takes what it is asked for, and now and then some milliseconds more
    for name, expected in {"quick rows": 0.05 + 0.2, "quick start": 2.0}.items():
        assert expected <= many[name] < 1.5 * expected + 0.5


def test_a_long_clustering_tries_once_and_keeps_the_quickest(monkeypatch):
    tried = []

    def seconds(points, centroids, names, rows):
        tried.append(names)
        return {name: i for i, name in enumerate(reversed(names))}

    monkeypatch.setattr(module, "backend_seconds", seconds)
    monkeypatch.setattr(module, "WORTH_TRYING", 10 * 2000 * 50 * 24)
    assert fastest_backend(points(), points(50), passes=9) in ("torch", "torch-bf16")
    assert tried == []
    quickest = candidates(has_bfloat16(torch.float32, torch.device("cpu")))[-1]
    for passes in (10, 11, 100):
        assert fastest_backend(points(), points(50), passes) == quickest
    assert len(tried) == 1
    fastest_backend(points(), points(500), 10)
    assert len(tried) == 2
    assert fastest_backend(points().double(), points(50).double(), 10) == "torch"  # who else knows float64?
    assert len(tried) == 2


def test_what_cannot_run_here_is_no_candidate(monkeypatch):
    assert set(candidates(True)) == set(SEARCHES)
    assert "torch-bf16" not in candidates(False)

    def missing():
        raise ValueError("no FAISS")

    monkeypatch.setattr(module, "import_faiss", missing)
    assert "faiss" not in candidates(True)


@pytest.mark.parametrize("name", SEARCHES)
def test_auto_finds_the_same_clusters_whichever_is_the_fastest(name, monkeypatch):
    if name == "torch-bf16" and not has_bfloat16(torch.float32, torch.device("cpu")):
        pytest.skip("the CPU has no bfloat16 products")
    monkeypatch.setattr(module, "WORTH_TRYING", 0)
    monkeypatch.setattr(module, "backend_seconds", lambda points, centroids, names, rows: {n: n != name for n in names})
    auto, plain = (
        kmeans(points(), 70, generator=generator(0, "centroids"), n_iter=6, backend=backend)
        for backend in ("auto", "torch")
    )
    assert auto.backend == name
    assert torch.equal(auto.assignments, plain.assignments)  # no two distances here are within 1e-7
    assert torch.equal(auto.centroids, plain.centroids)
