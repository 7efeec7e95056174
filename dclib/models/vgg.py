"""VGG-16 with batch normalisation, in the geometry of the released code, at any width and input size."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclib.config import ModelConfig
from dclib.models.batch_norm import BatchNorm2d
from dclib.models.layers import Conv2d, Linear
from dclib.models.sobel import Stem

# channels of the 13 convolutions at width 1; "M" is a 2x2 max-pool
LAYERS: tuple[int | str, ...] = (
    *(64, 64, "M"),
    *(128, 128, "M"),
    *(256, 256, 256, "M"),
    *(512, 512, 512, "M"),
    *(512, 512, 512, "M"),
)
N_CONV = 13


class Trunk(nn.Module):
    """Images to features: stem, 13 convolutions, two fully connected layers.

    ``forward`` maps (b, 3, h, w) in [0, 1], h = w = ``config.image_size``, to (b, feature_dim): the output of the
    second fully connected layer *before* any non-linearity, which is what is clustered. Of images of another size the
    last map is averaged, or repeated, to the one that the fully connected layers know. At 224 pixels and width 1
    the maps are 226, 113, 56, 28, 14 and, after the last pool, 7 pixels wide, or 224, 112, ... on DeepCluster-v1's
    grid. The first convolution is 5x5 where Sobel is folded into it, else 3x3 as all others. There is one dropout,
    between the fully connected layers. Module names and indices are those of the released weights (``features.0`` ...
    ``classifier.3``).

    Source: supplement, section 5 (VGG-16, Sobel); released code, src/model/vgg16.py and model_factory.py.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config.stem, config.grid)
        first_kernel = 5 if config.stem == "folded" else 3
        self.features = nn.Sequential(*_convolutions(self.stem.out_channels, config.width, first_kernel))
        self.side = (config.image_size + config.grid - 224) // 2**5
        flat = scaled_channels(512, config.width) * self.side**2
        self.classifier = nn.Sequential(
            Linear(flat, config.hidden_dim),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            Linear(config.hidden_dim, config.feature_dim),
        )
        initialise(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.features(self.stem(images))
        if maps.shape[-1] != self.side:  # a view of another size, at least 32 pixels
            maps = F.adaptive_avg_pool2d(maps, self.side)
        features: Tensor = self.classifier(maps.flatten(1))
        return features

    def conv_activations(self, images: Tensor) -> Iterator[Tensor]:
        """Output of each of the 13 ReLUs, (b, c_i, h_i, w_i), shallow to deep, as it is made.

        A map that its taker lets go of is freed once the next convolution has seen it: all 13 together are 55 MB for
        each image of 224 pixels.
        """
        x = self.stem(images)
        for module in self.features:
            x = module(x)
            if isinstance(module, nn.ReLU):
                yield x


def scaled_channels(channels: int, width: float) -> int:
    """Channels of a layer at a given width, at least one."""
    return max(1, round(channels * width))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew: convolutions N(0, 2 / fan_out) with zero bias, linear layers as PyTorch's default.

    Source: released code, src/model/vgg16.py; for linear layers the uniform law of nn.Linear, drawn from
    ``generator`` instead of the global one.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out), generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def _convolutions(in_channels: int, width: float, first_kernel: int) -> list[nn.Module]:
    modules: list[nn.Module] = []
    kernel = first_kernel
    for layer in LAYERS:
        if isinstance(layer, str):
            modules.append(nn.MaxPool2d(kernel_size=2, stride=2))
            continue
        out_channels = scaled_channels(layer, width)
        convolution = Conv2d(in_channels, out_channels, kernel_size=kernel, padding=1)
        modules += [convolution, BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
        in_channels, kernel = out_channels, 3
    return modules
