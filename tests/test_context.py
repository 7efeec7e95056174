"""Context prediction: where patches lie, what is asked, and what must not give the answer away."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import task_checks
import torch
import torch.nn.functional as F
from PIL import Image
from task_checks import first_batch, made_pixels, stripes, task_class
from tiny_images import TINY_MODEL, method_config, write_pictures
from torch import Tensor

from dclib.config import DataConfig, MethodConfig
from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels
from dclib.methods.context import POSITIONS, ContextSettings
from dclib.models.sobel import Stem
from dclib.train.runs import task_pixels
from dclib.train.tasks import context
from dclib.train.tasks.context import coarse, cut, draw_changes, draw_corners, drop_channels

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ContextSettings(square=120, patch=32, gap=8, jitter=2)
CPU = torch.device("cpu")


def small_config(stem: str = "sobel", task: ContextSettings = SMALL, **train: object) -> MethodConfig:
    model = replace(TINY_MODEL, stem=stem)  # type: ignore[arg-type]
    settings = {"epoch_images": 96, **train}  # two passes each
    return replace(method_config("context", model=model, train=settings), task=task)


def cells(n: int, settings: ContextSettings = SMALL) -> Tensor:
    """Pictures whose every place in the grid has stripes of its own direction, with any phase: (n, 3, s, s) uint8."""
    rng, side = np.random.default_rng(0), settings.square
    y, x = np.mgrid[:side, :side]
    cell = 3 * np.minimum(3 * y // side, 2) + np.minimum(3 * x // side, 2)
    return stripes(math.pi * cell / 9, rng.uniform(0, 6.28, (n, 9))[:, cell])


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return made_pixels(cells(48), None, 32)


# --- what every method has to do


def test_killed_run_ends_with_the_same_bits(pixels: Pixels, tmp_path: Path) -> None:
    task_checks.check_killed_is_left_alone(small_config("rgb"), pixels, tmp_path)


@pytest.mark.slow
def test_two_processes_are_one(pixels: Pixels, tmp_path: Path) -> None:
    task_checks.check_processes(small_config("rgb"), pixels, tmp_path)


def test_streamed_pictures_are_learned_from(tmp_path: Path) -> None:
    images, config = open_images(write_pictures(tmp_path / "pictures", 24)), small_config()
    kept, streamed = (
        task_pixels(config, images, DataConfig(resize=36, memory_gb=memory, workers=0)) for memory in (1.0, 0.0)
    )
    batches, places = (
        [torch.arange(20), torch.tensor([3, 1])],
        [torch.tensor([4, 9]), torch.tensor([], dtype=torch.long)],
    )
    for one, other in zip(kept.square_batches(batches, places), streamed.square_batches(batches, places), strict=True):
        assert one.shape[1:] == (3, 120, 120)
        assert torch.equal(one, other)  # squares need no draws: the same bits
    task_checks.check_streamed(config, kept, streamed, tmp_path)


def test_is_learned_on_easy_pictures(pixels: Pixels, tmp_path: Path) -> None:
    config = small_config(epochs=8, epoch_images=384, lr=0.02)
    task_checks.check_learns(config, pixels, tmp_path, least=50)


def test_patches_of_other_images_teach_nothing(pixels: Pixels, tmp_path: Path) -> None:
    config = small_config(epochs=2, epoch_images=640)
    task_checks.check_mixed_views_teach_nothing(config, pixels, tmp_path)


def test_bad_settings_are_refused() -> None:
    bad = [
        ({"patch": 0}, "patch >= 1"),
        ({"pixelate": 1.5}, r"pixelate in \[0, 1\]"),
        ({"gap": 14}, "twice the jitter"),
        ({"gap": 0}, "twice the jitter"),  # with the default jitter patches would lie over each other
        ({"square": 397}, "square >= 398"),
        ({"jitter": -1}, "jitter >= 0"),
    ]
    task_checks.check_refused("context", bad)
    assert ContextSettings(gap=0, jitter=0).span == 3 * 96


@pytest.mark.parametrize("stem", ["sobel", "rgb"])
def test_outline_counts_what_a_step_does(stem: str, pixels: Pixels, tmp_path: Path) -> None:
    task_checks.check_counts(small_config(stem), pixels, tmp_path)


# --- where patches lie


def test_corners_worked_by_hand() -> None:
    """A grid as large as the square: patches of 4 at 0, 6 and 12, with nothing to draw."""
    settings = ContextSettings(square=16, patch=4, gap=2, jitter=0)
    middle, neighbour = draw_corners(torch.arange(8), settings, torch.Generator())
    assert middle.tolist() == [[6, 6]] * 8
    assert neighbour.tolist() == [[0, 0], [0, 6], [0, 12], [6, 0], [6, 12], [12, 0], [12, 6], [12, 12]]


@pytest.mark.parametrize("extreme", ["least", "most"])
def test_corners_of_the_smallest_and_largest_draws_lie_in_the_square(extreme, monkeypatch) -> None:
    settings = ContextSettings(square=30, patch=4, gap=3, jitter=1)  # span 20, room 10

    def drawn(high: int, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.full(size, 0 if extreme == "least" else high - 1)

    monkeypatch.setattr(torch, "randint", drawn)
    middle, neighbour = draw_corners(torch.arange(8), settings, torch.Generator())
    start = 0 if extreme == "least" else 10 + 2  # room, and both jitters
    assert middle.tolist() == [[start + 7, start + 7]] * 8
    expected = [[start + 7 * (row + 1), start + 7 * (column + 1)] for row, column in context.OFFSETS.tolist()]
    assert neighbour.tolist() == expected
    assert min(map(min, expected)) == start
    assert max(map(max, expected)) + 4 == (18 if extreme == "least" else 30)


def test_gaps_keep_their_bounds_and_all_places_occur() -> None:
    settings = ContextSettings(square=30, patch=4, gap=3, jitter=1)
    position = torch.arange(4000) % 8
    middle, neighbour = draw_corners(position, settings, torch.Generator().manual_seed(0))
    offset = context.OFFSETS[position]
    apart = (neighbour - middle) * offset.sign() - 4 * offset.abs()  # free pixels between them, along each axis
    assert set(apart[offset != 0].tolist()) == {1, 2, 3, 4, 5}  # gap - 2 jitter to gap + 2 jitter
    assert set((neighbour - middle)[offset == 0].tolist()) == {-2, -1, 0, 1, 2}
    for corners in (middle, neighbour):
        assert corners.min() >= 0
        assert corners.max() + 4 <= 30
    assert neighbour.min() == 0  # and the whole square is used
    assert neighbour.max() + 4 == 30


def test_patches_are_the_pixels_at_their_corners() -> None:
    images = torch.arange(2 * 3 * 9 * 9).reshape(2, 3, 9, 9) % 251
    patches = cut(images, torch.tensor([[1, 2], [5, 0]]), 4)
    assert torch.equal(patches, torch.stack([images[0, :, 1:5, 2:6], images[1, :, 5:9, 0:4]]))


def test_each_position_is_asked_equally_often_and_is_where_the_patch_is_from(pixels: Pixels) -> None:
    task = task_class("context")(small_config(task=replace(SMALL, pixelate=0.0)), pixels, 0, CPU)
    plan, (middle, neighbour), rows = first_batch(task)
    assert torch.bincount(plan.sub_class[plan.batch(0)], minlength=8).tolist() == [2] * 8
    assert torch.bincount(plan.sub_class, minlength=8).tolist() == [len(plan.index) // 8] * 8
    assert not torch.equal(plan.sub_class, task.plan_epoch(1).sub_class)
    found = [direction_of(patch) for patch in torch.cat([middle, neighbour])]
    cell = [4] * len(rows) + [(0, 1, 2, 3, 5, 6, 7, 8)[p] for p in plan.sub_class[rows].tolist()]
    assert found == cell


def direction_of(patch: Tensor) -> int:
    """The cell whose stripes a patch shows, by its strongest wave."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    grey = patch.mean(dim=0) - patch.mean()
    angles = math.pi * torch.arange(9)[:, None, None] / 9
    phase = (x * angles.cos() + y * angles.sin()) * 0.9
    return int(torch.hypot((grey * phase.cos()).sum(dim=(1, 2)), (grey * phase.sin()).sum(dim=(1, 2))).argmax())


