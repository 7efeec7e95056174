"""The same work by 1, 2, 4 and 8 processes; run as a script, it leaves what each found for the tests to compare.

Processes are forked from one that has imported everything, which takes a second for fifteen of them; they meet as
torchrun's do, by environment variables.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import sklearn.metrics  # noqa: F401  loaded when first needed: here, it is there for every process
import torch
from tiny_images import TINY_MODEL, Interruption, decoded_pixels, interrupt_at, method_config, silent, write_pictures
from torch import Tensor

from dclib.cluster.kmeans import kmeans
from dclib.cluster.pseudo_labels import cluster_features
from dclib.cluster.stored_rows import StoredRows
from dclib.cluster.whitening import fit_pca_whitening
from dclib.config import ClusterConfig, MethodConfig, TrainConfig
from dclib.data.layouts import open_images
from dclib.data.samplers import EpochPlan, plan_epoch
from dclib.distributed import process_group, rank, world_size
from dclib.models.batch_norm import BatchNorm2d
from dclib.models.heads import Heads, joint_loss
from dclib.models.vgg import Trunk
from dclib.train import pretrain as loop
from dclib.train.forming import read_together
from dclib.train.placement import Placement
from dclib.train.state import State
from dclib.train.tasks.classes import Classes

PROCESSES = (1, 2, 4, 8)
PLACEMENTS = ("replicated", "sharded")
FROM_THE_START = (2, 4)  # processes that take a whole run, besides one alone; eight take part in the relay
IN_PARTS = {"replicated": [2], "sharded": [2, 4]}  # processes that take batches in parts, besides one alone
N, D, K = 400, 6, 12
LEVELS = ClusterConfig(n_super=3, n_sub=5, pca_dim=5, n_iter=5, backend="torch")


def make_points() -> Tensor:
    """Unit vectors in loose groups, with some copies of one and a few far away: clusters run empty on the way."""
    rng = torch.Generator().manual_seed(0)
    middles = torch.randn(5, D, generator=rng, dtype=torch.float64)
    points = middles[torch.arange(N) % 5] + 0.4 * torch.randn(N, D, generator=rng, dtype=torch.float64)
    points[40:60] = points[0]
    return points / points.norm(dim=1, keepdim=True)


def initial_centroids() -> Tensor:
    """Some where points are, three where none is."""
    far = torch.eye(3, D, dtype=torch.float64) * 50
    return torch.cat([make_points()[: K - 3], far])


SHARES = {  # rows of each process: very different ones, one of eight has none
    1: (400,),
    2: (37, 363),
    4: (1, 250, 9, 140),
    8: (0, 1, 3, 10, 30, 1, 100, 255),
}


def own_rows() -> slice:
    shares = SHARES[world_size()]
    return slice(sum(shares[: rank()]), sum(shares[: rank() + 1]))


def whitening(folder: Path) -> dict[str, object]:
    fitted = fit_pca_whitening(make_points()[own_rows()], 4)
    return {"mean": fitted.mean, "projection": fitted.projection, "explained": fitted.explained}


def clusters(folder: Path) -> dict[str, object]:
    """From given centroids, of which some are empty, and from drawn ones."""
    points = make_points()[own_rows()]
    found: dict[str, object] = {}
    for name, options in {"given": {"initial": initial_centroids()}, "drawn": {}}.items():
        draws = torch.Generator().manual_seed(5)
        result = kmeans(points, K, generator=draws, n_iter=6, backend="torch", **options)
        found |= {f"{name}/{key}": getattr(result, key) for key in ("centroids", "assignments", "counts", "n_splits")}
        found[f"{name}/history"] = torch.tensor(result.history, dtype=torch.float64)
    return found


def two_levels(folder: Path) -> dict[str, object]:
    features = StoredRows.at(folder / "features", 3000, D, "float32")
    rng = torch.Generator().manual_seed(1)
    matrix = torch.randn(3000, D, generator=rng) + 3 * torch.randn(7, D, generator=rng)[torch.arange(3000) % 7]
    for file in range(features.n_files):  # all write the same
        rows = features.file_rows(file)
        features.write(file, matrix[rows.start : rows.stop])
    clustering = cluster_features(features, LEVELS, torch.Generator().manual_seed(2), work=folder / "points")
    labels = clustering.labels
    return {"super_cluster": labels.super_cluster, "sub_class": labels.sub_class, "inertia": clustering.inertia}


def batch_norm(folder: Path) -> dict[str, object]:
    rng = torch.Generator().manual_seed(3)
    x = 5 + torch.randn(24, 3, 4, 4, generator=rng, dtype=torch.float64)
    weights = torch.randn(24, 3, 4, 4, generator=rng, dtype=torch.float64)
    stops = [24 * (i + 1) ** 2 // world_size() ** 2 for i in range(world_size())]  # unequal shares, none empty
    stops = [max(stop, i + 1) for i, stop in enumerate(stops)]
    mine = slice(stops[rank() - 1] if rank() else 0, stops[rank()])
    layer = BatchNorm2d(3).double()
    torch.nn.init.uniform_(layer.weight, 0.5, 2.0, generator=rng)
    x = x[mine].clone().requires_grad_()
    y = layer(x)
    (y * weights[mine]).square().sum().backward()
    return {
        "rows": torch.arange(24)[mine],
        "y": y.detach(),
        "dx": x.grad,
        "weight_gradient": layer.weight.grad,
        "bias_gradient": layer.bias.grad,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
        "batches": layer.num_batches_tracked,
    }


def make_plan() -> EpochPlan:
    rng = torch.Generator().manual_seed(4)
    super_cluster, sub_class = (torch.randint(k, (90,), generator=rng) for k in (2, 3))
    return plan_epoch(super_cluster, sub_class, n_super=2, n_turns=4, epoch_images=90, batch_size=20, seed=0, epoch=0)


def gradients(folder: Path, placement: str) -> dict[str, object]:
    """Of a linear trunk and the heads, for the first batch of an epoch."""
    rng, plan = torch.Generator().manual_seed(6), make_plan()
    images = torch.randn(90, 7, generator=rng, dtype=torch.float64)
    trunk = torch.randn(7, 5, generator=rng, dtype=torch.float64).requires_grad_()
    placed = Placement.of(TrainConfig(batch_size=20, head_placement=placement), 8)
    heads = Heads(5, 8, 3, rng, placed.held).double()
    rows = placed.places(plan.super_class[plan.batch(0)])
    result = joint_loss(
        heads, images[plan.index[rows]] @ trunk, plan.super_class[rows], plan.sub_class[rows], batch_size=20
    )
    (result.loss * world_size()).backward()
    Classes.average_gradients(SimpleNamespace(head=heads, placement=placed))  # type: ignore[arg-type]
    return {
        "rows": rows,
        "held": list(placed.held),
        "loss": result.loss.detach(),
        "trunk": trunk.grad / world_size(),  # what is averaged over processes, by their sum
        "super": heads.super_weight.grad,
        "sub": heads.sub_weight.grad,
        "weights": heads.sub_weight.detach(),
    }


def pretraining_config(placement: str, **train: object) -> MethodConfig:
    return method_config(
        "deepercluster",
        model=TINY_MODEL,
        cluster={"n_super": 2, "backend": "torch"},
        train={"head_placement": placement, "epochs": 2, "lr": 0.02, **train},
    )


class DoubleTrunk(Trunk):
    """In float32 one of a million activations is within rounding of zero, and the ReLU's gradient then jumps."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.double())


