"""A trained trunk's convolutions under new fully connected layers: what VOC classification and fine-tuning train."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from dclib.models.layers import Linear
from dclib.models.vgg import Trunk

FC_STD, FC_BIAS = 0.01, 0.1  # law of the new fully connected layers...
PAPER_FAN_IN = (512 * 7 * 7, 4096, 4096)  # ... at these numbers of inputs of fc6, fc7 and fc8


class Classifier(nn.Module):
    """Stem and convolutions of a trunk, then fc6, ReLU, dropout, fc7, ReLU, fc8.

    ``forward`` maps (b, 3, h, w) in [0, 1] to logits (b, n_classes). The trunk's own fully connected layers are not
    used, only their sizes; its convolutions are copied. New layers have weights N(0, 0.01) and bias 0.1 at the
    paper's sizes; a layer of fewer inputs has wider weights in proportion to the root, so that what comes through
    is of the same size. With ``plain_last`` fc8 has PyTorch's default instead.

    Source: released code, eval_voc_classif.py and eval_pretrain.py.
    """

    def __init__(
        self, trunk: Trunk, n_classes: int, dropout: float, generator: torch.Generator, *, plain_last: bool = False
    ) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.stem, self.features = copy.deepcopy(trunk.stem), copy.deepcopy(trunk.features)
        fc6, fc7 = (layer for layer in trunk.classifier if isinstance(layer, nn.Linear))
        layers = [
            Linear(fc6.in_features, fc6.out_features),
            Linear(fc7.in_features, fc7.out_features),
            Linear(fc7.out_features, n_classes),
        ]
        for layer, fan_in in zip(layers[: 2 if plain_last else 3], PAPER_FAN_IN, strict=False):
            std = FC_STD * math.sqrt(fan_in / layer.in_features)
            nn.init.normal_(layer.weight, 0.0, std, generator=generator)
            nn.init.constant_(layer.bias, FC_BIAS)
        if plain_last:
            bound = 1.0 / math.sqrt(layers[2].in_features)
            nn.init.uniform_(layers[2].weight, -bound, bound, generator=generator)
            nn.init.uniform_(layers[2].bias, -bound, bound, generator=generator)
        relu = nn.ReLU(inplace=True)
        self.classifier = nn.Sequential(layers[0], relu, nn.Dropout(dropout), layers[1], relu, layers[2])
        self.to(next(trunk.parameters()).device)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.convolve(images))
        return logits

    def convolve(self, images: Tensor) -> Tensor:
        """The last pooled map, flattened: (b, c * h * w)."""
        maps: Tensor = self.features(self.stem(images))
        return maps.flatten(1)