# --- what must not give the answer away: readers that see one thing alone

WIDE = ContextSettings(square=150, patch=32, gap=24, jitter=3)
TOUCHING = replace(WIDE, gap=0, jitter=0)
SHORTEST_GAP = WIDE.gap - 2 * WIDE.jitter
PAIRS = 3000


def slopes(n: int) -> Tensor:
    """Pictures that grow brighter in one direction and have nothing else, (n, 3, s, s) uint8."""
    rng, side = np.random.default_rng(1), WIDE.square
    y, x = (np.mgrid[:side, :side] - side / 2) / side
    angle, steepness = rng.uniform(0, 2 * math.pi, n), rng.uniform(0.3, 0.65, n)
    ramp = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    grey = torch.from_numpy((255 * (0.5 + steepness[:, None, None] * ramp)).round().astype(np.uint8))
    return grey[:, None].expand(n, 3, side, side).contiguous()


def strokes(n: int) -> Tensor:
    """Pictures of upright and level strokes that are shorter than the smallest gap, (n, 3, s, s) uint8."""
    rng, side = np.random.default_rng(2), WIDE.square
    long, wide = SHORTEST_GAP - 1, side + SHORTEST_GAP  # they begin outside too: equally many everywhere
    grey = np.full((n, wide, wide), 110, dtype=np.uint8)
    for picture in grey:
        tops, lefts = rng.integers(0, wide, (2, 300))
        for top, left, bright, upright in zip(
            tops, lefts, rng.integers(0, 256, 300), rng.random(300) < 0.5, strict=True
        ):
            height, width = (long, 2) if upright else (2, long)
            picture[top : top + height, left : left + width] = bright
    grey = np.ascontiguousarray(grey[:, SHORTEST_GAP:, SHORTEST_GAP:])
    return torch.from_numpy(grey)[:, None].expand(n, 3, side, side).contiguous()


