"""Fixed first layers: image gradients instead of colour, or plain RGB on the same grid.

Clustering raw colours is an easy way to satisfy the objective and a useless one (supplement, section 4.2), so the
method looks at the two derivatives of the grey image and never at colour.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SOBEL_KERNELS = (
    ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),  # horizontal derivative: left minus right
    ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),  # vertical derivative: above minus below
)


class Stem(nn.Module):
    """Normalise, pad with the mean colour, and for ``"sobel"`` take the gradients of the grey image.

    On the grid of 226, DeeperCluster's, (b, 3, h, w), float in [0, 1] or uint8, becomes (b, 2, h + 2, w + 2) for
    ``"sobel"`` and (b, 3, h + 2, w + 2) for ``"rgb"``: both run on the same grid, 226 pixels for an input of 224.
    Padding is 2 before the unpadded 3x3 Sobel, or 1 without it. On that of 224, DeepCluster-v1's, each is one pixel
    less on every side. ``"folded"`` keeps colour and pads for a 5x5 first convolution that has Sobel inside it.
    Nothing here is trained. Grey is the plain mean of the three normalised channels, not luma.

    Source: released code, src/model_factory.py; DeepCluster's, models/vgg16.py.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: Literal["sobel", "rgb", "folded"], grid: Literal[226, 224] = 226) -> None:
        super().__init__()
        self.kind = kind
        self.padding = (grid == 226) + (kind != "rgb")
        self.out_channels = 2 if kind == "sobel" else 3
        # constants, so not part of the saved weights
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        normalised = normalise(images, self.mean, self.std)
        if self.kind != "sobel":
            return F.pad(normalised, (self.padding,) * 4)
        grey = (normalised[:, :1] + normalised[:, 1:2] + normalised[:, 2:]) / 3
        return sobel(F.pad(grey, (self.padding,) * 4))


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """``(images - mean) / std`` of images (b, 3, h, w), float in [0, 1] or uint8, in their own layout.

    ``mean`` and ``std`` are (1, 3, 1, 1). Bytes are a quarter of the memory until here, and on the way to a device.
    """
    own = images.float().div_(255) if images.dtype == torch.uint8 else images.clone()
    pixels = own.permute(0, 2, 3, 1)
    if pixels.is_contiguous():
        # by whole rows of an image, for a CPU takes ten times as long for three numbers at a time
        row_mean, row_std = (values.flatten().repeat(images.shape[3]) for values in (mean, std))
        pixels.flatten(2).sub_(row_mean).div_(row_std)
    else:
        own.sub_(mean).div_(std)
    return own


def sobel(grey: Tensor) -> Tensor:
    """Horizontal and vertical derivative of images (b, 1, h, w): (b, 2, h - 2, w - 2), SOBEL_KERNELS at every place.

    A difference in one direction and 1, 2, 1 in the other: many times faster than a convolution with one channel.
    """
    across = grey[:, :, :, :-2] - grey[:, :, :, 2:]
    down = grey[:, :, :-2] - grey[:, :, 2:]
    horizontal = across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]
    vertical = down[:, :, :, :-2] + 2 * down[:, :, :, 1:-1] + down[:, :, :, 2:]
    return torch.cat([horizontal, vertical], dim=1)
