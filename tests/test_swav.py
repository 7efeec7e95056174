"""SwAV: assignments by optimal transport, prototypes, the queue, and the swapped prediction."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import task_checks
import torch
import torch.nn.functional as F
from task_checks import made_pixels, stripes
from tiny_images import (
    CLASSES,
    TINY_MODEL,
    decoded_pixels,
    method_config,
    picture_tensor,
    silent,
    streamed_pixels,
    write_pictures,
)
from torch import Tensor

from dclib.config import MethodConfig
from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.methods.swav import SwavSettings
from dclib.train.pretrain import pretrain
from dclib.train.tasks import swav
from dclib.train.tasks.swav import Swav, sinkhorn

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = SwavSettings(hidden=32, dim=16, prototypes=12, large_area=0.5, freeze=0.0)
QUEUED = replace(SMALL, queue=40, queue_from=0.3, freeze=0.4)
CPU = torch.device("cpu")
N = 48


def small_config(task: SwavSettings = SMALL, side: int = 32, **train: object) -> MethodConfig:
    model = replace(TINY_MODEL, image_size=side)
    config = method_config("swav", model=model, train={"epoch_images": 96, "lr": 0.02, **train})
    return replace(config, task=task)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return made_pixels(picture_tensor([CLASSES[i % 4] for i in range(N)]), None, 32)


@pytest.fixture(scope="module")
def large() -> Pixels:
    """The same at 72 pixels, for crops of 64 and 32."""
    pictures = picture_tensor([CLASSES[i % 4] for i in range(N)]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return made_pixels(pictures, None, 64)


# --- what every method has to do


def test_killed_run_ends_with_the_same_bits(pixels: Pixels, tmp_path: Path) -> None:
    """While prototypes wait and the queue fills."""
    task_checks.check_killed_is_left_alone(small_config(QUEUED), pixels, tmp_path)


def test_two_processes_are_one(pixels: Pixels, tmp_path: Path) -> None:
    task_checks.check_processes(small_config(QUEUED), pixels, tmp_path)


def test_streamed_pictures_are_learned_from(tmp_path: Path) -> None:
    images = open_images(write_pictures(tmp_path / "pictures", 24))
    task_checks.check_streamed(small_config(), decoded_pixels(images), streamed_pixels(images), tmp_path)


def test_is_learned_on_easy_pictures(tmp_path: Path) -> None:
    """Stripes in four directions."""
    angles = np.broadcast_to((math.pi * (np.arange(N) % 4) / 4)[:, None, None], (N, 36, 36))
    pictures = stripes(angles, np.random.default_rng(0).uniform(0, 6.28, (N, 1, 1)))
    config = small_config(replace(SMALL, prototypes=4), epochs=6, epoch_images=768, lr=0.05)
    task_checks.check_learns(config, made_pixels(pictures, None, 32), tmp_path, least=45)


def test_crops_of_other_images_teach_nothing(pixels: Pixels, tmp_path: Path) -> None:
    task_checks.check_mixed_views_teach_nothing(small_config(epochs=2, epoch_images=960), pixels, tmp_path)


def test_bad_settings_are_refused() -> None:
    bad = [
        ({"crops": 1}, "crops >= 2"),
        ({"prototypes": 1}, "prototypes >= 2"),
        ({"iterations": 0}, "iterations >= 1"),
        ({"epsilon": 0.0}, "epsilon > 0"),
        ({"queue": -1}, "queue >= 0"),
        ({"freeze": 1.5}, r"queue_from and freeze in \[0, 1\]"),
        ({"small_area": 0.3}, "small_area <= large_area"),
    ]
    task_checks.check_refused("swav", bad)


@pytest.mark.parametrize("mixed", [False, True])
def test_outline_counts_what_a_step_does(mixed: bool, pixels: Pixels, large: Pixels, tmp_path: Path) -> None:
    several = replace(SMALL, small_crops=3, small_side=32, small_area=0.1, large_area=0.3)
    config = small_config(several, 64) if mixed else small_config()
    assert config.passes == (2 + 3 / 4 if mixed else 2)
    task_checks.check_counts(config, large if mixed else pixels, tmp_path)


# --- assignments


def scores(b: int = 10, k: int = 4) -> Tensor:
    """Of unit vectors, (b, k) float64."""
    rng = torch.Generator().manual_seed(0)
    draw = (F.normalize(torch.randn(n, 6, generator=rng, dtype=torch.float64), dim=1) for n in (b, k))
    return next(draw) @ next(draw).T


def plain_sinkhorn(matrix: Tensor, epsilon: float, iterations: int) -> list[list[float]]:
    """Columns, then rows, number by number."""
    rows = [[math.exp(value / epsilon) for value in row] for row in matrix.tolist()]
    for _ in range(iterations):
        for column in range(len(rows[0])):
            total = sum(row[column] for row in rows)
            for row in rows:
                row[column] /= total * len(row)
        rows = [[value / sum(row) for value in row] for row in rows]
    return rows


@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_is_the_plain_loop(iterations: int) -> None:
    expected = torch.tensor(plain_sinkhorn(scores(), 0.05, iterations), dtype=torch.float64)
    assert (sinkhorn(scores(), 0.05, iterations) - expected).abs().max() < 1e-12  # float64 products near 1


def test_many_iterations_take_all_prototypes_equally() -> None:
    shares = sinkhorn(scores(), 0.05, 2000)
    assert (shares.sum(dim=1) - 1).abs().max() < 1e-6
    assert (shares.sum(dim=0) - 10 / 4).abs().max() < 1e-6


def test_a_sharp_assignment_of_many_prototypes_stays_finite() -> None:
    """Prototypes that nothing is near: exponents reach -2,000."""
    shares = sinkhorn(scores(6, 50).float(), 1e-3, 3)
    assert torch.isfinite(shares).all()
    assert torch.allclose(shares.sum(dim=1), torch.ones(6), atol=1e-5)


ONE = """
import sys, torch
from functools import partial
from pathlib import Path
from many_processes import start
from dclib.distributed import rank, shard
from dclib.train.tasks.swav import sinkhorn
folder, matrix = Path(sys.argv[1]), torch.load(Path(sys.argv[1]) / "scores.pt")
def share(_):
    rows = range(0, 3) if rank() == 0 else range(3, len(matrix))
    return {"shares": sinkhorn(matrix[rows.start : rows.stop], 0.05, 3)}
