"""What the methods that compare several crops of an image share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """Crops of an image, and the vector that each becomes."""

    crops: int = 2  # of the network's size
    large_area: float = 0.14  # smallest share of an image that such a crop shows
    small_crops: int = 0  # more crops, of a smaller size, which cost their pixels
    small_side: int = 96  # side of these, pixels
    small_area: float = 0.05  # smallest share of an image that these show; the largest is large_area
    light: float = 0.4  # brightness and contrast of each crop change by at most this share
    hidden: int = 2048  # units between the features and the vector
    dim: int = 128  # numbers of the vector
    temperature: float = 0.1  # that similarities are divided by

    def __post_init__(self) -> None:
        if self.crops < 1 or self.small_crops < 0 or min(self.hidden, self.dim) < 1:
            raise ValueError(f"need crops, hidden and dim >= 1 and small_crops >= 0; got {self}")
        if not 0 < self.small_area <= self.large_area < 1:
            raise ValueError(f"need 0 < small_area <= large_area < 1; got {self.small_area} and {self.large_area}")
        if self.small_crops and self.small_side < 32:
            raise ValueError(f"need small_side >= 32, so that five poolings leave a pixel; got {self.small_side}")
        if not 0 <= self.light < 1 or self.temperature <= 0:
            raise ValueError(f"need light in [0, 1) and temperature > 0; got {self.light} and {self.temperature}")


def crop_views(config: Any) -> tuple[int, ...]:
    """Sides of all crops."""
    settings: CropSettings = config.task
    side: int = config.model.image_size
    return (side,) * settings.crops + (settings.small_side,) * settings.small_crops


def projection_size(config: Any, prototypes: int) -> tuple[int, int]:
    """Weights of the projection and of so many prototypes, and FLOPs of an image forward."""
    d, s = config.model.feature_dim, config.task
    weights = (d + 3) * s.hidden + (s.hidden + 1) * s.dim + prototypes * s.dim
    return weights, 2 * len(crop_views(config)) * (d * s.hidden + s.hidden * s.dim + prototypes * s.dim)
