"""Transitive invariance: pairs, neighbours, negatives and the loss, on tracks made by hand and on drawn clips."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import task_checks
import torch
import torch.nn.functional as F
from task_checks import begun, made_pixels
from tiny_images import CLASSES, TINY_MODEL, method_config, picture_tensor, silent
from torch import Tensor

from dclib.config import MethodConfig
from dclib.data.clips import open_clips
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.data.track_pixels import track_pixels
from dclib.methods import OUTLINES
from dclib.methods.transitive import TransitiveSettings
from dclib.pocket.clip_set import write_clips
from dclib.train.pretrain import pretrain
from dclib.train.tasks.transitive import Transitive, mutual_neighbours, ranking_loss

pytestmark = pytest.mark.usefixtures("one_thread")

T, CLIPS, TRACKS = 4, 12, 2  # frames of a track, clips, tracks of each
SMALL = TransitiveSettings(frames=T, patch=32, side=36, neighbours=3, dim=8, negatives=3)
CPU = torch.device("cpu")


def small_config(task: TransitiveSettings = SMALL, **train: object) -> MethodConfig:
    settings = {"epoch_images": 96, "lr": 0.02, **train}
    return replace(method_config("transitive", model=TINY_MODEL, train=settings), task=task)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """Tracks of one thing each, in a tone of its own; both tracks of a clip are alike."""
    clip = torch.arange(CLIPS * TRACKS) // TRACKS
    kinds = [CLASSES[c % 4] for c in clip.tolist() for _ in range(T)]
    pictures = picture_tensor(kinds).float()
    tone = (clip.repeat_interleave(T) // 4).float()[:, None, None, None]
    return made_pixels((pictures * (0.4 + 0.3 * tone)).to(torch.uint8), clip.repeat_interleave(T), 32)


def made_task(pixels: Pixels, task: TransitiveSettings = SMALL, **train: object) -> Transitive:
    return Transitive(small_config(task, **train), pixels, 0, CPU)


# --- what every method has to do


def test_killed_run_ends_with_the_same_bits(pixels: Pixels, tmp_path: Path) -> None:
    """Hard negatives from the second epoch on: how many steps there were is kept."""
    task_checks.check_killed_is_left_alone(small_config(), pixels, tmp_path)


def test_two_processes_are_one(pixels: Pixels, tmp_path: Path) -> None:
    task_checks.check_processes(small_config(), pixels, tmp_path)


def test_is_learned_on_easy_patches(pixels: Pixels, tmp_path: Path) -> None:
    config = small_config(replace(SMALL, hard_from=1.0), epochs=8, epoch_images=192)
    task_checks.check_learns(config, pixels, tmp_path, least=70)


def test_partners_of_other_patches_teach_nothing(pixels: Pixels, tmp_path: Path) -> None:
    config = small_config(replace(SMALL, hard_from=1.0, across=0.0), epochs=2, epoch_images=960)
    task_checks.check_mixed_views_teach_nothing(config, pixels, tmp_path)


def test_bad_settings_are_refused() -> None:
    bad = [
        ({"frames": 1}, "frames >= 2"),
        ({"negatives": 0}, "negatives >= 1"),
        ({"margin": 0.0}, "margin > 0"),
        ({"across": 1.5}, r"across and hard_from in \[0, 1\]"),
        ({"patch": 8}, "patch >= 16"),
        ({"side": 0}, "side >= 1"),
    ]
    task_checks.check_refused("transitive", bad)


def test_outline_counts_what_a_step_does(pixels: Pixels, tmp_path: Path) -> None:
    task_checks.check_counts(small_config(), pixels, tmp_path)


def test_patches_smaller_than_the_network_sees_are_refused_before_clips_are_looked_at() -> None:
    square = OUTLINES["transitive"].square
    assert square is not None
    assert square(small_config()) == 36
    with pytest.raises(ValueError, match="task.side >= model.image_size = 32, for crops of it to be cut; got 31"):
        square(small_config(replace(SMALL, side=31)))


# --- the loss


def test_ranking_loss_by_hand() -> None:
    near = torch.tensor([0.2, 0.5, 0.9])
    far = torch.tensor([[0.5, 0.9, math.inf], [0.4, 0.1, 2.0], [0.1, 0.2, 0.3]])
    counts = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    # 0.2 - 0.5 + 0.5 = 0.2 and 0; 0.6, 0.9 and 0; nothing counts
    assert float(ranking_loss(near, far, counts, 0.5)) == pytest.approx(0.2 / 2 + 1.5 / 3, rel=1e-6)


def plan_of(index: Tensor) -> EpochPlan:
    zeros = torch.zeros_like(index)
    return EpochPlan(index, zeros, zeros, zeros, len(index))


class Given(torch.nn.Module):
    """In the trunk's place: these features, (v * b, d)."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.values = features

    def forward(self, images: Tensor) -> Tensor:
        return self.values