def double_heads(*arguments: object) -> Heads:
    return Heads(*arguments).double()


def train(folder: Path, placement: str, save_every: float = 60.0, **settings: object) -> State:
    """A run in float64; ``save_every``: seconds between checkpoints inside an epoch."""
    pixels = decoded_pixels(open_images(next(p for p in folder.parents if (p / "pictures").is_dir()) / "pictures"))
    with (
        mock.patch("dclib.train.state.Trunk", DoubleTrunk),
        mock.patch("dclib.train.tasks.classes.Heads", double_heads),
    ):
        config = pretraining_config(placement, **settings)
        return loop.pretrain(pixels, config, folder=folder, save_every=save_every, report=silent)


def pretraining(folder: Path, placement: str) -> dict[str, object]:
    if world_size() not in (1, *FROM_THE_START):
        return {}
    ended = ending(train(run := folder / f"run-{placement}", placement))
    kept = [torch.from_numpy(read_together(path)[0].clusters) for path in sorted((run / "clusterings").iterdir())]
    return {**ended, "kept": kept}


def parts(folder: Path, placement: str) -> dict[str, object]:
    """A batch of 32 in two parts, where each process has some of either."""
    if world_size() not in (1, *IN_PARTS[placement]):
        return {}
    settings = {"batch_size": 32, "epoch_images": 64, "accumulate": 2}
    return ending(train(folder / f"parts-{placement}", placement, **settings))


def ending(state: State) -> dict[str, object]:
    return {
        "losses": [row["loss"] for row in state.history if "loss" in row],
        "inertia": [row["inertia"] for row in state.history if "inertia" in row],
        "labels": state.task.labels.clusters,
        "trunk": dict(state.trunk.state_dict()),
        "rows": int(sum(p.numel() for p in state.task.head.sub_parameters())),
    }


RELAY = {1: 2, 2: 2, 4: 1, 8: 9}  # of six steps, those that so many processes take before they stop


def relay(folder: Path, placement: str) -> dict[str, object]:
    """Go on with the run where fewer processes have left it; the last ones end it."""
    steps = interrupt_at(RELAY[world_size()], loop.train_step)
    with mock.patch.object(loop, "AGREE_EVERY", 1), mock.patch.object(loop, "train_step", steps):
        try:
            return ending(train(folder.parent / f"relay-{placement}", placement, 0.0))
        except Interruption:
            return {}


Tasks = dict[str, Callable[[Path], dict[str, object]]]
TASKS: Tasks = {
    "whitening": whitening,
    "clusters": clusters,
    "two_levels": two_levels,
    "batch_norm": batch_norm,
    **{f"gradients {p}": lambda folder, p=p: gradients(folder, p) for p in PLACEMENTS},
    **{f"pretraining {p}": lambda folder, p=p: pretraining(folder, p) for p in PLACEMENTS},
    **{f"parts {p}": lambda folder, p=p: parts(folder, p) for p in PLACEMENTS},
    **{f"relay {p}": lambda folder, p=p: relay(folder, p) for p in PLACEMENTS},
}


def work(number: int, processes: int, port: int, folder: Path, tasks: Tasks) -> None:
    """One process."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(number)}
    os.environ |= {**address, "LOCAL_RANK": str(number), "WORLD_SIZE": str(processes)}
    torch.set_num_threads(1)
    own = folder / str(processes)
    with process_group():
        for name, task in tasks.items():
            torch.save(task(own), own / f"{name}-{number}.pt")


def start(processes: int, folder: Path, tasks: Tasks) -> None:
    """Fork and wait; SystemExit if one of them failed."""
    (folder / str(processes)).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            try:
                work(number, processes, port, folder, tasks)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        sys.exit(f"a process of {processes} failed")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    write_pictures(place / "pictures", 64)
    for count in PROCESSES:
        start(count, place, TASKS)