def pairs(pictures: Tensor, settings: ContextSettings, stem: str) -> tuple[Tensor, Tensor, Tensor]:
    """What enters the network's first convolution for both patches, (m, c, 32, 32), and their positions."""
    config = small_config(stem, settings, epoch_images=2 * PAIRS, batch_size=200)
    task = task_class("context")(config, made_pixels(pictures, None, 32), 0, CPU)
    plan = task.plan_epoch(0)
    places = [task.places(plan, step) for step in range(len(plan))]
    views = list(task.batches(plan, places, 0, range(len(plan))))
    filtered = Stem(stem, config.model.grid)
    middle, neighbour = (torch.cat([filtered(view[i]) for view in views]) for i in (0, 1))
    return middle, neighbour, plan.sub_class


def brightness(patches: Tensor) -> tuple[Tensor, Tensor]:
    """(m, 1) how bright patches are beside what stands for the other channels, and (m, 2) which way they grow so."""
    patches = (patches - patches.mean(dim=(0, 2, 3), keepdim=True)) / patches.std()  # a stem may have its own colours
    kept = patches.flatten(2).std(dim=2).argmax(dim=1)
    own = patches[torch.arange(len(patches)), kept]
    others = (patches.sum(dim=1) - own).mean(dim=(1, 2)) / max(1, patches.shape[1] - 1)
    along = torch.linspace(-1, 1, own.shape[-1])
    growth = torch.stack([(own * along[:, None]).mean(dim=(1, 2)), (own * along).mean(dim=(1, 2))], dim=1)
    return (own.mean(dim=(1, 2)) - others)[:, None], growth


def light_read(middle: Tensor, neighbour: Tensor) -> Tensor:
    """(m, f) levels of both patches, the slopes, and their products: a step along a slope is their quotient."""
    if middle.shape[1] == 2:  # gradients: the means of both, whose difference must say nothing
        means = torch.cat([middle.mean(dim=(2, 3)), neighbour.mean(dim=(2, 3))], dim=1)
        return torch.cat([means, (means[:, :, None] * means[:, None, :]).flatten(1)], dim=1)
    (level, growth), (other, _) = brightness(middle), brightness(neighbour)
    growth = F.normalize(growth, dim=1)
    return torch.cat([level, other, (other - level) * growth, level * growth, other * growth], dim=1)


def borders_read(middle: Tensor, neighbour: Tensor) -> Tensor:
    """(m, 8) how well what is at the border of one patch goes on at the facing border of the other, by position."""
    scores = []
    if middle.shape[1] == 3:  # one of the channels shows something
        middle, neighbour = (patches.sum(dim=1, keepdim=True) for patches in (middle, neighbour))
    middle, neighbour = (patches - patches.mean(dim=(2, 3), keepdim=True) for patches in (middle, neighbour))
    for row, column in context.OFFSETS.tolist():
        one, other = middle, neighbour
        for axis, way in ((2, row), (3, column)):
            if way:
                near, far = (2, 29) if way < 0 else (29, 2)  # two pixels in: filters look beyond a border
                one, other = one.narrow(axis, near, 1), other.narrow(axis, far, 1)
        scores.append((one * other).mean(dim=(1, 2, 3)))
    return torch.stack(scores, dim=1)


