"""Figure 4: what Sobel leaves of an image, and what the first layer with Sobel folded into it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dclib.config import Preset
from dclib.data.transforms import to_tensor
from dclib.evaluate.networks import trained_network
from dclib.models.folding import fold_sobel
from dclib.models.vgg import Trunk
from dclib.presets import edition, shown_folder
from dclib.records import replacing

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


def look_at_images(preset: Preset, method: str, seed: int, images: Sequence[Image.Image]) -> list[FirstLayer]:
    """What the first layer of one trained network sees of some images, kept with the run's pictures.

    Where published results are shown it is read from there; empty where nothing of this network was published.
    """
    path = shown_folder(preset.name) / "pictures" / f"first-layer-{method}-s{seed}.npz"
    if edition() is not None:
        return _read_layers(path, len(images)) if path.is_file() else []
    trunk = trained_network(preset, method, seed)
    seen = [look_through(trunk, image) for image in images]
    with replacing(path) as file:
        arrays = {f"{name}_{i}": value for i, layer in enumerate(seen) for name, value in asdict(layer).items()}
        np.savez_compressed(file, **arrays)
    return seen


def _read_layers(path: Path, count: int) -> list[FirstLayer]:
    with np.load(path, allow_pickle=False) as kept:
        return [
            FirstLayer(
                gradients=kept[f"gradients_{i}"],
                responses=kept[f"responses_{i}"],
                filters=kept[f"filters_{i}"],
                chosen=tuple(kept[f"chosen_{i}"].tolist()),
                difference=float(kept[f"difference_{i}"]),
                scale=float(kept[f"scale_{i}"]),
            )
            for i in range(count)
        ]


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