@pytest.mark.parametrize("hard", [False, True])
def test_a_step_by_hand(hard: bool, pixels: Pixels) -> None:
    """Against loops over patches: any negatives are the next of the batch, hard ones the nearest allowed.

    What is told is of any negatives, what is learned of those in question: its gradients are compared.
    """
    task = made_task(pixels, replace(SMALL, hard_from=0.0 if hard else 1.0))
    task.head = torch.nn.Identity()
    rng, index = (
        torch.Generator().manual_seed(1),
        torch.randperm(len(pixels), generator=torch.Generator().manual_seed(2)),
    )
    index = index[:16]
    task.neighbours[index[0] // T, 0] = index[1] // T  # so that one that comes next is not allowed
    features = torch.rand(32, 6, generator=rng, dtype=torch.float64).requires_grad_()
    patches, partners = F.normalize(features.detach().float(), dim=1).chunk(2)
    views = [torch.zeros(16, 3, 8, 8)] * 2
    loss, right = task.add_gradients(Given(features), views, plan_of(index), torch.arange(16)).tolist()
    expected, expected_right, kinds = 0.0, 0.0, 0
    again = features.detach().clone().requires_grad_()
    first, second = F.normalize(again.float(), dim=1).chunk(2)
    learned = torch.zeros(())
    for i, patch in enumerate(index.tolist()):
        distance = [1 - float(patches[i] @ partners[j]) for j in range(16)]
        allowed = [j for j in range(16) if is_allowed(task, patch, int(index[j]))]
        nexts = [j % 16 for j in range(i + 1, i + 4)]
        some = [j for j in nexts if j in allowed]
        kinds += len(some) < 3
        expected_right += sum(distance[i] < distance[j] for j in some) / max(1, len(some))
        chosen = sorted(allowed, key=lambda j: distance[j])[:3] if hard else some
        expected += sum(max(0.0, distance[i] - distance[j] + 0.5) for j in some) / max(1, len(some))
        own = 1 - first[i] @ second.T
        terms = [torch.clamp(own[i] - own[j] + 0.5, min=0) for j in chosen]
        learned = learned + (torch.stack(terms).mean() if terms else 0.0) / 16
    assert kinds > 0  # some of those that come next were not allowed
    assert loss == pytest.approx(expected / 16, rel=1e-5)  # distances in float32
    assert right == pytest.approx(expected_right, rel=1e-5)
    learned.backward()
    torch.testing.assert_close(features.grad, again.grad, rtol=1e-4, atol=1e-6)  # distances in float32


def is_allowed(task: Transitive, patch: int, other: int) -> bool:
    same_clip = int(task.clip[patch]) == int(task.clip[other])
    return not same_clip and other // T not in task.neighbours[patch // T].tolist()


def test_negatives_are_never_of_the_same_clip_nor_neighbours(pixels: Pixels) -> None:
    task = made_task(pixels)
    task.neighbours[0, 0], task.neighbours[3, 1] = 5, 8
    patches, others = torch.tensor([0, 1, T * 3]), torch.arange(len(pixels))
    apart = task.are_apart(patches, others)
    for row, patch in zip(apart.tolist(), patches.tolist(), strict=True):
        assert row == [is_allowed(task, patch, other) for other in others.tolist()]


def test_neighbours_are_no_negatives_whichever_of_the_two_is_asked(pixels: Pixels, tmp_path: Path) -> None:
    task = begun(small_config(), pixels, tmp_path).task
    assert isinstance(task, Transitive)
    every = torch.arange(len(pixels))
    apart = task.are_apart(every, every)
    assert torch.equal(apart, apart.T)
    assert not apart.diagonal().any()


# --- neighbours


def plain_neighbours(features: Tensor, clip: list[int], most: int) -> list[list[int]]:
    points = F.normalize(features - features.mean(dim=0), dim=1)
    likeness = (points @ points.T).tolist()
    lists = [
        sorted((j for j in range(len(clip)) if clip[j] != clip[i]), key=lambda j, i=i: -likeness[i][j])[:most]
        for i in range(len(clip))
    ]
    mutual = [[j for j in mine if i in lists[j]] for i, mine in enumerate(lists)]
    return [mine + [-1] * (most - len(mine)) for mine in mutual]


@pytest.mark.parametrize(("n", "most"), [(30, 4), (5, 9), (2, 1)])
def test_mutual_neighbours_are_those_of_the_plain_loop(n, most, monkeypatch) -> None:
    monkeypatch.setattr("dclib.train.tasks.transitive.BLOCK", 7)
    features = torch.randn(n, 4, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    clip = torch.arange(n) // 2 if n > 2 else torch.arange(2)
    found = mutual_neighbours(features, clip, most)
    assert found.tolist() == plain_neighbours(features, clip.tolist(), most)


def test_copies_are_neighbours_of_each_other_and_never_of_their_own_clip() -> None:
    """Ties: three copies of one thing in three clips, two of another in one clip, which have nobody."""
    copy, other = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    features = torch.tensor([copy, copy, copy, other, other, [0.0, 0.0, -9.0]])
    found = mutual_neighbours(features, torch.tensor([0, 1, 2, 3, 3, 4]), 2)
    assert [set(row) for row in found[:3].tolist()] == [{1, 2}, {0, 2}, {0, 1}]
    assert 4 not in found[3].tolist()
    assert 3 not in found[4].tolist()


def test_a_set_of_one_clip_has_no_neighbours() -> None:
    assert (mutual_neighbours(torch.randn(5, 3), torch.zeros(5, dtype=torch.int64), 3) == -1).all()


def test_neighbours_are_looked_for_once_by_the_features_of_middle_patches(pixels: Pixels, tmp_path: Path) -> None:
    state = pretrain(pixels, small_config(), folder=tmp_path, report=silent)
    assert state.clusterings == 1
    start = begun(small_config(), pixels, tmp_path)
    trunk = start.trunk.eval()
    with torch.no_grad():
        middles = trunk(pixels.decoded[T // 2 :: T, :, 2:34, 2:34])  # type: ignore[index]
    expected = plain_neighbours(middles.double(), (torch.arange(CLIPS * TRACKS) // TRACKS).tolist(), 3)
    assert state.task.neighbours.tolist() == expected
    assert (state.task.neighbours[:, 0] >= 0).any()


# --- partners


def test_partners_are_another_moment_or_a_neighbour_at_any(pixels: Pixels) -> None:
    task = made_task(pixels, replace(SMALL, across=0.4))
    task.neighbours[0] = torch.tensor([7, 9, -1])
    n = 6000
    index = torch.cat([torch.full((n,), 2), torch.full((n,), 4 * 5 + 1)])  # of track 0, and of 5, which has nobody
    partners = task.partners(index, torch.Generator().manual_seed(0))
    alone = partners[n:]
    assert set(alone.tolist()) == {20, 22, 23}  # the same track, never the same moment
    own = partners[:n][partners[:n] // T == 0]
    assert set(own.tolist()) == {0, 1, 3}
    across = partners[:n][partners[:n] // T != 0]
    assert set(across.tolist()) == {*range(28, 32), *range(36, 40)}  # its neighbours, at any moment
    assert abs(len(across) / n - 0.4) < 3 * math.sqrt(0.4 * 0.6 / n)
    counts = torch.bincount(own, minlength=4)[torch.tensor([0, 1, 3])] / len(own)
    assert (counts - 1 / 3).abs().max() < 3 * math.sqrt(2 / 9 / len(own))


@pytest.mark.parametrize("across", [0.0, 1.0])
def test_only_one_kind_of_pair(across: float, pixels: Pixels) -> None:
    task = made_task(pixels, replace(SMALL, across=across))
    task.neighbours[:] = (torch.arange(CLIPS * TRACKS)[:, None] + torch.tensor([2, 4, 6])) % (CLIPS * TRACKS)
    index = torch.arange(len(pixels))
    for draw in range(20):
        partner = task.partners(index, torch.Generator().manual_seed(draw))
        same = partner // T == index // T
        assert bool(same.all()) if across == 0 else not bool(same.any())
        assert not bool((partner == index).any())


# --- clips


def test_tracks_of_drawn_clips_are_learned_from(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", 0, 0, 6)
    task = TransitiveSettings(frames=4, patch=48, side=40, neighbours=2, dim=8)
    pixels = track_pixels(open_clips(tmp_path / "clips"), None, patch=48, side=40, frames=4, size=32)
    assert len(pixels) % 4 == 0
    state = pretrain(pixels, small_config(task, epochs=1), folder=tmp_path / "run", report=silent)
    assert state.task.n_tracks == len(pixels) // 4
    assert math.isfinite(task_checks.last_row(state)["loss"])