start(2, folder, {"shares": share})
"""


def test_shares_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    """Of rows that are dealt out unequally."""
    torch.save(scores(), tmp_path / "scores.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ONE, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    both = [torch.load(tmp_path / "2" / f"shares-{n}.pt")["shares"] for n in range(2)]
    assert torch.allclose(torch.cat(both), sinkhorn(scores(), 0.05, 3), rtol=0, atol=1e-14)


# --- a step


def made_task(pixels: Pixels, task: SwavSettings, **train: object) -> tuple[Swav, EpochPlan]:
    made = Swav(small_config(task, **train), pixels, 0, CPU)
    return made, made.plan_epoch(0)


def feed(task: Swav, plan: EpochPlan, step: int, seed: int) -> list[Tensor]:
    """One step on vectors drawn at random, (b, dim) for each crop."""
    rng, b, s = torch.Generator().manual_seed(seed), plan.batch_size, task.settings
    count = s.crops + s.small_crops
    vectors = [F.normalize(torch.randn(b, s.dim, generator=rng), dim=1).requires_grad_() for _ in range(count)]
    task.vectors = lambda trunk, views: vectors  # type: ignore[method-assign]
    task.add_gradients(torch.nn.Identity(), [torch.zeros(0)] * count, plan, torch.arange(step * b, (step + 1) * b))
    return [vector.detach() for vector in vectors]


def test_loss_and_hits_by_hand(pixels: Pixels) -> None:
    """Two large crops, which are assigned, and a small one, which is only predicted from."""
    settings = replace(SMALL, small_crops=1, small_side=32, prototypes=5, dim=3, temperature=0.2)
    task, plan = made_task(pixels, settings, batch_size=4)
    task.prototypes.weight.data *= 3  # brought to unit length in the step
    rng = torch.Generator().manual_seed(7)
    vectors = [F.normalize(torch.randn(4, 3, generator=rng), dim=1).requires_grad_() for _ in range(3)]
    task.vectors = lambda trunk, views: vectors  # type: ignore[method-assign]
    loss, right = task.add_gradients(torch.nn.Identity(), [torch.zeros(0)] * 3, plan, torch.arange(4)).tolist()
    weight = task.prototypes.weight.detach().double()
    assert torch.allclose(weight.norm(dim=1), torch.ones(5, dtype=torch.float64), atol=1e-6)
    found = [vector.detach().double() @ weight.T for vector in vectors]
    total, hits = 0.0, 0
    for view in (0, 1):
        code = plain_sinkhorn(found[view], settings.epsilon, settings.iterations)
        for other in {0, 1, 2} - {view}:
            for row, share in zip(found[other].tolist(), code, strict=True):
                top = [value / 0.2 for value in row]
                norm = math.log(sum(map(math.exp, top)))
                total -= sum(q * (value - norm) for q, value in zip(share, top, strict=True))
                hits += row.index(max(row)) == share.index(max(share))
    assert loss == pytest.approx(total / (4 * 4), rel=1e-5)  # four pairs of crops of four images, in float32
    assert right == pytest.approx(hits / 4, rel=1e-6)
    assert all(vector.grad is not None for vector in vectors)


def test_assignments_are_no_way_for_gradients(pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    kept = swav.sinkhorn
    monkeypatch.setattr(swav, "sinkhorn", lambda *a: (given.append(kept(*a)), given[-1])[1])
    task, plan = made_task(pixels, SMALL)
    feed(task, plan, 0, 0)
    assert len(given) == 2
    assert not any(code.requires_grad for code in given)


def test_prototypes_stay_as_drawn_and_then_learn(pixels: Pixels, tmp_path: Path) -> None:
    """For 0.4 of eight steps: four, of which two are the first epoch's. Momentum has nothing from before."""
    drawn = made_task(pixels, replace(SMALL, freeze=0.4))[0].prototypes.weight.detach()
    weights = []
    for epochs, freeze in ((1, 1.0), (2, 1.0), (2, 0.4)):
        config = small_config(replace(SMALL, freeze=freeze), epochs=epochs, epoch_images=128)
        state = pretrain(pixels, config, folder=tmp_path / f"{epochs}-{freeze}", report=silent)
        weights.append(F.normalize(state.task.prototypes.weight.detach(), dim=1))
    assert torch.allclose(weights[0], drawn, atol=1e-6)  # up to length, which decay changes
    assert torch.allclose(weights[1], drawn, atol=1e-6)
    assert (weights[2] - drawn).abs().max() > 1e-3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_of_prototypes_begin_at_their_step(accumulate: int, pixels: Pixels) -> None:
    task, plan = made_task(pixels, replace(SMALL, freeze=0.5), epochs=1, accumulate=accumulate)
    parts = len(plan) * accumulate
    first = []
    for step in range(parts):
        task.prototypes.weight.grad = None
        feed(task, plan, step % len(plan), step)
        first.append(bool(task.prototypes.weight.grad.abs().sum() > 0))
    assert first == [step >= 0.5 * parts for step in range(parts)]


