"""Context prediction: which of the eight neighbours of a patch the second one is.

Source: Doersch, Gupta and Efros, "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015. What
would give the position away without looking at things is shut out as there: a gap and jitter, so that no line or
texture goes on from one patch into the other; the mean of each patch is taken off, so that a light that falls off
across an image says nothing; with colour, two of three channels are noise, so that the lens's fringes do not; some
patches are seen as through a coarse screen. Image gradients do without colour by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclib.config import MethodConfig
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.distributed import world_size
from dclib.methods.context import POSITIONS, ContextSettings
from dclib.models.device import products_in, send, unrounded
from dclib.models.vgg import initialise
from dclib.randomness import derive_seed, generator
from dclib.train.tasks.task import Task, Views

OFFSETS = torch.tensor([[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]])  # rows and columns
COARSEST = 10  # pixels a side that a coarse screen leaves at least
NOISE = 0.01  # deviation of what stands for a dropped channel, of the kept one's


class Context(Task):
    """A classifier on both patches' features, one trunk for both."""

    settings: ContextSettings

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        super().__init__(config, pixels, seed, device)
        d = config.model.feature_dim
        head = nn.Sequential(nn.Linear(2 * d, d), nn.ReLU(inplace=True), nn.Linear(d, POSITIONS))
        initialise(head, generator(seed, "heads"))
        self.head = head.to(device)

    def plan_epoch(self, epoch: int) -> EpochPlan:
        """Each image with a position, of which a batch has all about equally often."""
        plan = super().plan_epoch(epoch)
        draws = generator(self.seed, "positions", epoch)
        blocks = [torch.randperm(POSITIONS, generator=draws) for _ in range(-(-len(plan.index) // POSITIONS))]
        return replace(plan, sub_class=torch.cat(blocks)[: len(plan.index)])

    def batches(self, plan: EpochPlan, places: Sequence[Tensor], epoch: int, steps: range) -> Iterator[Views]:
        """The middle patch and its neighbour."""
        indices = [plan.index[plan.batch(step)] for step in steps]
        squares = self.pixels.square_batches(indices, places)
        for step, own, whole in zip(steps, places, squares, strict=True):
            position = plan.sub_class[plan.batch(step)]
            draws = generator(derive_seed(self.seed, "patches", epoch, step))
            corners = draw_corners(position, self.settings, draws)  # of the whole batch: one draw gives them all
            changes = draw_changes(len(position), self.settings, draws)
            views = [cut(whole, corner[own], self.settings.patch) for corner in corners]
            yield [self._seen(view, change[own]) for view, change in zip(views, changes, strict=True)]

    def _seen(self, patches: Tensor, changes: Tensor) -> Tensor:
        """Patches as the network sees them; ``changes`` (b, 3) are the screen's side, kept channel and noise's seed."""
        side = self.config.model.image_size
        seen = (
            torch.stack(
                [coarse(patch, int(screen)) for patch, screen in zip(patches.float() / 255, changes[:, 0], strict=True)]
            )
            if len(patches)
            else patches.float()
        )
        if self.config.model.stem != "sobel":
            seen = drop_channels(seen, changes[:, 1], changes[:, 2])
        if seen.shape[-1] != side:
            seen = F.interpolate(seen, size=(side, side), mode="bilinear", antialias=True)
        return take_off_mean(seen)

    def add_gradients(self, trunk: nn.Module, views: Views, plan: EpochPlan, rows: Tensor) -> Tensor:
        target = send(plan.sub_class[rows], self.device)
        with products_in(self.config.train.precision, self.device):
            middle, neighbour = F.relu(self.features(trunk, views)).chunk(2)
            logits = self.head(torch.cat([middle, neighbour], dim=1))
        loss = F.cross_entropy(unrounded(logits), target, reduction="sum") / plan.batch_size
        (loss * world_size()).backward()  # parts of a sum, and gradients are averaged
        return torch.stack([loss.detach(), (logits.argmax(dim=1) == target).sum().float()])

    @property
    def chance_loss(self) -> float:
        return float(torch.tensor(POSITIONS).log())

    def asked(self, hits: Sequence[float]) -> dict[str, tuple[float, float]]:
        return {"position": (hits[0], POSITIONS)}


def draw_corners(position: Tensor, settings: ContextSettings, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Top and left, (b, 2) pixels each, of the middle patch and of the neighbour in ``position`` (b,) in [0, 8).

    The grid lies anywhere in the square, and each patch is moved on its own.
    """
    b, room = len(position), settings.square - settings.span
    grid = torch.randint(room + 1, (b, 2), generator=draws)
    moved = torch.randint(2 * settings.jitter + 1, (2, b, 2), generator=draws)
    step = settings.patch + settings.gap
    return grid + step + moved[0], grid + step + step * OFFSETS[position] + moved[1]


def draw_changes(b: int, settings: ContextSettings, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of each patch, (b, 3) for either view: its screen's side (the patch's own: none), kept channel, noise's seed."""
    patch = settings.patch
    coarse_ = torch.rand(2, b, generator=draws) < settings.pixelate
    screens = torch.randint(min(COARSEST, patch), patch + 1, (2, b), generator=draws)
    kept = torch.randint(3, (2, b), generator=draws)
    seeds = torch.randint(2**31, (2, b), generator=draws)
    both = torch.stack([torch.where(coarse_, screens, patch), kept, seeds], dim=2)
    return both[0], both[1]


def cut(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """(b, 3, side, side) of (b, 3, h, w), pixel for pixel."""
    along = torch.arange(side)
    rows, columns = (corners[:, axis, None] + along for axis in (0, 1))
    number = torch.arange(len(images))[:, None, None]
    return images.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def coarse(patch: Tensor, side: int) -> Tensor:
    """A patch (3, h, h) averaged to ``side`` pixels and enlarged again; as it is where that is h."""
    if side == patch.shape[-1]:
        return patch
    small = F.interpolate(patch[None], size=(side, side), mode="bilinear", antialias=True)
    return F.interpolate(small, size=patch.shape[-2:], mode="bilinear")[0]


def take_off_mean(patches: Tensor) -> Tensor:
    """(b, 3, h, w), each channel around one half: the level of one beside noise would say how light it is."""
    return patches - patches.mean(dim=(2, 3), keepdim=True) + 0.5


def drop_channels(patches: Tensor, kept: Tensor, seeds: Tensor) -> Tensor:
    """(b, 3, h, w) with noise around one half in all channels but the ``kept`` (b,) one; ``seeds`` (b,) are its."""
    dropped = patches.clone()
    for patch, channel, seed in zip(dropped, kept.tolist(), seeds.tolist(), strict=True):
        own = patch[channel].clone()
        noise = torch.randn(patch.shape, generator=generator(seed))
        patch.copy_(0.5 + NOISE * own.std() * noise)
        patch[channel] = own
    return dropped


TASK = Context
