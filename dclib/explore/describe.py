"""What stands for a photograph when it is compared with others: maps from the middle of a network, and colours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dclib.data.pixels import Pixels
from dclib.models.device import send
from dclib.models.vgg import Trunk

# convolutions whose maps are averaged: in Table 1 the middle layers hold most of what classes are about, the last ones
# of networks that have not learned for long hold less than colours do
LAYERS = (5, 8, 11)
COLOUR_GRID = 4  # squares a side whose mean colours go beside them, for the network behind its Sobel filter sees none
BATCH = 256


@torch.no_grad()
def describe_images(trunk: Trunk, pixels: Pixels) -> Tensor:
    """Descriptors of all images, (n, d) float32: mean maps of LAYERS, then mean colours of a grid in [0, 1].

    Args:
        trunk: In evaluation mode.
    """
    device = next(trunk.parameters()).device
    parts = []
    for batch in pixels.centre_batches(BATCH):
        maps = trunk.conv_activations(send(batch, device, torch.channels_last))
        means = [one.float().mean(dim=(2, 3)).cpu() for number, one in enumerate(maps, 1) if number in LAYERS]
        parts.append(torch.cat([*means, mean_colours(batch, COLOUR_GRID)], dim=1))
    return torch.cat(parts)


def mean_colours(images: Tensor, grid: int) -> Tensor:
    """(b, 3, h, w) uint8 to the mean colours of a grid, (b, 3 * grid^2) in [0, 1]."""
    return F.adaptive_avg_pool2d(images.float() / 255, grid).flatten(1)


def part_sizes(trunk: Trunk) -> list[int]:
    """Columns of each part of a descriptor."""
    convolutions = [module for module in trunk.features if isinstance(module, torch.nn.Conv2d)]
    return [*(convolutions[number - 1].out_channels for number in LAYERS), 3 * COLOUR_GRID**2]


def balanced(descriptors: Tensor, sizes: list[int]) -> Tensor:
    """What each column is multiplied by so that every part spreads as far, (d,), told from these descriptors (n, d)."""
    scales = []
    for part in descriptors.split(sizes, dim=1):
        spread = (part - part.mean(dim=0)).norm(dim=1).mean()
        scales.append(torch.full((part.shape[1],), 1 / max(float(spread), 1e-12)))
    return torch.cat(scales)
