"""A network's size from its settings alone: parameters, floating-point operations, and what a training step keeps."""

from __future__ import annotations

from dataclasses import dataclass

from dclib.config import MethodConfig, ModelConfig
from dclib.methods import OUTLINES

FLOAT, LONG = 4, 8  # bytes
MAP_BYTES = {"float32": 4, "bfloat16": 2}  # of a number in maps and features, by train.precision
# channels of the convolutions at width 1 and where maps are halved: those of models.vgg, which needs torch
LAYERS: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", *(256,) * 3, "M", *(512,) * 3, "M", *(512,) * 3, "M")


@dataclass(frozen=True)
class NetworkSize:
    """The trunk. FLOPs are of one image forward, two for each multiplication with its addition.

    The stem's are not counted: its few sums per pixel take the time of their memory, as other element-wise work.
    """

    parameters: int
    first_flops: int  # of the first convolution, whose input needs no gradient
    conv_flops: int  # of all 13
    linear_flops: int  # of the two fully connected layers
    maps_bytes: int  # of the 13 maps behind the ReLUs, one image
    largest_map_bytes: int
    kept_bytes: int  # that a training step keeps of one image for its way back

    @property
    def forward_flops(self) -> int:
        return self.conv_flops + self.linear_flops

    @property
    def training_flops(self) -> int:
        """Forward, and back by inputs and by weights."""
        return 3 * (self.conv_flops + self.linear_flops) - self.first_flops


def network_size(model: ModelConfig, precision: str = "float32") -> NetworkSize:
    """Count the trunk that ``model`` describes, with maps in ``precision``; the copies of weights in it come on top."""
    number = MAP_BYTES[precision]
    side, inputs, first = model.image_size + model.grid - 224, 2 if model.stem == "sobel" else 3, True
    parameters = conv_flops = first_flops = maps = largest = 0
    stem_side = side + 2 if model.stem == "folded" else side  # padded once more, for a filter of 5 x 5
    kept = number * inputs * stem_side**2  # what the first convolution sees
    for layer in LAYERS:
        if isinstance(layer, str):
            side //= 2
            kept += (number + LONG) * inputs * side**2  # the pooled map, and where its values came from
            continue
        kernel, outputs = 5 if first and model.stem == "folded" else 3, max(1, round(layer * model.width))
        parameters += kernel**2 * inputs * outputs + 3 * outputs  # a bias, and batch normalisation's two
        flops = 2 * kernel**2 * inputs * outputs * side**2
        conv_flops, first_flops = conv_flops + flops, flops if first else first_flops
        map_bytes = number * outputs * side**2
        maps, largest = maps + map_bytes, max(largest, map_bytes)
        kept += 2 * map_bytes  # before batch normalisation, and behind the ReLU
        inputs, first = outputs, False
    flat, hidden, features = inputs * side**2, model.hidden_dim, model.feature_dim
    return NetworkSize(
        parameters=parameters + (flat + 1) * hidden + (hidden + 1) * features,
        first_flops=first_flops,
        conv_flops=conv_flops,
        linear_flops=2 * (flat * hidden + hidden * features),
        maps_bytes=maps,
        largest_map_bytes=largest,
        kept_bytes=kept + number * (2 * hidden + features) + (hidden if model.dropout else 0),
    )


@dataclass(frozen=True)
class HeadsSize:
    """The heads of all super-classes, before anything is placed."""

    n_super_classes: int  # S
    n_sub_classes: int  # k, of each
    super_parameters: int
    sub_parameters: int  # of one super-class
    flops: int  # of one pass forward, which goes through the head of its super-class alone


def heads_size(config: MethodConfig, n_classes: int) -> HeadsSize:
    """Count the heads of a method; ``n_classes`` is the number of labels of the supervised reference."""
    if (own := OUTLINES[config.method].head) is not None:
        parameters, flops = own(config)
        return HeadsSize(1, 1, 0, parameters, round(flops / config.passes))
    s = config.n_turns * (config.cluster.n_super if config.clusters else 1)
    k = config.cluster.n_sub if config.clusters else n_classes if config.method == "supervised" else 1
    d = config.model.feature_dim
    asked = (s if s > 1 else 0) + (k if k > 1 else 0)  # a head with a single class costs nothing
    return HeadsSize(s, k, s * (d + 1), k * (d + 1), 2 * d * asked)
