"""One process is the identity; two processes agree with one."""

import os
import subprocess
import sys
from pathlib import Path

import torch

import dclib.distributed
from dclib.cluster.kmeans import kmeans
from dclib.cluster.whitening import fit_pca_whitening
from dclib.distributed import all_reduce_sum, is_distributed

SPLIT = 37  # rows of the first rank, of 100: shards are ragged
K = 5

CHILD = """
import sys
import torch
import torch.distributed as dist
from test_distributed import SPLIT, K, make_points, start_of
from dclib.cluster.kmeans import kmeans
from dclib.cluster.whitening import fit_pca_whitening
from dclib.distributed import all_reduce_sum, is_distributed
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
assert is_distributed()
mine = torch.tensor([1.0, 10.0 ** rank])
total = all_reduce_sum(mine)
points = make_points()
shard = points[:SPLIT] if rank == 0 else points[SPLIT:]
whitening = fit_pca_whitening(shard, 4)
clusters = kmeans(shard, K, generator=torch.Generator(), n_iter=6, backend="torch", initial=start_of(points))
torch.save({
    "mine": mine, "total": total, "mean": whitening.mean, "projection": whitening.projection,
    "explained": whitening.explained, "centroids": clusters.centroids, "assignments": clusters.assignments,
}, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def make_points() -> torch.Tensor:
    """100 unit vectors in five loose groups, so that no cluster runs empty."""
    rng = torch.Generator().manual_seed(0)
    middles = torch.randn(K, 6, generator=rng, dtype=torch.float64)
    points = middles[torch.arange(100) % K] + 0.4 * torch.randn(100, 6, generator=rng, dtype=torch.float64)
    return points / points.norm(dim=1, keepdim=True)


def start_of(points: torch.Tensor) -> torch.Tensor:
    return points[:K]


def test_one_process_sums_to_itself_in_a_new_tensor():
    x = torch.arange(4.0)
    total = all_reduce_sum(x)
    assert not is_distributed()
    assert torch.equal(total, x)
    total += 1
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_only_one_module_knows_of_processes():
    package = Path(dclib.distributed.__file__).parent
    knowing = [p.name for p in package.rglob("*.py") if "torch.distributed" in p.read_text(encoding="utf-8")]
    assert knowing == ["distributed.py"]


def test_two_processes_agree_with_one(tmp_path):
    package_root = Path(dclib.distributed.__file__).resolve().parents[1]
    paths = os.pathsep.join([str(package_root), str(Path(__file__).resolve().parent)])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(rank), str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}
        )
        for rank in (0, 1)
    ]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one["total"].tolist() == two["total"].tolist() == [2.0, 11.0]
    assert one["mine"].tolist() == [1.0, 1.0]  # the summand stays as it was
    for name in ("mean", "projection", "explained", "centroids"):  # to the last bit, or the ranks would drift apart
        assert torch.equal(torch.as_tensor(one[name]), torch.as_tensor(two[name])), name
    points = make_points()
    whitening = fit_pca_whitening(points, 4)
    # float64 sums of 100 numbers in another order; an axis may point either way
    torch.testing.assert_close(one["mean"], whitening.mean, rtol=0, atol=1e-13)
    signs = (one["projection"] * whitening.projection).sum(dim=0).sign()
    torch.testing.assert_close(one["projection"] * signs, whitening.projection, rtol=0, atol=1e-9)
    whole = kmeans(points, K, generator=torch.Generator(), n_iter=6, backend="torch", initial=start_of(points))
    assert whole.n_splits == 0
    torch.testing.assert_close(one["centroids"], whole.centroids, rtol=0, atol=1e-12)
    assert torch.equal(torch.cat([one["assignments"], two["assignments"]]), whole.assignments)
