"""Sobel folded into the first convolution, so that a network trained on gradients can go on with colour."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dclib.models.sobel import SOBEL_KERNELS
from dclib.models.vgg import Trunk


@torch.no_grad()
def fold_sobel(trunk: Trunk) -> Trunk:
    """A new network of colour that computes what ``trunk`` computes through its Sobel stem.

    Grey, Sobel and the first 3x3 convolution are linear, so that together they are one 5x5 convolution of the
    normalised colours, with the same bias: 25 taps, equal for the three channels until they are trained. On the
    grid of 226 the two networks agree everywhere up to rounding, since outside its map the Sobel response is that
    of padding, zero, as is the convolution's own padding. On the grid of 224 (DeepCluster-v1), where Sobel pads
    with the mean colour and its response there is not zero, they agree in the interior of conv1's map and differ
    on its outermost ring, and further down on all that the ring reaches.

    Returns:
        A trunk on the same device and in the same mode, ``config.stem`` being ``"folded"``; ``trunk`` is not changed.

    Raises:
        ValueError: the network does not begin with Sobel, so there is nothing to fold.

    Source: supplement, section 3, and released code, src/model_factory.py, which fills 9 of the 25 taps only.
    """
    if trunk.config.stem != "sobel":
        raise ValueError(
            f"need a network behind a Sobel stem to fold; this one has stem {trunk.config.stem!r} and sees colour"
        )
    parameter = next(trunk.parameters())
    # the generator's draws are overwritten: every weight comes from the given network
    folded = Trunk(replace(trunk.config, stem="folded"), torch.Generator()).to(parameter.device, parameter.dtype)
    weights = trunk.state_dict()
    weights["features.0.weight"] = fold_kernel(weights["features.0.weight"])
    folded.load_state_dict(weights)
    return folded.to(memory_format=torch.channels_last).train(trunk.training)


def fold_kernel(kernel: Tensor) -> Tensor:
    """A convolution of the two Sobel channels (o, 2, 3, 3) as one of the three colours (o, 3, 5, 5).

    K[o, :, p, q] is a third of the sum over both channels of kernel * Sobel, a full convolution of the two.
    """
    sobel = kernel.new_tensor(SOBEL_KERNELS).unsqueeze(0)  # (1, 2, 3, 3)
    # conv2d correlates; flipping one factor makes it the full convolution of correlation kernels
    combined = F.conv2d(kernel, sobel.flip(-1, -2), padding=2)
    return (combined / 3).expand(-1, 3, -1, -1).contiguous()
