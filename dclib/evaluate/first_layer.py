"""Figure 4: what Sobel leaves of an image, and what the first layer with Sobel folded into it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dclib.data.transforms import to_tensor
from dclib.models.folding import fold_sobel
from dclib.models.vgg import Trunk

LONGEST_SIDE = 512  # larger photographs are shrunk to this


@dataclass(frozen=True)
class FirstLayer:
    """One image behind Sobel, and in the first convolution before batch norm.

    Attributes:
        gradients: (2, h, w), horizontal and vertical derivative of the normalised grey image.
        responses: (m, h, w), of the m filters that respond most strongly, folded network.
        filters: (m, 3, 5, 5), those filters as they see colour.
        chosen: Their numbers.
        difference: Largest difference between the responses of the folded and the unfolded network.
        scale: Largest response, to set the difference against.
    """

    gradients: NDArray[np.float32]
    responses: NDArray[np.float32]
    filters: NDArray[np.float32]
    chosen: tuple[int, ...]
    difference: float
    scale: float


@torch.no_grad()
def look_through(trunk: Trunk, image: Image.Image, *, n_filters: int = 4) -> FirstLayer:
    """Put an image of any size through Sobel and through the folded first convolution.

    Raises:
        ValueError: the network is not behind a Sobel stem.
    """
    folded = fold_sobel(trunk)
    image = image.copy()
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    device = next(trunk.parameters()).device
    pixels = to_tensor(image).unsqueeze(0).float().to(device) / 255
    gradients = trunk.stem(pixels)
    seen, unfolded = folded.features[0](folded.stem(pixels)), trunk.features[0](gradients)
    strongest = seen[0].flatten(1).std(dim=1).argsort(descending=True)[:n_filters]
    return FirstLayer(
        gradients=gradients[0].cpu().numpy(),
        responses=seen[0, strongest].cpu().numpy(),
        filters=folded.state_dict()["features.0.weight"][strongest].cpu().numpy(),
        chosen=tuple(strongest.tolist()),
        difference=float((seen - unfolded).abs().max()),
        scale=float(seen.abs().max()),
    )
