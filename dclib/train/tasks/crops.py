"""What the methods that compare several crops of an image share: the crops, and the unit vector that each becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclib.config import MethodConfig
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.data.transforms import Area
from dclib.methods.crops import CropSettings
from dclib.models.batch_norm import BatchNorm2d
from dclib.models.device import products_in, unrounded
from dclib.models.vgg import initialise
from dclib.randomness import derive_seed, generator
from dclib.train.tasks.task import Task, Views


class Projection(nn.Module):
    """The trunk's features (b, d) to unit vectors (b, dim): two layers, with batch normalisation between them."""

    def __init__(self, feature_dim: int, settings: CropSettings, draws: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Linear(feature_dim, settings.hidden)
        self.norm = BatchNorm2d(settings.hidden)
        self.second = nn.Linear(settings.hidden, settings.dim)
        initialise(self, draws)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.norm(self.first(F.relu(features))[:, :, None, None])
        return F.normalize(unrounded(self.second(F.relu(hidden.flatten(1)))), dim=1)


class Crops(Task):
    """Several crops of each image, as unit vectors; those of one size go through the network together."""

    settings: CropSettings

    def __init__(self, config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> None:
        super().__init__(config, pixels, seed, device)
        self.projection = Projection(config.model.feature_dim, self.settings, generator(seed, "heads")).to(device)

    def crop_area(self, view: int) -> Area:
        """Large crops from ``large_area`` up, small ones below it."""
        s = self.settings
        return s.large_area if view < s.crops else (s.small_area, s.large_area)

    def batches(self, plan: EpochPlan, places: Sequence[Tensor], epoch: int, steps: range) -> Iterator[Views]:
        """The crops, each in a light of its own."""
        for step, own, views in zip(steps, places, super().batches(plan, places, epoch, steps), strict=True):
            draws = generator(derive_seed(self.seed, "light", epoch, step))
            factors = 1 + self.settings.light * (2 * torch.rand(len(views), plan.batch_size, 2, generator=draws) - 1)
            yield [relight(view, factors[number, own]) for number, view in enumerate(views)]

    def vectors(self, trunk: nn.Module, views: Views) -> list[Tensor]:
        """A unit vector (b, dim) float32 for each view of these rows."""
        found: list[Tensor] = []
        with products_in(self.config.train.precision, self.device):
            for _, same in groupby(views, key=lambda view: view.shape[-1]):
                of_one_size = list(same)
                found += self.projection(self.features(trunk, of_one_size)).chunk(len(of_one_size))
        return found


def relight(images: Tensor, factors: Tensor) -> Tensor:
    """(b, 3, h, w) uint8 or in [0, 1], with brightness and contrast multiplied by ``factors`` (b, 2), in [0, 1]."""
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    bright, contrast = factors[:, 0, None, None, None], factors[:, 1, None, None, None]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean * bright).clamp(0, 1)