def test_queue_keeps_the_newest_first_and_is_used_once_it_is_full(pixels: Pixels, monkeypatch) -> None:
    """Six steps of 16 in the run; from the third on they are kept, and 40 are there after the fifth."""
    task, plan = made_task(pixels, replace(SMALL, queue=40, queue_from=0.3), epoch_images=96, epochs=2)
    assert task.length(plan) == 6
    rows = []
    monkeypatch.setattr(swav, "sinkhorn", lambda s, *a: (rows.append(len(s)), sinkhorn(s, *a))[1])
    shown = [feed(task, plan, step % 3, step) for step in range(6)]
    assert rows == [16] * 10 + [16 + 40] * 2  # both crops of each step
    for crop in range(2):
        newest = torch.cat([shown[step][crop] for step in (5, 4, 3)])[:40]
        assert torch.equal(task.queues[crop], newest)
    assert task.queued == 40


def test_what_was_queued_counts_in_the_assignment(pixels: Pixels) -> None:
    """Those of the batch are the first rows of what is assigned together."""
    task, _ = made_task(pixels, replace(SMALL, queue=8, dim=6))
    rng = torch.Generator().manual_seed(1)
    task.queues, task.queued = F.normalize(torch.randn(2, 8, 6, generator=rng), dim=2), 8
    vectors = F.normalize(torch.randn(4, 6, generator=rng), dim=1)
    weight = task.prototypes.weight.detach()
    for view in range(2):
        together = torch.cat([vectors, task.queues[view]]) @ weight.T
        expected = torch.tensor(plain_sinkhorn(together.double(), 0.05, 3))[:4]
        found = task.assign(view, vectors @ weight.T, vectors)
        assert torch.allclose(found, expected.float(), atol=1e-4)  # exponents of float32 scores times 20
