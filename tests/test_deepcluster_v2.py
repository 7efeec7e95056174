"""DeepCluster-v2: clusters of directions, what is remembered, centroids as classifiers, crops of two sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import task_checks
import torch
import torch.nn.functional as F
from task_checks import first_batch, made_pixels, stripes, task_class
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

from dclib.cluster.kmeans import draw_rows
from dclib.cluster.spherical import spherical_kmeans
from dclib.config import MethodConfig
from dclib.data import pixels as pixels_module
from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels
from dclib.data.transforms import draw_crops
from dclib.methods.deepcluster_v2 import DeepClusterV2Settings
from dclib.train.pretrain import pretrain
from dclib.train.state import State
from dclib.train.tasks.crops import relight
from dclib.train.tasks.deepcluster_v2 import DeepClusterV2

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = DeepClusterV2Settings(hidden=32, dim=16, partitions=2, large_area=0.5)
CPU = torch.device("cpu")
N = 48


def small_config(task: DeepClusterV2Settings = SMALL, side: int = 32, **train: object) -> MethodConfig:
    model = replace(TINY_MODEL, image_size=side)
    config = method_config("deepcluster_v2", model=model, train={"epoch_images": 96, "lr": 0.02, **train})
    return replace(config, task=task)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return made_pixels(picture_tensor([CLASSES[i % 4] for i in range(N)]), torch.arange(N) % 4, 32)


@pytest.fixture(scope="module")
def large() -> Pixels:
    """The same at 72 pixels, for crops of 64 and 32."""
    pictures = picture_tensor([CLASSES[i % 4] for i in range(N)]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return made_pixels(pictures, torch.arange(N) % 4, 64)


MIXED = replace(SMALL, small_crops=2, small_side=32, small_area=0.1, large_area=0.3)


# --- what every method has to do


def test_killed_run_ends_with_the_same_bits(pixels: Pixels, tmp_path: Path) -> None:
    task_checks.check_killed_is_left_alone(small_config(), pixels, tmp_path)


@pytest.mark.slow
def test_two_processes_are_one(large: Pixels, tmp_path: Path) -> None:
    """With small crops the network is passed twice before its gradients are shared."""
    task_checks.check_processes(small_config(MIXED, 64, epoch_images=80), large, tmp_path)


def test_streamed_pictures_are_learned_from(tmp_path: Path) -> None:
    images = open_images(write_pictures(tmp_path / "pictures", 24))
    task_checks.check_streamed(small_config(), decoded_pixels(images), streamed_pixels(images), tmp_path)


def test_is_learned_on_easy_pictures(tmp_path: Path) -> None:
    """Stripes in four directions, of which a mirrored crop makes two one. The largest cluster has not many more."""
    angles = np.broadcast_to((math.pi * (np.arange(N) % 4) / 4)[:, None, None], (N, 36, 36))
    pictures = stripes(angles, np.random.default_rng(0).uniform(0, 6.28, (N, 1, 1)))
    config = small_config(epochs=6, epoch_images=768)
    config = replace(config, cluster=replace(config.cluster, n_sub=4, reassign_every=2))
    state = task_checks.check_learns(config, made_pixels(pictures, None, 32), tmp_path, least=60)
    assert torch.bincount(state.task.clusters[0]).max() <= 5 / 8 * N


def test_crops_of_other_images_teach_nothing(pixels: Pixels, tmp_path: Path) -> None:
    def largest(state: State) -> float:
        """A network that knows nothing may still name the largest cluster, in each of the clusterings."""
        assert isinstance(state.task, DeepClusterV2)
        shares = [torch.bincount(part).max() / len(part) for part in state.task.clusters]
        return float(torch.stack(shares).mean())

    config = small_config(epochs=3, epoch_images=384)
    task_checks.check_mixed_views_teach_nothing(config, pixels, tmp_path, most=largest)


def test_bad_settings_are_refused() -> None:
    bad = [
        ({"partitions": 0}, "partitions >= 1"),
        ({"crops": 0}, "crops, hidden and dim >= 1"),
        ({"small_area": 0.3}, "small_area <= large_area"),
        ({"small_crops": 1, "small_side": 16}, "small_side >= 32"),
        ({"temperature": 0.0}, "temperature > 0"),
        ({"light": 1.0}, r"light in \[0, 1\)"),
    ]
    task_checks.check_refused("deepcluster_v2", bad)


def test_more_clusters_than_images_are_refused_before_anything_runs(pixels: Pixels, tmp_path: Path) -> None:
    config = small_config()
    config = replace(config, cluster=replace(config.cluster, n_sub=N + 1))
    with pytest.raises(ValueError, match="lower cluster.n_sub"):
        pretrain(pixels, config, folder=tmp_path, report=silent)
    assert list(tmp_path.iterdir()) == []


def test_small_crops_larger_than_the_images_are_refused(large: Pixels, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most data.resize = 72 pixels; got 96"):
        pretrain(large, small_config(replace(MIXED, small_side=96), 64), folder=tmp_path, report=silent)
    assert list(tmp_path.iterdir()) == []  # found before the first clustering


@pytest.mark.parametrize("mixed", [False, True])
def test_outline_counts_what_a_step_does(mixed: bool, pixels: Pixels, large: Pixels, tmp_path: Path) -> None:
    config = small_config(MIXED, 64) if mixed else small_config()
    assert config.passes == (2 + 2 / 4 if mixed else 2)
    task_checks.check_counts(config, large if mixed else pixels, tmp_path, held=lambda task: task.centroids.numel())


# --- k-means of directions


def directions(n: int = 60, d: int = 5) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    middles = torch.randn(6, d, generator=rng, dtype=torch.float64)
    return F.normalize(
        middles[torch.arange(n) % 6] + 0.5 * torch.randn(n, d, generator=rng, dtype=torch.float64), dim=1
    )


def plain_kmeans(points: np.ndarray, start: list[int], n_iter: int) -> tuple[np.ndarray, list[int]]:
    """One point after the other."""
    centroids = [points[i].copy() for i in start]

    def nearest(point: np.ndarray) -> int:
        cosines = [float(point @ centroid) for centroid in centroids]
        return cosines.index(max(cosines))

    for _ in range(n_iter):
        groups: dict[int, list[np.ndarray]] = {}
        for point in points:
            groups.setdefault(nearest(point), []).append(point)
        for number, members in groups.items():
            total = np.sum(members, axis=0)
            centroids[number] = total / math.sqrt(float(total @ total))
    return np.array(centroids), [nearest(point) for point in points]


@pytest.mark.parametrize("n_iter", [0, 1, 7])
def test_spherical_kmeans_is_the_plain_loop(n_iter: int) -> None:
    points = directions()
    start = draw_rows(len(points), 8, torch.Generator().manual_seed(4)).tolist()
    centroids, clusters = spherical_kmeans(points, 8, n_iter, torch.Generator().manual_seed(4))
    expected, expected_clusters = plain_kmeans(points.numpy(), start, n_iter)
    assert clusters.tolist() == expected_clusters
    assert np.abs(centroids.numpy() - expected).max() < 1e-12  # float64 sums of some tens of numbers
    assert torch.allclose(centroids.norm(dim=1), torch.ones(8, dtype=torch.float64), atol=1e-12)


def test_cosines_to_the_own_centroid_never_fall() -> None:
    points, values = directions(), []
    for n_iter in range(8):
        centroids, clusters = spherical_kmeans(points, 8, n_iter, torch.Generator().manual_seed(5))
        values.append(float((points * centroids[clusters]).sum()))
    assert all(later >= earlier - 1e-12 for earlier, later in zip(values, values[1:], strict=False))
    assert values[-1] > values[0]


def test_an_empty_cluster_keeps_its_centroid() -> None:
    """Two of three starts are copies of one point: ties go to the lower number, and the higher has none."""
    points = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64), dim=1)
    centroids, clusters = spherical_kmeans(points, 3, 4, torch.Generator().manual_seed(0))
    start = points[draw_rows(3, 3, torch.Generator().manual_seed(0))]
    assert torch.equal(centroids, start)
    copies = [i for i in range(3) if float(start[i, 0]) == 1]
    assert copies[1] not in clusters.tolist()
    assert torch.bincount(clusters, minlength=3)[copies[0]] == 2


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        spherical_kmeans(directions(2), 3, 1, torch.Generator())


# --- what is remembered


@pytest.mark.parametrize("accumulate", [1, 2])
def test_memory_is_the_last_direction_of_each_image_shown(accumulate, pixels, tmp_path, monkeypatch) -> None:
    """That of the mean of its crops; and of others what it was."""
    shown: dict[int, Tensor] = {}
    whole = DeepClusterV2.vectors

    def vectors(self: DeepClusterV2, trunk: torch.nn.Module, views: Sequence[Tensor]) -> list[Tensor]:
        self.last = whole(self, trunk, views)  # type: ignore[attr-defined]
        return self.last  # type: ignore[attr-defined,no-any-return]

    def add_gradients(self, trunk, views, plan, rows, kept=DeepClusterV2.add_gradients) -> Tensor:
        result = kept(self, trunk, views, plan, rows)
        crops = torch.stack(self.last).detach()
        for place, image in enumerate(plan.index[rows].tolist()):
            mean = crops[:, place].sum(dim=0) / len(crops)
            shown[image] = mean / mean.norm()
        return result

    monkeypatch.setattr(DeepClusterV2, "vectors", vectors)
    monkeypatch.setattr(DeepClusterV2, "add_gradients", add_gradients)
    first = task_checks.begun(small_config(epochs=1, epoch_images=64), pixels, tmp_path).task.memory.clone()
    config = small_config(epochs=1, epoch_images=64, accumulate=accumulate)
    state = pretrain(pixels, config, folder=tmp_path, report=silent)
    assert 16 < len(shown) < N
    for image in range(N):
        torch.testing.assert_close(state.task.memory[image], shown.get(image, first[image]), rtol=1e-5, atol=1e-6)
    assert torch.allclose(state.task.memory.norm(dim=1), torch.ones(N), atol=1e-6)


def test_what_is_clustered_is_what_was_remembered(pixels: Pixels, tmp_path: Path, monkeypatch) -> None:
    """Before the second epoch by the vectors of the first, each clustering from a start of its own."""
    seen = []

    def kmeans(points: Tensor, *arguments: object) -> tuple[Tensor, Tensor]:
        seen.append(points.clone())
        return spherical_kmeans(points, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("dclib.train.tasks.deepcluster_v2.spherical_kmeans", kmeans)
    once = pretrain(pixels, small_config(epochs=1), folder=tmp_path / "1", report=silent)
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])
    twice = pretrain(pixels, small_config(epochs=2, final_lr=1.0), folder=tmp_path / "2", report=silent)
    assert len(seen) == 6
    assert not torch.equal(seen[4], seen[2])
    assert torch.equal(seen[4], once.task.memory)
    assert not torch.equal(twice.task.clusters[0], twice.task.clusters[1])


# --- the loss


def test_loss_and_hits_by_hand(pixels: Pixels, monkeypatch) -> None:
    """Two crops of a batch of four, two clusterings of three centroids in the plane."""
    config = small_config(replace(SMALL, dim=2, temperature=0.5), batch_size=4)
    config = replace(config, cluster=replace(config.cluster, n_sub=3))
    task = DeepClusterV2(config, pixels, 0, CPU)
    plan = task.plan_epoch(0)
    angles = torch.tensor([[0.1, 1.2, 2.2, 3.3], [0.3, 0.9, 2.5, 4.1]], dtype=torch.float64)
    vectors = [torch.stack([row.cos(), row.sin()], dim=1).requires_grad_() for row in angles]
    places = torch.tensor([[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]], dtype=torch.float64)
    task.centroids = torch.stack([places.cos(), places.sin()], dim=2)
    task.clusters[:, plan.index[:4]] = torch.tensor([[0, 0, 1, 2], [0, 2, 1, 1]])
    monkeypatch.setattr(task, "vectors", lambda trunk, views: vectors)
    result = task.add_gradients(torch.nn.Identity(), [], plan, torch.arange(4))
    total, right = 0.0, 0
    for row in angles.tolist():
        for part, targets in enumerate([[0, 0, 1, 2], [0, 2, 1, 1]]):
            for angle, target in zip(row, targets, strict=True):
                scores = [math.cos(angle - place) / 0.5 for place in places[part].tolist()]
                total += math.log(sum(map(math.exp, scores))) - scores[target]
                right += scores.index(max(scores)) == target
    assert float(result[0]) == pytest.approx(total / 16, rel=1e-12)
    assert float(result[1]) == pytest.approx(right / 4, rel=1e-6)  # of four images, in the mean; counted in float32
    assert 0 < right < 16


# --- crops of two sizes


def test_shares_that_crops_show_are_in_range(large: Pixels, monkeypatch) -> None:
    """Large crops from large_area up, small ones from small_area to large_area; each view has draws of its own."""
    drawn = []
    monkeypatch.setattr(
        pixels_module, "draw_crops", lambda *arguments: (drawn.append(draw_crops(*arguments)), drawn[-1])[1]
    )
    config = small_config(MIXED, 64, epoch_images=120, batch_size=48)
    _, views, _ = first_batch(task_class("deepcluster_v2")(config, large, 0, CPU))
    assert [tuple(view.shape) for view in views] == [(48, 3, 64, 64)] * 2 + [(48, 3, 32, 32)] * 2
    for crops, (least, most) in zip(drawn, [(0.3, 1.0)] * 2 + [(0.1, 0.3)] * 2, strict=True):
        share = crops.height * crops.width / 72**2
        rounding = 1.5 / 72  # sides are whole pixels: half a pixel on either
        assert share.min() > least - rounding
        assert share.max() < most + rounding
        assert share.max() - share.min() > 0.7 * (most - least)
    assert not torch.equal(drawn[0].top, drawn[1].top)
    assert not torch.equal(drawn[2].top, drawn[3].top)


def test_light_by_hand() -> None:
    image = torch.tensor([0.2, 0.6]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    relit = relight(image, torch.tensor([[1.2, 0.5]]))  # mean 0.4: 0.48 -+ 0.1
    assert relit[0, 0, 0].tolist() == pytest.approx([0.38, 0.58], abs=1e-6)
    assert torch.equal(relight((image * 255).round().to(torch.uint8), torch.ones(1, 2)), (image * 255).round() / 255)
    assert relight(image, torch.tensor([[3.0, 1.0]])).max() == 1