def read(features: Tensor, position: Tensor) -> float:
    """How often a ridge regression, fitted to one half, is right on the other."""
    features = (features - features.mean(dim=0)) / features.std(dim=0).clamp(min=1e-9)
    features = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
    half, asked = len(features) // 2, F.one_hot(position, POSITIONS).double()
    gram = features[:half].T @ features[:half] + 1e-3 * half * torch.eye(features.shape[1], dtype=torch.float64)
    answers = (features[half:] @ torch.linalg.solve(gram, features[:half].T @ asked[:half])).argmax(dim=1)
    return float((answers == position[half:]).double().mean())


CHANCE = 1 / POSITIONS
DEVIATION = math.sqrt(CHANCE * (1 - CHANCE) / (PAIRS / 2))


@pytest.fixture(scope="module")
def made() -> dict[str, Tensor]:
    return {"slopes": slopes(200), "strokes": strokes(200)}


@pytest.mark.parametrize("stem", ["sobel", "rgb"])
@pytest.mark.parametrize(("kind", "reader"), [("slopes", light_read), ("strokes", borders_read)])
def test_light_and_short_strokes_say_nothing(kind, reader, stem, made) -> None:
    middle, neighbour, position = pairs(made[kind], WIDE, stem)
    assert read(reader(middle, neighbour), position) < CHANCE + 3 * DEVIATION


@pytest.mark.parametrize("stem", ["sobel", "rgb"])
def test_strokes_would_tell_where_patches_touch(stem, made) -> None:
    middle, neighbour, position = pairs(made["strokes"], TOUCHING, stem)
    assert read(borders_read(middle, neighbour), position) > 2 * CHANCE


def test_light_would_tell_if_levels_were_left_in(made, monkeypatch) -> None:
    monkeypatch.setattr(context, "take_off_mean", lambda patches: patches)
    middle, neighbour, position = pairs(made["slopes"], WIDE, "rgb")
    assert read(light_read(middle, neighbour), position) > CHANCE + 6 * DEVIATION


@pytest.mark.parametrize("side", [10, 17, 31])
def test_coarse_screen_is_pillows_bilinear_there_and_back(side: int) -> None:
    patch = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    for channel, mine in zip(patch, coarse(patch, side), strict=True):
        small = Image.fromarray(channel.numpy()).resize((side, side), Image.Resampling.BILINEAR)
        expected = np.asarray(small.resize((32, 32), Image.Resampling.BILINEAR))
        assert np.abs(mine.numpy() - expected).max() < 1e-5  # float32 sums of a few numbers below 1
    assert coarse(patch, 32) is patch


def test_a_third_of_patches_is_coarse_and_each_channel_is_kept_equally_often() -> None:
    n, settings = 6000, ContextSettings()
    draws = draw_changes(n, settings, torch.Generator().manual_seed(0))
    both = torch.cat(draws)
    share = (both[:, 0] < settings.patch).double().mean()
    expected = settings.pixelate * 86 / 87  # one of the 87 sides from 10 to 96 is the patch's own
    assert abs(float(share) - expected) < 3 * math.sqrt(expected * (1 - expected) / (2 * n))
    assert set(both[:, 0].tolist()) == set(range(10, 97))
    counts = torch.bincount(both[:, 1], minlength=3)
    assert (counts - 2 * n / 3).abs().max() < 3 * math.sqrt(2 * n * 2 / 9)
    assert (draws[0] == draws[1]).double().mean(dim=0)[1] < 0.4  # either view has draws of its own


def test_two_channels_are_noise_and_gradients_keep_all(pixels: Pixels) -> None:
    patches = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    kept, seeds = torch.tensor([0, 1, 2, 0, 0]), torch.tensor([1, 2, 3, 4, 4])
    dropped = drop_channels(patches, kept, seeds)
    for number, channel in enumerate(kept.tolist()):
        assert torch.equal(dropped[number, channel], patches[number, channel])
        others = dropped[number, [c for c in range(3) if c != channel]]
        assert others.mean() == pytest.approx(0.5, abs=1e-3)
        assert others.std() == pytest.approx(0.01 * float(patches[number, channel].std()), rel=0.05)  # of 8,192
    noise = torch.stack([dropped[0, 1], dropped[0, 2], dropped[3, 1]]).flatten(1)
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.1  # other channels and seeds, other noise; of 4,096
    assert patches.min() >= 0  # the input is as it was
    for stem, same in (("sobel", True), ("rgb", False)):
        _, (middle, _), _ = first_batch(task_class("context")(small_config(stem), pixels, 0, CPU))
        assert torch.allclose(middle[:, 0], middle[:, 1], atol=1e-6) == same  # the pictures are grey
